"""Comparisons as a table of text, Markdown, JSON or JUnit XML."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from tabulate import tabulate

from harness.analysis.compare import Row, SessionComparison, Unit
from harness.analysis.statistics import Spread
from harness.analysis.verdicts import Comparison, Verdict
from harness.core.text import format_size
from harness.report.tables import NOTHING, Cell, Table, as_text, between


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


def comparison_json(row: Row) -> dict[str, Any]:
    """Return one comparison as plain data."""
    found = row.comparison
    return {
        "mode_a": row.mode_a,
        "mode_b": row.mode_b,
        "metric": row.metric.name,
        "unit": row.metric.unit.value,
        "verdict": found.verdict.value if found else "not enough data",
        **(_figures(found) if found else {}),
    }


def _figures(found: Comparison) -> dict[str, Any]:
    return {
        "a": asdict(found.a),
        "b": asdict(found.b),
        "difference": found.difference,
        "change": found.change,
        "low": found.low,
        "high": found.high,
        "test": asdict(found.test),
        "paired": found.paired,
        "detectable": found.detectable,
        "matters": found.matters,
    }


SCHEMA_VERSION = 1

_MARKS = {
    Verdict.BETTER.value: "\N{WHITE HEAVY CHECK MARK} better",
    Verdict.WORSE.value: "\N{CROSS MARK} worse",
    Verdict.INDISTINGUISHABLE.value: "= indistinguishable",
    Verdict.NOT_ENOUGH_DATA.value: "? not enough data",
}


def headline(found: SessionComparison) -> str:
    """Return how many rows have which verdict, the bad news first."""
    counts = Counter(verdict_of(row) for row in found.rows)
    order = (
        Verdict.WORSE,
        Verdict.BETTER,
        Verdict.INDISTINGUISHABLE,
        Verdict.NOT_ENOUGH_DATA,
    )
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in order if counts[verdict]]
    parts += [f"{len(found.regressions)} failing"] if found.regressions else []
    return f"{', '.join(parts)} (threshold {found.rules.threshold * 100:.4g} %)"


def verdict_of(row: Row) -> Verdict:
    """Return a row's verdict; without values there is not enough data."""
    return row.comparison.verdict if row.comparison else Verdict.NOT_ENOUGH_DATA


def _table(found: SessionComparison) -> Table:
    return comparisons(
        f"{found.b.name} (B) beside {found.a.name} (A)",
        [(row.mode, row) for row in found.rows],
        COMPARISON_NOTE,
    )


def as_table(found: SessionComparison) -> str:
    """Return the comparison for a terminal."""
    lines = [as_text(_table(found)), ""]
    lines += [f"different: {difference}" for difference in found.differences]
    lines += [f"failing: {line}" for line in found.regressions]
    needed = runs_needed(found.rows, found.rules.alpha)
    lines += [needed] if needed else []
    return "\n".join([*lines, headline(found)])


def as_markdown(found: SessionComparison) -> str:
    """Return the comparison for a pull request's comment."""
    table = _table(found)
    rows = [[*map(str, row[:-1]), _MARKS[str(row[-1])]] for row in table.rows]
    body = tabulate(
        rows,
        headers=[title.strip() for title in table.header],
        tablefmt="github",
        disable_numparse=True,
        colalign=["right" if right else "left" for right in table.right] if rows else None,
    )
    needed = runs_needed(found.rows, found.rules.alpha)
    more = [
        *([f"**Failing runs**: {'; '.join(found.regressions)}"] if found.regressions else []),
        *([needed] if needed else []),
        *([_differences_list(found)] if found.differences else []),
        f"<sub>A: `{found.a.name}`, B: `{found.b.name}`. {table.note}</sub>",
    ]
    return "\n\n".join([f"### Memory and makespan: {headline(found)}", body, *more])


def _differences_list(found: SessionComparison) -> str:
    lines = [f"- {d.what}: `{d.a}` and `{d.b}`" for d in found.differences]
    return "\n".join(
        [
            "<details><summary>What differs beside the figures</summary>",
            "",
            *lines,
            "",
            "</details>",
        ]
    )


def as_json(found: SessionComparison) -> str:
    """Return the comparison for programs."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "a": str(found.a.path),
        "b": str(found.b.path),
        "threshold": found.rules.threshold,
        "alpha": found.rules.alpha,
        "worse": found.worse,
        "differences": [
            {"what": d.what, "a": d.a, "b": d.b, "severity": d.severity.value}
            for d in found.differences
        ],
        "failing": list(found.regressions),
        "rows": [comparison_json(row) for row in found.rows],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def as_junit(found: SessionComparison) -> str:
    """Return the comparison as test results: worse is a failure, no verdict is skipped."""
    suite = ElementTree.Element("testsuite", name="harness compare")
    for row, cells in zip(found.rows, _table(found).rows, strict=True):
        case = ElementTree.SubElement(
            suite, "testcase", classname=row.mode, name=row.metric.label, time="0"
        )
        verdict = verdict_of(row)
        said = f"{verdict.value}: {cells[2]} before, {cells[3]} now ({cells[4]})"
        if verdict is Verdict.WORSE:
            ElementTree.SubElement(case, "failure", message=said)
        elif verdict is Verdict.NOT_ENOUGH_DATA:
            ElementTree.SubElement(case, "skipped", message=said)
        else:
            ElementTree.SubElement(case, "system-out").text = said
    for line in found.regressions:
        case = ElementTree.SubElement(
            suite, "testcase", classname=line.partition(":")[0], name="outcome", time="0"
        )
        ElementTree.SubElement(case, "failure", message=line)
    tags = ("failure", "skipped")
    failures, skipped = (str(sum(1 for _ in suite.iter(tag))) for tag in tags)
    suite.attrib |= {"tests": str(len(suite)), "failures": failures, "skipped": skipped}
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


FORMATS: dict[str, Callable[[SessionComparison], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
}
