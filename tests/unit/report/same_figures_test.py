"""Every figure that two commands show is the same figure, to the last digit shown.

The run directories are real ones, written by earlier versions: a bench with the cgroup view, and a
``harness run`` that was seen from inside only (every tenth sample of the first is kept).
"""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from harness.analysis.compare import METRICS, Question, Unit, compare_sessions
from harness.analysis.figures import group_runs, range_of
from harness.analysis.listing import entries
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.cli.main import main
from harness.core.sizes import format_size
from harness.report import plots
from harness.report.ahead import ReportAhead
from harness.report.comparison import quantity
from harness.report.palette import mode_looks
from harness.reproduce.text import reproduction_text
from harness.reproduce.verdict import judge

DATA = Path(__file__).parents[2] / "data" / "rundirs"


@pytest.fixture(scope="module", params=["bench", "run"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a real run directory with the report that the end of a bench writes into it."""
    place = tmp_path_factory.mktemp("same") / str(request.param)
    shutil.copytree(DATA / request.param, place)
    said, where = ReportAhead(page=True).write(place)
    assert where == f"Report: {place}/report.html"
    (place / "said.txt").write_text(said)
    return place


@pytest.fixture(scope="module")
def session(directory: Path) -> Session:
    return read_session(directory)


class Page(HTMLParser):
    """Collects the rows of the page's tables by the table's name, small print apart."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] | None = None
        self._cell = self._small = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "table":
            self._rows = self.tables.setdefault(str(found["id"]).removeprefix("table-"), [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows is not None:
            self._rows[-1].append("")
            self._cell = True
        elif tag == "small":
            self._small = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = None
        elif tag in ("td", "th"):
            self._cell = False
        elif tag == "small":
            self._small = False

    def handle_data(self, data: str) -> None:
        if self._rows is not None and self._cell and not self._small:
            self._rows[-1][-1] += data


def page_of(directory: Path) -> Page:
    page = Page()
    page.feed((directory / "report.html").read_text(encoding="utf-8"))
    return page


def text_tables(said: str) -> list[list[list[str]]]:
    """Return the tables of a command's output: columns are set apart by two blanks."""
    found: list[list[list[str]]] = []
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if set(line) == {"-", " "} and "--" in line:
            spans = [match.span() for match in re.finditer("-+", line)]
            rows = [lines[number - 1]]
            for row in lines[number + 1 :]:
                # A note below a table is a sentence, a row has blanks where columns end.
                if not row or any(row[end : end + 2].strip() for _, end in spans):
                    break
                rows.append(row)
            found.append([[row[a:b].strip() for a, b in spans] for row in rows])
    return found


def test_the_end_of_a_bench_report_and_the_page_show_the_same_tables(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.core.interrupt.install", lambda: None)
    assert main(["report", str(directory), "--tables-only"]) == 0
    report = text_tables(capsys.readouterr().out)
    assert report
    assert text_tables((directory / "said.txt").read_text())[: len(report)] == report
    shown = [
        [[cell.strip() for cell in row] for row in table]
        for table in page_of(directory).tables.values()
    ]
    for table in report:
        assert table in shown


def test_the_summary_for_programs_has_the_tables_figures(directory: Path, session: Session) -> None:
    summary = json.loads((directory / "summary.json").read_text())
    header, *rows = page_of(directory).tables["services"]
    assert len(rows) > 2
    keys = {
        "net peak": "net_peak_bytes",
        "net mean": "net_mean_bytes",
        "after": "net_after_bytes",
        "leftover": "leftover_bytes",
        "baseline": "baseline_bytes",
        "peak": "peak_bytes",
        "mean": "mean_bytes",
    }
    modes = {mode["mode"]: mode["runs"] for mode in summary["modes"]}
    mode = ""
    for row in rows:
        said = dict(zip(header, row, strict=True))
        mode = said["mode"] or mode
        service = said["service"].partition(" x ")[0]
        each = [run["memory"][service] for run in modes[mode]]
        for title, key in keys.items():
            median = range_of(one[key] for one in each)
            assert said[title] == (format_size(median.median) if median else "-"), (service, title)
        assert {one["view"] for one in each} == {said["view"]}
        assert f"{min(one['coverage'] for one in each):.0%}".replace("%", " %") == said["covered"]


def test_compare_and_reproduce_show_the_summarys_figures(directory: Path, session: Session) -> None:
    summary = json.loads((directory / "summary.json").read_text())
    metrics = {mode["mode"]: mode["metrics"] for mode in summary["modes"]}
    compared = compare_sessions(session, session, Question(metrics=tuple(m.name for m in METRICS)))
    judged = judge(directory, directory, 0.05)
    text = reproduction_text(judged, [])
    assert compared.rows == judged.rows
    for row in compared.rows:
        if row.scope != TOPOLOGY:
            continue
        if row.comparison is None:
            assert row.metric.name not in metrics[row.mode]
            continue
        median = metrics[row.mode][row.metric.name]["median"]
        assert row.comparison.a.median == row.comparison.b.median == median
        assert quantity(median, row.metric.unit) in text
    tables = page_of(directory).tables
    header, *rows = tables["summary"]
    for cells in rows:
        said = dict(zip(header, cells, strict=True))
        for metric in METRICS:
            if metric.unit is Unit.BYTES:
                shown = quantity(metrics[said["mode"]][metric.name]["median"], metric.unit)
                assert said[metric.label] == shown


def test_list_shows_the_summarys_figures(directory: Path) -> None:
    header, *rows = page_of(directory).tables["summary"]
    (entry,) = entries(directory.parent)
    for row in rows:
        said = dict(zip(header, row, strict=True))
        assert f"{said['mode']} {said['makespan s']} s {said['net peak']}" in entry.headline


def test_plots_draw_the_tables_figures(session: Session) -> None:
    groups = group_runs([session])
    looks = mode_looks([(group.label, group.mode) for group in groups])
    axes = Figure().add_subplot()
    plots.draw_peaks(axes, groups, looks)
    drawn = sorted(patch.get_height() for patch in axes.patches)  # type: ignore[attr-defined]
    assert drawn == sorted(scope.net_peak.median for group in groups for scope in group.scopes)
