from __future__ import annotations

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.core.errors import UsageError
from harness.report.page import write_page
from harness.report.palette import mode_looks
from harness.report.write import write_report
from tests.rundirs import write_run_directory

MB = 1_000_000
PEAKS = {"none": [30 * MB, 31 * MB, 29 * MB, 30 * MB], "owned-proxy": [10 * MB] * 4}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_run_directory(tmp_path_factory.mktemp("report") / "run", PEAKS)
    session = read_session(directory.path)
    write_report(directory.path, [session], group_runs([session]))
    return directory.path


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fetching = {"src", "srcset", "data", "poster"} | ({"href"} if tag == "link" else set())
        self.found += [value for name, value in attrs if name in fetching and value]


def test_the_page_holds_everything_it_needs(report: Path) -> None:
    page = (report / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.found == ["data:,"]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "plotly.js (basic - minified)" in page
    assert len(page) < 3e6


def test_text_from_files_cannot_become_markup(tmp_path: Path) -> None:
    directory = write_run_directory(tmp_path / "<b>run", {"none": [MB]})
    outcomes = directory.outcomes.read_text().replace(",ok,", ',leak,"</script><script>alert(1)"')
    directory.outcomes.write_text(outcomes)
    session = read_session(directory.path)
    groups = group_runs([session])
    looks = mode_looks([(group.label, group.mode) for group in groups])
    write_page(tmp_path / "page.html", [session], groups, None, looks)
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "<b>run" not in page
    assert "&lt;b&gt;run" in page


def test_figures_are_vector_and_pixel(report: Path) -> None:
    names = {path.name for path in (report / "figures").iterdir()}
    assert names == {
        f"{name}.{suffix}"
        for name in (
            *("memory-net", "memory-absolute", "peaks", "makespans"),
            *("services-none", "services-owned-proxy"),
        )
        for suffix in ("svg", "pdf", "png")
    }
    svg = (report / "figures" / "memory-net.svg").read_text()
    assert "No Proxy" in svg
    assert "Ownership" in svg
    png = (report / "figures" / "memory-net.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert width == 1432, "7.16 inches at 200 dots"
    assert height > 600, "3 inches and a legend"


def test_tables_are_there_for_programs_comments_and_papers(report: Path) -> None:
    names = {path.name for path in (report / "tables").iterdir()}
    stems = ("summary", "services", "connector", "comparisons")
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("csv", "md", "tex")}
    assert (report / "tables" / "summary.csv").read_text().startswith("mode,runs,makespan s,")


def test_a_report_can_be_made_again_in_its_place_and_is_the_same(report: Path) -> None:
    paths = [report / "summary.json", report / "figures" / "memory-net.svg", report / "report.html"]
    before = [path.read_bytes() for path in paths]
    session = read_session(report)
    write_report(report, [session], group_runs([session]))
    assert [path.read_bytes() for path in paths] == before


def test_the_summary_has_figures_intervals_and_verdicts(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    assert summary["schema_version"] == 2
    assert summary["sessions"][0]["workload"]["payload_bytes"] == 3_100_000
    none, owned = summary["modes"]
    assert none["metrics"]["net_peak"]["median"] == 30 * MB
    assert none["metrics"]["net_peak"]["low"] <= 30 * MB <= none["metrics"]["net_peak"]["high"]
    assert owned["metrics"]["peak_per_payload"]["median"] == pytest.approx(10 / 3.1)
    assert none["runs"][0]["memory"]["worker"]["containers"] == 2
    rows = [c for c in summary["comparisons"] if c["scope"] == "topology"]
    verdict = {(c["mode"], c["metric"]): c["verdict"] for c in rows}
    assert verdict["owned-proxy", "net_peak"] == "better"


def test_where_nothing_can_be_written_is_one_line(report: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    session = read_session(report)
    with pytest.raises(UsageError, match=r"cannot be written .*--output"):
        write_report(tmp_path / "file", [session], group_runs([session]))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_runs_that_were_killed_are_on_the_page_with_their_outcome(tmp_path: Path) -> None:
    directory = write_run_directory(
        tmp_path / "run", {"none": [30 * MB, 20 * MB], "owned-proxy": [10 * MB]}
    )
    killed = {"0002-none-2": "memory", "0003-owned-proxy-1": "timeout"}
    outcomes, marks = directory.outcomes.read_text(), directory.marks.read_text().splitlines()
    for run_id, outcome in killed.items():
        outcomes = re.sub(rf"^({run_id},.*),ok,", rf"\1,{outcome},a reason", outcomes, flags=re.M)
    directory.outcomes.write_text(outcomes)
    ended = [f"{run_id},{mark}" for run_id in killed for mark in ("run_end", "after_end")]
    kept = [line for line in marks if not line.startswith(tuple(ended))]
    directory.marks.write_text("\n".join(kept) + "\n")
    results = directory.results.read_text().splitlines(keepends=True)
    directory.results.write_text("".join(results[:2]))
    session = read_session(directory.path)
    write_report(directory.path, [session], group_runs([session]))
    page = (directory.path / "report.html").read_text()
    for run_id, outcome in killed.items():
        assert f">{run_id}: {outcome}</option>" in page or f"Run {run_id}: {outcome}</p>" in page
        assert f"{outcome}: a reason" in page
    charts = json.loads(re.findall(r'<script type="application/json" id="charts">(.*?)<', page)[0])
    assert {"run-0-0001-none-1", "run-0-0002-none-2", "run-1-0003-owned-proxy-1"} <= set(charts)
    names = [trace["name"] for trace in charts["memory"]["data"]]
    assert "owned-proxy (1 run, none went through)" in names
    summary = json.loads((directory.path / "summary.json").read_text())
    none, owned = summary["modes"]
    assert none["metrics"]["net_peak"]["most"] == 30 * MB, "a killed run counts in no figure"
    assert none["runs"][1]["memory"]["topology"]["net_peak_bytes"] == 20 * MB
    assert (owned["metrics"], owned["runs"][0]["outcome"]) == ({}, "timeout")
    assert summary["comparisons"] == []
    assert (directory.path / "figures" / "services-owned-proxy.png").stat().st_size > 1000
