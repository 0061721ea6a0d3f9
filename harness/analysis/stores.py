"""What an executor's own object stores had in use, beside what the kernel charges for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.figures import Group, Range, range_of
from harness.analysis.session import Row


@dataclass(frozen=True)
class StoresInUse:
    """All object stores of a topology together, over a mode's runs, in bytes.

    Attributes:
        most: most in use at once, less what was in use when the run started.
        at_end: in use when the run ended, less the same.
        shared: the kernel's shmem of all containers when the run ended, net: what was touched.
    """

    most: Range
    at_end: Range
    shared: Range | None


def stores_in_use(group: Group) -> StoresInUse | None:
    """Return the figures of a mode; None where no store was asked."""
    rows: dict[str, list[Row]] = {}
    for row in group.session.tables.get("object stores", ()):
        rows.setdefault(row["run_id"], []).append(row)
    series = [
        totals(rows[figures.run.run_id]) for figures in group.figures if figures.run.run_id in rows
    ]
    most = range_of(max(each) - each[0] for each in series)
    at_end = range_of(each[-1] - each[0] for each in series)
    if most is None or at_end is None:
        return None
    scope = group.topology
    return StoresInUse(most, at_end, scope.parts.get("shmem_bytes") if scope else None)


def totals(rows: Iterable[Row]) -> list[int]:
    """Return what all stores together had in use after each reading of a run.

    Args:
        rows: of one run, in order; the first reading of each store counts from the beginning.
    """
    rows = list(rows)
    last: dict[str, int] = {}
    for row in reversed(rows):
        last[row["host"]] = row["used_bytes"]
    found = []
    for row in rows:
        last[row["host"]] = row["used_bytes"]
        found.append(sum(last.values()))
    return found
