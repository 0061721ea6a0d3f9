"""Which CLOCK_MONOTONIC a process has, and the one that a topology's times are on.

All times of a topology are on one clock, the *reference*: that of the node its runner is on. A
process on another node adds what home has measured (``HARNESS_CLOCK``).
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "HARNESS_CLOCK"


def clock_id() -> str:
    """Return what two processes share if and only if they share CLOCK_MONOTONIC."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        return f"{boot} {os.readlink('/proc/self/ns/time')}"  # noqa: PTH115  # not a path
    except OSError:  # before Linux 5.6 there is one clock
        return boot


@dataclass(frozen=True, slots=True)
class Reference:
    """The clock that a topology's times are on, as another clock's owner knows it.

    Attributes:
        clock: its ``clock_id``; empty if it is this process's own.
        shift_ns: what to add to CLOCK_MONOTONIC here for CLOCK_MONOTONIC there.
        unix_minus_mono_ns: CLOCK_REALTIME less CLOCK_MONOTONIC there.
    """

    clock: str = ""
    shift_ns: int = 0
    unix_minus_mono_ns: int = 0

    def __str__(self) -> str:
        """Return it as the value of the variable."""
        return f"{self.shift_ns} {self.unix_minus_mono_ns} {self.clock}" if self.clock else ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what ``str`` made a text of; one's own clock for anything else."""
        shift, _, rest = text.partition(" ")
        unix, _, clock = rest.partition(" ")
        try:
            return cls(clock, int(shift), int(unix)) if clock else cls()
        except ValueError:
            return cls()

    def now(self) -> tuple[int, int]:
        """Return CLOCK_MONOTONIC and CLOCK_REALTIME there, in nanoseconds."""
        if not self.clock:
            return time.monotonic_ns(), time.time_ns()
        mono_ns = time.monotonic_ns() + self.shift_ns
        return mono_ns, mono_ns + self.unix_minus_mono_ns

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC there, in nanoseconds."""
        return time.monotonic_ns() + self.shift_ns


@functools.cache
def reference() -> Reference:
    """Return the reference of the topology that this process is in."""
    return Reference.parse(os.environ.get(VARIABLE, ""))
