"""What a history looks like: table, page, JSON and CSV, from run directories and nothing else."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.report.history import CSV, DOCUMENT, PAGE
from tests.many_runs import write_versions

MB = 1_000_000
REASON = "--stack dask==2025.3.0: image dask: Because " + "something is not there " * 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("history")
    write_versions(root, {"2025.2.0": 600, "2025.4.0": 450, "2025.10.0": 450}, ("none",))
    known = {"package": "dask", "plan": {}, "with": [], "skipped": {"2025.3.0": REASON}}
    (root / DOCUMENT).write_text(json.dumps(known))
    assert main.main(["history", "--page-only", str(root)]) == 0
    return root


def chart(page: str, name: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page)
    assert found is not None
    charts: dict[str, dict[str, Any]] = json.loads(found[1])
    return charts[name]


def test_the_table_fits_a_terminal_and_names_the_change(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["history", "--page-only", str(place)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    versions = [line.split()[0] for line in lines if line.startswith("2025.")]
    assert versions == ["2025.2.0", "2025.3.0", "2025.4.0", "2025.10.0"]
    text = " ".join(" ".join(lines).split())
    change = next(line for line in lines if "net_peak:runner" in line)
    assert re.search(r"net_peak:runner (59|60)\d -> 4[45]\d MB \(-25 %\), since$", change)
    assert "2025.3.0 - - skipped: --stack dask==2025.3.0" in text
    assert "dask 2025.2.0 to 2025.10.0, 3 versions:" in text


def test_the_page_has_a_figure_for_each_metric_with_changes_marked(place: Path) -> None:
    page = (place / PAGE).read_text()
    for name in ("net_peak", "baseline", "net_mean", "leftover", "makespan"):
        assert f'data-chart="{name}"' in page
        assert chart(page, name)["layout"]["xaxis"]["categoryarray"] == [
            *("2025.2.0", "2025.3.0", "2025.4.0", "2025.10.0")
        ]
    found = chart(page, "net_peak")
    assert [trace["name"] for trace in found["data"]] == ["topology", "redis", "runner", "worker"]
    runner = found["data"][2]
    assert runner["x"] == ["2025.2.0", "2025.4.0", "2025.10.0"]
    assert runner["y"] == pytest.approx([600 * MB, 450 * MB, 450 * MB], rel=0.02)
    assert all(size > 0 for size in runner["error_y"]["array"])
    assert [shape["x0"] for shape in found["layout"]["shapes"]] == [1.5]
    words = [label["text"] for label in found["layout"]["annotations"]]
    # Their points are close: their words stand below each other.
    assert words == ["2025.4.0", "topology -23 %<br>runner -25 %"]
    assert chart(page, "baseline")["layout"]["shapes"] == []
    assert "plotly.js (basic - minified)" in page
    assert 'id="dark-colors"' in page


def test_json_and_csv_have_all_of_it(place: Path) -> None:
    found = json.loads((place / DOCUMENT).read_text())
    assert found["package"] == "dask"
    assert found["skipped"] == {"2025.3.0": REASON}
    went = {"none": 6}
    assert [each["runs"] for each in found["versions"]] == [went, {}, went, went]
    change = next(c for c in found["changes"] if c["name"] == "net_peak:runner")
    assert (change["version"], change["before"]) == ("2025.4.0", "2025.2.0")
    assert change["verdict"] == "better"
    with (place / CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Three versions of: makespan, and four metrics of topology and three services.
    assert len(rows) == 3 * (1 + 4 * 4)
    row = next(
        row
        for row in rows
        if (row["version"], row["service"], row["metric"]) == ("2025.4.0", "runner", "net_peak")
    )
    assert (row["mode"], row["unit"], row["runs"], row["verdict"]) == ("none", "B", "6", "better")
    assert float(row["change"]) == pytest.approx(-0.25, abs=0.02)
    assert float(row["low"]) <= float(row["median"]) <= float(row["high"])


def test_run_directories_of_others_make_a_page_by_their_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_versions(tmp_path, {"2025.10.0": 300, "2025.9.1": 600}, ("none", "owned-proxy"))
    for name in ("2025.10.0", "2025.9.1"):
        (tmp_path / name).rename(tmp_path / f"run of {name}")
    runs = [str(path) for path in sorted(tmp_path.glob("run*"))]
    output = tmp_path / "page"
    assert main.main(["history", "--page-only", *runs, "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "dask 2025.9.1 to 2025.10.0, 2 versions" in out
    page = (output / PAGE).read_text()
    names = [trace["name"] for trace in chart(page, "net_peak")["data"]]
    assert names[:2] == ["topology, none", "topology, owned-proxy"]
    words = [label["text"] for label in chart(page, "net_peak")["layout"]["annotations"]]
    assert any("runner, none -50 %<br>runner, owned-proxy -50 %" in word for word in words)
    assert {path.name for path in output.iterdir()} == {PAGE, DOCUMENT, CSV}


def test_directories_that_make_no_history_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_versions(tmp_path, {"2025.1.0": 300}, ("none",))
    (tmp_path / "2025.1.0").rename(tmp_path / "run")
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    for words, said in (
        ([run], "--output: needed with run directories"),
        ([run, "--output", out], "of which version is it?"),
        ([run, run, "--stack", "dask", "--output", out], "is of 2025.1.0, as"),
        ([str(tmp_path / "none"), "--output", out], "not a directory"),
    ):
        assert main.main(["history", "--page-only", *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
