"""What the probes of a calibration did: the truth that the views are held against."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.rows import column


@dataclass(frozen=True, slots=True)
class TruthRow:
    """A row of ``truth.csv``: a level of memory that a probe held, beyond its own baseline.

    Only in the directories of ``harness calibrate``.
    """

    probe: str = column("the probe, which is also the run's ID")
    step: str = column("what it did")
    start_mono_ns: int = column("CLOCK_MONOTONIC when the level was reached")
    end_mono_ns: int = column("CLOCK_MONOTONIC when it was left")
    size_bytes: int = column("bytes that the probe holds")
    page_table_bytes: int = column("page tables for them, by VmPTE; the kernel charges them too")
    processes: int = column("processes that map them")
