"""Comparisons as a table of text, Markdown, JSON or JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from xml.etree import ElementTree

from harness.analysis.compare import Row, SessionComparison, Steps, Unit
from harness.analysis.digits import seconds, three
from harness.analysis.identity import Package
from harness.analysis.series import TOPOLOGY
from harness.analysis.statistics import Spread
from harness.analysis.verdicts import ANSWERS, Comparison, Rules, Verdict
from harness.core.sizes import format_size
from harness.core.text import listed
from harness.report.export import markdown
from harness.report.tables import NOTHING, Cell, Table, as_text, between
from harness.report.terminal import PLAIN, Screen, paragraph

SCHEMA_VERSION = 2

_TITLES = ("mode", "metric", " A", " B", " change", " B - A", " p", "verdict")
NOTE = (
    "Less is better. A and B are medians. B - A is an interval: each end is wrong in at most 5 of"
    " 100 cases. p is the chance of such a difference where nothing differs, among the rows that"
    " are judged together: each service's by themselves. Among many services chance may change one."
    " docs/verdicts.md explains verdicts and the letters g and s."
)
_SAID = {
    Verdict.WORSE: "\N{CROSS MARK} worse",
    Verdict.BETTER: "\N{WHITE HEAVY CHECK MARK} better",
    Verdict.EQUIVALENT: "= equivalent",
    Verdict.TOO_SMALL: "~ too small to measure here",
    Verdict.UNDECIDED: "? undecided",
    Verdict.NOT_COMPARABLE: "- not comparable",
}


_MOST_PACKAGES = 6


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
        _TITLES,
        tuple(_comparison(label, row) for label, row in rows),
        note,
        ("p", "B - A"),
    )


def worth_showing(rows: Sequence[tuple[str, Row]]) -> list[tuple[str, Row]]:
    """Return the topology's rows, and of services those that became better or worse."""
    changed = (Verdict.BETTER, Verdict.WORSE)
    return [
        each
        for each in rows
        if each[1].scope == TOPOLOGY or each[1].primary or each[1].verdict in changed
    ]


def left_out(rows: Sequence[tuple[str, Row]]) -> str:
    """Return a line about the rows of services that are not shown, or nothing."""
    shown = {id(row) for _, row in worth_showing(rows)}
    counts = Counter(row.verdict.value for _, row in rows if id(row) not in shown)
    if not counts:
        return ""
    said = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    return f"Not shown of single services: {said}."


def _comparison(label: str, row: Row) -> tuple[str | Cell, ...]:
    found, unit = row.comparison, row.metric.unit
    verdict = Cell(row.verdict.value, "; ".join(filter(None, (row.needs, step_words(row)))))
    if found is None:
        return (label, row.label, *([NOTHING] * 5), verdict)
    interval = NOTHING
    if found.low is not None and found.high is not None:
        interval = between(_signed(found.low, unit), _signed(found.high, unit))
    return (
        label,
        row.label,
        _spread(found.a, unit),
        _spread(found.b, unit),
        Cell(_change(found, unit), _detectable(found, unit)),
        interval,
        _p(found),
        verdict,
    )


def _p(found: Comparison) -> str:
    if found.apart:
        return f"{found.test.p:.2g} s"
    return f"{found.p:.2g}"


def _change(found: Comparison, unit: Unit) -> str:
    mark = " g" if found.grouped else ""
    if found.change is None:
        return _signed(found.difference, unit) + mark
    return f"{found.change:+.1%}".replace("%", " %") + mark


def _detectable(found: Comparison, unit: Unit) -> str:
    """Return what such runs could have shown, beside a change that they did not show."""
    if found.detectable is None or found.verdict is not Verdict.UNDECIDED:
        return ""
    if found.change is None:
        return f"detectable: {quantity(found.detectable, unit)}"
    return f"detectable: {found.detectable / abs(found.a.median):.1%}".replace("%", " %")


def _spread(sample: Spread, unit: Unit) -> Cell:
    small = ""
    if sample.low != sample.high:
        small = between(quantity(sample.low, unit), quantity(sample.high, unit))
        small += " (lowest, highest)" if sample.confidence is None else ""
    return Cell(quantity(sample.median, unit), small)


