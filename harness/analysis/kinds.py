"""Which kinds of memory a service's peak is made of.

The kernel keeps no mark of a peak's parts, and reading them costs more than reading the use: the
samplers read them less often. So the parts of a peak are those of the fullest reading near it, and
what is told of them are shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KINDS: Mapping[str, tuple[str, ...]] = {
    "process memory": ("anon_bytes",),
    "page cache": ("file_bytes",),
    "shared memory": ("shmem_bytes",),
    "kernel memory": ("kernel_bytes", "sock_bytes"),
}
"""What people call the parts of the ledger, and the columns that hold them."""
COLUMNS = tuple(column for columns in KINDS.values() for column in columns)

_LEAST_NEAR_NS = 50_000_000


@dataclass(frozen=True)
class PartReadings:
    """The readings of one container that told its parts.

    Attributes:
        t_ns: their times, ascending.
        parts: bytes, one row for each reading, one column for each of ``KINDS``; what was not
            read is 0.
    """

    t_ns: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]

    def between(self, start_ns: int, end_ns: int) -> PartReadings:
        """Return the readings of a stretch of time."""
        first, last = np.searchsorted(self.t_ns, (start_ns, end_ns))
        return PartReadings(self.t_ns[first:last], self.parts[first:last])


def shares_at(
    readings: Sequence[PartReadings], t_ns: int, baseline: Mapping[str, float | None]
) -> dict[str, float]:
    """Return which share of a service's net use at a moment is of which kind.

    Args:
        readings: of each of the service's containers.
        t_ns: the moment: its peak.
        baseline: the service's row of the ledger at the start of the run.

    Returns:
        kind to share, which add up to 1; empty if a container was not read near the moment, or
        nothing was there beyond the baseline.
    """
    total = np.zeros(len(KINDS))
    for each in readings:
        if len(each.t_ns) < 2:
            return {}
        near = max(int(1.25 * float(np.median(np.diff(each.t_ns)))), _LEAST_NEAR_NS)
        first, last = np.searchsorted(each.t_ns, (t_ns - near, t_ns + near))
        if first == last:
            return {}
        rows = each.parts[first:last]
        total += rows[rows.sum(axis=1).argmax()]
    before = [sum(baseline.get(c) or 0.0 for c in columns) for columns in KINDS.values()]
    net = np.maximum(total - before, 0.0)
    if not readings or not net.sum() > 0:
        return {}
    return {
        kind: float(share) for kind, share in zip(KINDS, net / net.sum(), strict=True) if share > 0
    }
