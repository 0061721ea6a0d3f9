"""Predicted against measured: what the connector must hold from the flags, and what it held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.analysis.session import Session

Row = dict[str, Any]
_MOST_FRAME = 16
"""Bytes before an object, at most."""


@dataclass(frozen=True)
class Comparison:
    """One predicted and one measured figure, in bytes; the worst of the runs.

    Attributes:
        predicted_bytes: payload bytes, from the flags alone.
        measured_bytes: serialised bytes, asked of the storage.
        objects: how many objects these are; where there are payloads of no bytes, it holds what
            ProxyStore puts before each.
    """

    predicted_bytes: int
    measured_bytes: int
    objects: int = 0

    @property
    def off_percent(self) -> float | None:
        """Measured less predicted in percent of predicted; None if only the latter is 0."""
        if self.predicted_bytes == 0:
            return 0.0 if self.measured_bytes <= _MOST_FRAME * self.objects else None
        return 100 * (self.measured_bytes - self.predicted_bytes) / self.predicted_bytes


@dataclass(frozen=True)
class ModePrediction:
    """What one mode must hold in the connector, and did.

    Attributes:
        mode: the data management mode.
        at_end: when the clock stopped; None if no run ended.
        fullest: at the fullest stage boundary that was audited; None without audits.
        worst: the boundary that was furthest off; None without audits.
        audits: number of boundaries that were audited.
        completion: what the storage held when a task was done that was furthest off what it must
            and may hold; None where none was asked.
        completions: number of tasks at whose completion the storage was asked.
        objects_at_end: objects when the clock stopped, of the run with most; None if none ended.
        objects_left: objects after the clean-up, of the run with most; None if none ended.
        peak_bytes: the most the connector must hold at once.
        ideal_bytes: the least any implementation holds at its fullest boundary.
    """

    mode: str
    at_end: Comparison | None
    fullest: Comparison | None
    worst: Comparison | None
    audits: int
    objects_at_end: int | None
    objects_left: int | None
    peak_bytes: int
    ideal_bytes: int
    completion: Comparison | None = None
    completions: int = 0


def _furthest(comparisons: list[Comparison]) -> Comparison | None:
    if not comparisons:
        return None
    return max(
        comparisons,
        key=lambda c: float("inf") if c.off_percent is None else abs(c.off_percent),
    )


def predictions(session: Session) -> list[ModePrediction]:
    """Return a comparison for each mode, in the plan's order; nothing without predictions."""
    by_mode: dict[str, list[Row]] = {}
    for row in _rows(session, "predictions"):
        by_mode.setdefault(row["data_management"], []).append(row)
    objects, storage = _rows(session, "objects"), _rows(session, "storage")
    completions = _rows(session, "completions")
    return [
        _mode(
            mode,
            rows,
            [row for row in objects if row["data_management"] == mode],
            # A run's ID ends with its mode and its number.
            [r for r in storage if r["mark"] == "stage" and _mode_of(r["run_id"]) == mode],
            [r for r in completions if _mode_of(r["run_id"]) == mode],
        )
        for mode, rows in by_mode.items()
    ]


def _rows(session: Session, table: str) -> list[Row]:
    found = session.tables.get(table)
    return [] if found is None else list(found)


def _mode_of(run_id: str) -> str:
    """Return the mode of a run from its ID: ``0002-owned-proxy-1``, ``warm-up-1-of-0002-...``."""
    return run_id.rpartition("-of-")[2].partition("-")[2].rpartition("-")[0]


def _at_completion(row: Row) -> Comparison:
    """Compare with what it must hold, or may hold at most: whichever is nearer."""
    measured, least, most = row["size_bytes"], row["least_bytes"], row["most_bytes"]
    return Comparison(min(max(measured, least), most), measured, row["objects"])


def _mode(
    mode: str, rows: list[Row], ended: list[Row], audits: list[Row], completed: list[Row]
) -> ModePrediction:
    predicted = {(row["cycle"], row["stage"]): row["size_bytes"] for row in rows}
    boundaries = [
        Comparison(predicted[at], row["size_bytes"], row["objects"])
        for row in audits
        if (at := (row["cycle"] or 0, row["stage"] or 0)) in predicted
    ]
    return ModePrediction(
        mode=mode,
        at_end=_furthest(
            [
                Comparison(r["bytes_predicted"], r["bytes_at_end"], r["objects_at_end"])
                for r in ended
            ]
        ),
        fullest=max(boundaries, key=lambda c: c.predicted_bytes, default=None),
        worst=_furthest(boundaries),
        audits=len(boundaries),
        objects_at_end=max((row["objects_at_end"] for row in ended), default=None),
        objects_left=max((row["objects_left"] for row in ended), default=None),
        peak_bytes=max(row["peak_size_bytes"] or 0 for row in rows),
        ideal_bytes=max(row["ideal_bytes"] for row in rows),
        completion=_furthest([_at_completion(row) for row in completed]),
        completions=len(completed),
    )