def quantity(value: float, unit: Unit) -> str:
    """Return a metric's value with its unit."""
    if unit is Unit.BYTES:
        return format_size(value)
    if unit is Unit.BYTE_SECONDS:
        return f"{format_size(value)} s"
    return seconds(value) if unit is Unit.SECONDS else three(value)


def _signed(value: float, unit: Unit) -> str:
    return f"+{quantity(value, unit)}" if value > 0 else quantity(value, unit)


def open_questions(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return a line for each row without an answer: what it would take, or why there is none."""
    lines = []
    for label, row in rows:
        if row.verdict in ANSWERS:
            continue
        said = f"{label}, {row.label}: "
        said += "" if row.verdict is Verdict.NOT_COMPARABLE else "it would take "
        lines.append(said + row.needs)
    return lines


def step_words(row: Row) -> str:
    """Return how many copies the runs of a row held, with the chance of each; empty if it is none.

    As in "peaks fall into steps of 100 MB, A: 9 x in 3 of 8 runs (38 %), 11 x in 5 (62 %)".
    """
    if row.steps is None:
        return ""
    sides = []
    for name, side in (("A", row.steps.a), ("B", row.steps.b)):
        runs = sum(side.values())
        first, *others = (
            (f"{copies} x in {number}", f"({number / runs:.0%})".replace("%", " %"))
            for copies, number in side.items()
        )
        said = [f"{first[0]} of {runs} runs {first[1]}", *map(" ".join, others)]
        sides.append(f"{name}: {', '.join(said)}")
    return f"peaks fall into steps of {format_size(row.steps.payload_bytes)}, {'; '.join(sides)}"


def step_lines(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return a line for each row whose runs differ by whole payloads."""
    return [f"{label}, {row.label}: {step_words(row)}" for label, row in rows if row.steps]


def comparison_json(row: Row) -> dict[str, Any]:
    """Return one comparison as plain data."""
    return {
        "mode_a": row.mode_a,
        "mode_b": row.mode_b,
        "name": row.name,
        "scope": row.scope,
        "metric": row.metric.name,
        "unit": row.metric.unit.value,
        "primary": row.primary,
        "verdict": row.verdict.value,
        "needs": row.needs,
        "steps": _steps(row.steps) if row.steps else None,
        **(_figures(row.comparison) if row.comparison else {}),
    }


def _steps(found: Steps) -> dict[str, Any]:
    def shares(side: Mapping[int, int]) -> list[dict[str, Any]]:
        whole = sum(side.values())
        return [{"copies": n, "runs": k, "share": k / whole} for n, k in side.items()]

    return {"payload_bytes": found.payload_bytes, "a": shares(found.a), "b": shares(found.b)}


def _figures(found: Comparison) -> dict[str, Any]:
    figures = asdict(found)
    # The row's own words are above: a session knows more than its figures.
    return {key: value for key, value in figures.items() if key not in ("verdict", "needs")}


def headline(rows: Sequence[tuple[str, Row]], rules: Rules) -> str:
    """Return what became of the primary metric in each mode, as a sentence."""
    said = []
    for label, row in rows:
        if not row.primary:
            continue
        change = ""
        if row.comparison and row.verdict in (Verdict.WORSE, Verdict.BETTER):
            change = f" ({_change(row.comparison, row.metric.unit)})"
        said.append(f"{row.verdict.value} in {label}{change}")
    name = next((row.label for _, row in rows if row.primary), "")
    return f"{name}: {', '.join(said)}; threshold {rules.threshold * 100:.4g} %"


def _labelled(found: SessionComparison) -> list[tuple[str, Row]]:
    return [(row.mode, row) for row in found.rows]


def headline_of(found: SessionComparison) -> str:
    """Return what became of the primary metric, and whether runs fail that did not."""
    failing = f"; {len(found.regressions)} failing" if found.regressions else ""
    return headline(_labelled(found), found.rules) + failing


def package_words(packages: Sequence[Package], names: Sequence[str]) -> str:
    """Return in words which packages differ, the first few of them; empty if none does.

    Args:
        packages: those that differ.
        names: of the sessions, in the order of the versions; two are not named.
    """
    said = []
    for package in packages[:_MOST_PACKAGES]:
        who: dict[str, list[str]] = {}
        for version, name in zip(package.versions, names, strict=True):
            who.setdefault(version, []).append(name)
        each = list(who)
        if len(names) > 2:
            each = [f"{version} in {listed(those)}" for version, those in who.items()]
        said.append(f"{package.name} {listed(each)}")
    more = len(packages) - len(said)
    return (", " if len(names) == 2 else "; ").join(said) + (f", and {more} more" if more else "")


def _different(found: SessionComparison) -> list[str]:
    """Return a line for each thing that differs beside the figures, packages in one."""
    words = package_words(found.packages, (found.a.name, found.b.name))
    return [*([words] if words else []), *map(str, found.differences)]


def _table(found: SessionComparison, rows: Sequence[tuple[str, Row]]) -> Table:
    return comparisons(f"{found.b.name} (B) beside {found.a.name} (A)", rows, NOTE)


def as_table(found: SessionComparison, *, every: bool = False, screen: Screen = PLAIN) -> str:
    """Return the comparison for a terminal; ``every`` row of services, or those that changed."""
    rows = _labelled(found)
    shown = rows if every else worth_showing(rows)
    lines = [as_text(_table(found, shown), screen), ""]
    lines += [f"different: {difference}" for difference in _different(found)]
    lines += [f"failing: {line}" for line in found.regressions]
    lines += [*open_questions(shown), *step_lines(shown)]
    lines += [] if every else filter(None, [left_out(rows)])
    table, *more = lines
    more = [paragraph(line, screen) for line in [*more, "", headline_of(found)]]
    return "\n".join([table, *more])


def as_markdown(found: SessionComparison, *, every: bool = False) -> str:
    """Return the comparison for a pull request's comment."""
    rows = _labelled(found)
    shown = rows if every else worth_showing(rows)
    table = _table(found, shown)
    said = tuple(
        (*cells[:-1], _SAID[row.verdict]) for cells, (_, row) in zip(table.rows, shown, strict=True)
    )
    body = markdown(replace(table, rows=said))
    more = [
        *([f"**Failing runs**: {'; '.join(found.regressions)}"] if found.regressions else []),
        _folded("What is undecided, and what it would take", open_questions(shown)),
        _folded("Peaks that fall into steps of a payload", step_lines(shown)),
        _folded(
            "What differs beside the figures",
            _different(found),
        ),
        f"<sub>A: `{found.a.name}`, B: `{found.b.name}`. {table.note}"
        f" {'' if every else left_out(rows)}</sub>",
    ]
    return "\n\n".join(
        [f"### Memory and makespan: {headline_of(found)}", body, *filter(None, more)]
    )


def _folded(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    head = f"<details><summary>{title}</summary>"
    return "\n".join([head, "", *(f"- {line}" for line in lines), "", "</details>"])


def as_json(found: SessionComparison, **_: bool) -> str:
    """Return the comparison for programs: every row."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "a": str(found.a.path),
        "b": str(found.b.path),
        "threshold": found.rules.threshold,
        "alpha": found.rules.alpha,
        "worse": found.worse,
        "undecided": found.undecided,
        "headline": headline_of(found),
        "differences": [
            {"what": d.what, "a": d.a, "b": d.b, "severity": d.severity.value}
            for d in found.differences
        ],
        "packages": packages_json(found.packages),
        "failing": list(found.regressions),
        "rows": [comparison_json(row) for row in found.rows],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def packages_json(packages: Sequence[Package]) -> list[dict[str, Any]]:
    """Return packages as plain data: every one."""
    return [{"name": each.name, "versions": list(each.versions)} for each in packages]


def as_junit(found: SessionComparison, **_: bool) -> str:
    """Return the comparison as test results: every row.

    Worse is a failure where it decides and else part of the output, so that the file says the same
    as the exit code; what has no answer is skipped.
    """
    suite = ElementTree.Element("testsuite", name="harness compare")
    rows = _labelled(found)
    for (label, row), cells in zip(rows, _table(found, rows).rows, strict=True):
        case = ElementTree.SubElement(suite, "testcase", classname=label, name=row.label, time="0")
        said = f"{row.verdict.value}: {cells[2]} before, {cells[3]} now ({cells[4]})"
        said += f"; {row.needs}" if row.needs else ""
        if row.verdict is Verdict.WORSE and row.primary:
            ElementTree.SubElement(case, "failure", message=said)
        elif row.verdict not in ANSWERS:
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


FORMATS: dict[str, Callable[..., str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
}
