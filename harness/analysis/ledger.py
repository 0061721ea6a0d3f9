"""Where the memory went: each service's ledger at a mark, net of its own baseline."""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass

from harness.results.directory import RunDirectory
from harness.results.marks import AFTER_START, BASELINE_END, RUN_END, TRIMMED
from harness.results.memory import SCOPE_CONTAINER, LedgerRow
from harness.results.rows import read_rows

PARTS = ("usage_bytes", "anon_bytes", "shmem_bytes", "file_bytes", "kernel_bytes", "sock_bytes")


@dataclass(frozen=True)
class ServiceLedger:
    """One service, or the topology, under one mode: medians over its runs, net of the baseline.

    Bytes; None where a part was not read. ``usage`` is the sum of the others.

    Attributes:
        service: the service, or ``topology``.
        parts: at the end of the run, before any clean-up.
        after_bytes: usage after the mode's clean-up, as it is.
        trimmed_bytes: usage once every process has given back what is free.
        pss_trimmed_bytes: proportional set sizes then.
    """

    service: str
    parts: dict[str, float | None]
    after_bytes: float | None
    trimmed_bytes: float | None
    pss_trimmed_bytes: float | None


def read_ledger(directory: RunDirectory) -> dict[tuple[str, str, str], LedgerRow]:
    """Return the rows of services and topology by run, mark and name."""
    if not directory.ledger.exists():
        return {}
    return {
        (row.run_id, row.mark, row.name): row
        for row in read_rows(directory.ledger, LedgerRow)
        if row.scope != SCOPE_CONTAINER
    }


def service_ledgers(
    ledger: dict[tuple[str, str, str], LedgerRow], run_ids: Collection[str]
) -> dict[str, ServiceLedger]:
    """Return each service's ledger over some runs, by its name."""
    names = dict.fromkeys(name for run_id, _, name in ledger if run_id in run_ids)

    def net(name: str, mark: str, column: str) -> float | None:
        differences = []
        for run_id in run_ids:
            now = ledger.get((run_id, mark, name))
            before = ledger.get((run_id, BASELINE_END, name))
            values = [getattr(row, column) for row in (now, before) if row is not None]
            if len(values) == 2 and None not in values:
                differences.append(values[0] - values[1])
        return statistics.median(differences) if differences else None

    return {
        name: ServiceLedger(
            service=name,
            parts={column: net(name, RUN_END, column) for column in PARTS},
            after_bytes=net(name, AFTER_START, "usage_bytes"),
            trimmed_bytes=net(name, TRIMMED, "usage_bytes"),
            pss_trimmed_bytes=net(name, TRIMMED, "pss_bytes"),
        )
        for name in names
    }
