"""The page: one HTML file with its data, charts and library in it, that opens from anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.analysis.curves import typical_run
from harness.analysis.failures import failures
from harness.analysis.figures import Group, RunFigures
from harness.analysis.grades import Finding, Grade, findings
from harness.analysis.session import OK, Session
from harness.analysis.verdicts import Verdict
from harness.core.files import write_whole
from harness.report import captions, charts, evidence, failed, first_screen
from harness.report.palette import Look, dark_colors
from harness.report.story import circumstances, plan_in_words, short_names, story
from harness.report.tables import Table, connector, ledger, outcomes, services, summary
from harness.report.why_page import why_parts

_FILES = files("harness.report") / "page_files"
_PLOTLY = "vendor/plotly-basic.min.js"

_POINTS_OF_A_RUN = 2400
_FEWEST_POINTS = 300
_FEWEST_TASKS = 40

_MARKED = {
    Verdict.WORSE.value: "worse",
    Verdict.BETTER.value: "better",
    Verdict.EQUIVALENT.value: "same",
    Verdict.TOO_SMALL.value: "same",
    Verdict.UNDECIDED.value: "unsure",
    Verdict.NOT_COMPARABLE.value: "unsure",
    Grade.FINE.value: "same",
    Grade.SUSPICIOUS.value: "unsure",
    Grade.DO_NOT_USE.value: "worse",
}


@dataclass(frozen=True)
class Detail:
    """How much of single runs a page shows.

    Attributes:
        runs: run charts in all.
        points: of all their lines together.
        tasks: that are drawn in all.
    """

    runs: int
    points: int
    tasks: int


FULL = Detail(240, 240_000, 10_000)
"""Far below the 8 MB that a browser opens at once."""
TYPICAL = Detail(0, 8_000, 400)
"""The run of each mode whose net peak is the median, in some 100 KB."""


@dataclass(frozen=True)
class RunCharts:
    """The charts of one group's runs: (key, name of the run), and which is shown first."""

    label: str
    charts: tuple[tuple[str, str], ...]
    shown: str


def write_page(
    path: Path,
    sessions: Sequence[Session],
    groups: Sequence[Group],
    comparisons: Table | None,
    looks: Mapping[str, Look],
    *,
    library: str = "",
    detail: Detail = FULL,
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        sessions: what is reported.
        groups: their runs by mode.
        comparisons: the table of comparisons, if there is more than one group.
        looks: how each group is drawn.
        library: where the charting library is, as seen from the page; it is in the page if empty.
        detail: how much of single runs there is.
    """
    found: dict[str, Any] = {
        "ranked": captioned(first_screen.ranked_chart(groups), captions.of_ranking(groups)),
        "makespans": captioned(
            first_screen.makespan_chart(groups, looks), captions.of_makespans(groups)
        ),
        "memory": captioned(charts.memory_chart(groups, looks), captions.of_memory(groups)),
        "peaks": captioned(charts.peaks_chart(groups, looks), captions.of_peaks(groups)),
    }
    runs, more = _run_charts(groups, detail)
    bad = failures(groups)
    broken = {f"failed-{n}": failed.failure_chart(f) for n, f in enumerate(bad[: failed.MOST], 1)}
    why, copies = why_parts(sessions)
    write_whole(
        path,
        rendered(
            "page.html.j2",
            {
                name: chart
                for name, chart in (found | broken | more | copies).items()
                if chart is not None
            },
            library=library,
            title=_title(sessions),
            story=story(groups),
            lead=lead(sessions),
            circumstances=circumstances(sessions),
            charts=found | broken,
            legend=first_screen.legend(groups),
            rows=len(first_screen.ranked(groups) or groups),
            failures=[(failed.said(each), each) for each in bad[: failed.MOST]],
            failures_note=failed.left_out(bad),
            runs=runs,
            captions={key: chart["caption"] for key, chart in (found | more).items() if chart},
            runs_note=_runs_note(groups, runs),
            why=why,
            summary=summary(groups),
            services=services(groups),
            comparisons=comparisons,
            outcomes=outcomes(groups),
            ledger=ledger(groups),
            ledger_marks=evidence.ledger(groups),
            connector=connector(groups),
            evidence=[_evidence(n, s) for n, s in enumerate(sessions, 1)],
            problems=warnings(sessions),
            contents=_contents(
                sessions, groups, runs, comparisons, failed=bool(bad), why=bool(why)
            ),
        ),
    )


def captioned(chart: charts.Chart | None, caption: str) -> charts.Chart | None:
    """Return a chart with the caption that stands below it."""
    return None if chart is None else chart | {"caption": caption}


def rendered(
    template: str, data: Mapping[str, charts.Chart], *, library: str = "", **parts: Any
) -> str:
    """Return a page with all that it needs in it: style, script, library, its charts' data.

    Args:
        template: its file in ``page_files``.
        data: the charts by the names that the template has for them.
        library: where the charting library is, as seen from the page; it is in the page if empty.
        parts: what else the template shows; ``title``, ``story``, ``contents`` and ``problems`` in
            any.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            css=Markup(page_file("page.css")),  # noqa: S704
            script=Markup(page_file("page.js")),  # noqa: S704
            library=library,
            plotly=Markup("" if library else charting_library()),  # noqa: S704
            charts_json=_json(dict(data)),
            dark_json=_json(dark_colors()),
            marked=_MARKED,
            **parts,
        )
    )


