"""A comparison of two sessions as a table, Markdown, JSON or JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

from tabulate import tabulate

from harness.analysis.compare import Row, SessionComparison
from harness.analysis.verdicts import Verdict
from harness.report.comparisons import COMPARISON_NOTE, comparisons, runs_needed
from harness.report.contents import Table
from harness.report.summary_json import comparison_json
from harness.report.terminal import as_text

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
