"""The page's section on who holds the memory of the peaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.analysis.grades import warning
from harness.analysis.session import Session
from harness.analysis.tracing_cost import costs
from harness.analysis.why import OWN_PEAK, Account, Copies, Why, read_why, traced_path
from harness.core.errors import HarnessError
from harness.report.charts import SECONDS_TITLE, Chart
from harness.report.icicle import icicle
from harness.report.palette import service_look
from harness.report.tables import Table
from harness.report.why import account_table, overview, sentences, worth_telling
from harness.report.why_cost import cost_table

_MOST_POINTS = 2000


@dataclass(frozen=True)
class Figure:
    """One container at its own peak: drawn, and as a table."""

    title: str
    drawing: Markup
    table: Table


@dataclass(frozen=True)
class ModeWhy:
    """What is said of one mode's traced run; ``chart`` names that of copies over time, if any."""

    mode: str
    sentences: list[Markup]
    figures: list[Figure]
    chart: str


@dataclass(frozen=True)
class WhyPart:
    """What is said of one session's traced runs."""

    title: str
    modes: list[ModeWhy]
    tables: list[Table]
    problems: list[str]


def why_parts(sessions: Sequence[Session]) -> tuple[list[WhyPart], dict[str, Chart]]:
    """Return what the page says of traced runs, and its charts by name; nothing without any."""
    parts, charts = [], {}
    for number, session in enumerate(sessions, 1):
        if traced_path(session.path) is None:
            continue
        title = session.name if len(sessions) > 1 else ""
        try:
            why = read_why(session.path)
        except HarnessError as error:
            parts.append(WhyPart(title, [], [], [str(error)]))
            continue
        modes = []
        for run in why.session.runs:
            key = f"copies-{number}-{run.run_id}"
            chart = copies_chart(why.copies.get(run.run_id, ()))
            if chart is not None:
                charts[key] = chart
            told = [text.partition(": ")[2] for text in sentences(why, run.mode)]
            said = [_marked(text[:1].upper() + text[1:]) for text in told]
            figures = list(_figures(why, run.run_id))
            modes.append(ModeWhy(run.mode, said, figures, key if chart is not None else ""))
        tables = [overview(why)]
        cost = cost_table(costs(why.session), why.sizes)
        problems = [warning(line) for line in why.problems]
        parts.append(WhyPart(title, modes, [*tables, *([cost] if cost else [])], problems))
    return parts, charts


def _marked(text: str) -> Markup:
    """Return a sentence whose names of code are marked as such; it is made safe first."""
    safe = str(escape(text))
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", safe))  # noqa: S704


def _figures(why: Why, run_id: str) -> Iterator[Figure]:
    for account in worth_telling(why, run_id, OWN_PEAK):
        title = _title(why, account)
        label = f"Who holds the memory of {account.container} at its peak in mode {account.mode}"
        drawing = Markup(icicle(account.held, label))  # noqa: S704  # it escapes all texts
        yield Figure(title, drawing, account_table(account))


def _title(why: Why, account: Account) -> str:
    alike = [a for a in why.accounts if (a.run_id, a.moment) == (account.run_id, account.moment)]
    number = sum(a.service == account.service for a in alike)
    return account.container + (f", the highest of {number}" if number > 1 else "")


def copies_chart(copies: Sequence[Copies]) -> Chart | None:
    """Return how many copies of payloads were alive where over time; None if there were none."""
    if not any(max(each.counts, default=0) for each in copies):
        return None
    data = []
    for each in copies:
        style = service_look(each.service)
        step = -(-len(each.times_s) // _MOST_POINTS)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": each.service,
                "x": [round(t, 3) for t in each.times_s[::step]],
                "y": list(each.counts[::step]),
                "line": {"color": style.color, "dash": style.dash, "width": 2, "shape": "hv"},
                "hovertemplate": "%{y} copies<extra>" + each.service + "</extra>",
            }
        )
    return {
        "data": data,
        "layout": {
            "xaxis": {"title": {"text": SECONDS_TITLE}},
            "yaxis": {"title": {"text": "copies of payloads"}, "rangemode": "tozero"},
            "hovermode": "x unified",
        },
    }