def charting_library() -> str:
    """Return the charting library that pages have in them, or beside them."""
    return page_file(_PLOTLY)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report", "page_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _unbroken(text: str) -> str:
    """Return text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|[kMGT]?B\b)", "\N{NO-BREAK SPACE}", text)


def page_file(name: str) -> str:
    """Return a file of ``page_files``."""
    return (_FILES / name).read_text(encoding="utf-8")


def _json(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704


def _run_charts(groups: Sequence[Group], detail: Detail) -> tuple[list[RunCharts], dict[str, Any]]:
    """Return the groups' run charts and the charts by key, thinned to what a page can hold."""
    most = detail.runs // max(len(groups), 1)
    shown = {group.label: group.runs[:most] for group in groups}
    in_all = max(sum(map(len, shown.values())), len(groups), 1)
    tasks = max(detail.tasks // in_all, _FEWEST_TASKS)
    lines = sum(
        max(len(runs), 1) * (len(group.session.memory.services) + 1)
        for group, runs in zip(groups, shown.values(), strict=True)
        if group.session.memory is not None
    )
    points = min(max(detail.points // max(lines, 1), _FEWEST_POINTS), _POINTS_OF_A_RUN)
    found: list[RunCharts] = []
    by_key: dict[str, Any] = {}
    for number, group in enumerate(groups):
        typical = typical_run(group)
        runs = list(shown[group.label])
        if typical not in runs:
            runs.append(typical)
        keys = []
        for figures in runs:
            chart = captioned(
                charts.run_chart(group, figures, points, tasks),
                captions.of_services(group, figures),
            )
            if chart is not None:
                key = f"run-{number}-{figures.run.run_id}"
                by_key[key] = chart
                keys.append((key, _run_name(figures)))
        if keys:
            first = f"run-{number}-{typical.run.run_id}"
            known = first if first in by_key else keys[0][0]
            found.append(RunCharts(group.label, tuple(keys), known))
    return found, by_key


def _run_name(figures: RunFigures) -> str:
    run = figures.run
    return run.run_id if run.outcome == OK else f"{run.run_id}: {run.outcome}"


def _runs_note(groups: Sequence[Group], runs: Sequence[RunCharts]) -> str:
    note = "Shown first is the run whose net peak is the median. A run that did not go through"
    note += " says how it ended; it is drawn to its last sample. Predicted: what must be in the"
    note += " connector by the flags alone, on top of the baseline. Ideal: the least that any"
    note += " implementation must hold. Solid lines end a cycle, dotted ones a stage; hatched tasks"
    note += " are getting their inputs."
    if not any("tasks" in group.session.tables for group in groups):
        note += " Tasks and stage boundaries were not recorded."
    if sum(len(g.runs) for g in groups) > sum(len(group.charts) for group in runs):
        note += " Not all runs are shown."
    return note


def _title(sessions: Sequence[Session]) -> str:
    """Return what was run: the executor and what the data went through."""
    names = {_ran(session) for session in sessions}
    what = names.pop() if len(names) == 1 else ""
    if len(sessions) == 1:
        return what or sessions[0].name
    return f"{what or 'Memory'}: {len(sessions)} sessions"


def _ran(session: Session) -> str:
    facts = session.workload
    if facts is None:
        return ""
    executor, connector_name = short_names(facts)
    return f"{executor} and {connector_name}" if connector_name else executor


def warnings(sessions: Sequence[Session]) -> list[Finding]:
    """Return what a reader must know before the figures: all that is not fine."""
    return [
        found
        for session in sessions
        for found in findings(session)
        if found.grade is not Grade.FINE
    ]


def lead(sessions: Sequence[Session]) -> str:
    """Return in words what was run, and what its memory is of."""
    views = {session.memory.view for session in sessions if session.memory}
    memory = {
        frozenset({"host"}): "Memory is that of the whole host.",
        frozenset({"cgroup"}): "Memory is what the kernel charges to the containers.",
        frozenset({"inside"}): "Memory is as read inside the containers.",
    }.get(frozenset(views), "")
    session = next((session for session in sessions if session.workload), None)
    plan = plan_in_words(session) if session else ""
    return " ".join(filter(None, (plan, memory)))


def _evidence(number: int, session: Session) -> dict[str, Any]:
    tables = [
        evidence.trust(session),
        evidence.sampling(session),
        evidence.agreement(session),
        evidence.calibration(session),
        evidence.environment(session),
        evidence.images(session),
    ]
    command = evidence.command(session)
    note = ""
    if session.source == "psbench":
        note = "What results.csv does not record is missing: workers, hosts, ports."
    return {
        "id": f"evidence-{number}",
        "title": f"How it was measured: {session.name}",
        "session": session.name,
        "lines": [] if any(tables) else ["Neither sampling quality nor environment is recorded."],
        "tables": [table for table in tables if table is not None],
        "command": command,
        "command_note": note,
    }


def _contents(
    sessions: Sequence[Session],
    groups: Sequence[Group],
    runs: Sequence[RunCharts],
    comparisons: Table | None,
    *,
    failed: bool,
    why: bool,
) -> list[tuple[str, str]]:
    return [
        *([("failed", "Runs that did not go through")] if failed else []),
        ("memory", "Memory over time"),
        *([("runs", "Services and tasks")] if runs else []),
        ("services", "Peaks"),
        *([("why", "Why")] if why else []),
        ("summary", "Figures"),
        *([("comparisons", "Comparisons")] if comparisons else []),
        ("outcomes", "Outcomes"),
        *([("connector", "In the connector")] if connector(groups) else []),
        *([("ledger", "Ledger")] if evidence.ledger(groups) else []),
        ("evidence-1", "How it was measured" if sessions else ""),
    ]
