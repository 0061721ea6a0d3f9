"""Comparisons as a table of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.compare import Row, Unit
from harness.analysis.statistics import Spread
from harness.analysis.verdicts import Comparison, Verdict
from harness.core.sizes import format_size
from harness.report.contents import NOTHING, Cell, Table, between


def comparisons(title: str, rows: Sequence[tuple[str, Row]], note: str = "") -> Table:
    """Return a row for each comparison.

    Args:
        title: above the table.
        rows: what is compared, and how it came out.
        note: below the table.
    """
    return Table(
        "comparisons",
        title,
        (
            "mode",
            "metric",
            " A",
            " B",
            " change",
            " 95 % CI of B - A",
            " p",
            " detectable",
            "verdict",
        ),
        tuple(_comparison(label, row) for label, row in rows),
        note,
    )


COMPARISON_NOTE = (
    "Medians with their 95 % confidence intervals (bootstrap). p: Mann-Whitney; of runs that took"
    " turns, Wilcoxon (w), and the change is the median of the pairs' changes. Detectable: the"
    " smallest difference that so many runs show in 4 of 5 comparisons. Less is better."
)


def _comparison(label: str, row: Row) -> tuple[str | Cell, ...]:
    found, unit = row.comparison, row.metric.unit
    if found is None:
        return (label, row.metric.label, *([NOTHING] * 6), Verdict.NOT_ENOUGH_DATA.value)
    interval = NOTHING
    if found.low is not None and found.high is not None:
        interval = between(_signed(found.low, unit), _signed(found.high, unit))
    return (
        label,
        row.metric.label,
        _spread(found.a, unit),
        _spread(found.b, unit),
        _change(found, unit),
        interval,
        f"{found.test.p:.2g}{' w' if found.paired else ''}",
        _detectable(found, unit),
        found.verdict.value,
    )


def _change(found: Comparison, unit: Unit) -> str:
    if found.change is None:
        return _signed(found.difference, unit)
    return f"{found.change:+.1%}".replace("%", " %")


def _detectable(found: Comparison, unit: Unit) -> Cell:
    if found.detectable is None:
        return Cell(NOTHING)
    size = quantity(found.detectable, unit)
    if found.change is None:
        return Cell(size)
    return Cell(f"{found.detectable / found.a.median:.1%}".replace("%", " %"), size)


def _spread(sample: Spread, unit: Unit) -> Cell:
    small = ""
    if sample.low is not None and sample.high is not None and sample.low != sample.high:
        small = between(quantity(sample.low, unit), quantity(sample.high, unit))
    return Cell(quantity(sample.median, unit), small)


def quantity(value: float, unit: Unit) -> str:
    """Return a metric's value with its unit."""
    if unit is Unit.BYTES:
        return format_size(value)
    if unit is Unit.BYTE_SECONDS:
        return f"{format_size(value)} s"
    return f"{value:.3f} s" if unit is Unit.SECONDS else f"{value:.3f}"


def _signed(value: float, unit: Unit) -> str:
    return f"+{quantity(value, unit)}" if value > 0 else quantity(value, unit)


def runs_needed(rows: Sequence[Row], alpha: float) -> str:
    """Return a line about sides that have too few runs for any verdict, or nothing."""
    for row in rows:
        side = row.comparison
        if side is not None and side.test.least_p > alpha:
            counts = f"{len(side.a.values)} and {len(side.b.values)} runs"
            return (
                f"{row.mode}: with {counts} the test cannot go below p = {side.test.least_p:.2g},"
                f" whatever the runs say; {_enough(alpha)} of each can (--repeat)."
            )
    return ""


def _enough(alpha: float) -> int:
    """Return how many runs on either side the Mann-Whitney test needs for a verdict."""
    runs = 1
    while 2 / math.comb(2 * runs, runs) > alpha:
        runs += 1
    return runs
