"""``harness sweep``: every cell's plan before anything starts, and where modes cross afterwards."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main, sweep
from harness.plan import Plan
from harness.report.sweep import CSV, FIGURES, PAGE
from harness.topology import sides
from harness.topology.bench import Bench
from harness.topology.resume import write_bench_file
from tests.bench_plans import stages_of
from tests.many_runs import SIZES, write_sweep
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
PLAN = """\
executor = "dask"
ps-connector = "redis"
data-management = ["none", "owned-proxy"]
stage-task-counts = [1, 2]
stage-bytes-sizes = ["{bytes}", "{bytes}", "1KB"]
task-sleep = 0.1
repeat = 6
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_sweep(tmp_path_factory.mktemp("sweep"))
    assert main.main(["sweep", "--page-only", str(place)]) == 0
    return place


def test_the_terminal_says_from_where_on_a_mode_needs_less(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["sweep", "--page-only", str(place)]) == 0
    out = capsys.readouterr().out
    said = re.search(
        r"Net peak, owned-proxy beside none: more from 1MB to 10MB \(\+(\d+) % at 1MB\), less at"
        r" 100MB \(-(\d+) %\); the medians cross near (\d+\.\d) MB\.",
        out,
    )
    assert said is not None, out
    more, less, crossing = (float(each) for each in said.groups())
    assert more == pytest.approx(100 * 51 / 32 - 100, abs=3)
    assert less == pytest.approx(100 - 100 * 150 / 230, abs=2)
    # Straight between the measured points, over a logarithmic axis.
    assert 10 < crossing < 20
    assert "owned-proxy needs less memory at the peak than none from bytes 100MB on; 35 %" in out
    assert "Makespan, owned-proxy beside none: as much from 1MB to 100MB." in out


def test_page_and_files_hold_the_same(place: Path) -> None:
    page = (place / PAGE).read_text()
    charts = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page)
    assert charts is not None
    chart = json.loads(charts[1])["net_peak-0"]
    assert [trace["name"] for trace in chart["data"]] == ["none", "owned-proxy"]
    assert chart["data"][0]["x"] == [1e6, 1e7, 1e8]
    assert chart["data"][0]["y"] == pytest.approx([32e6, 50e6, 230e6], rel=0.02)
    assert chart["layout"]["xaxis"]["type"] == "log"
    assert chart["layout"]["xaxis"]["ticktext"] == ["1MB", "10MB", "100MB"]
    assert len(chart["layout"]["shapes"]) == 1
    rows = list(csv.DictReader((place / CSV).open()))
    peaks = [r for r in rows if (r["service"], r["metric"]) == ("topology", "net_peak")]
    assert [(r["bytes"], r["mode"], r["runs"]) for r in peaks[:3]] == [
        (size, "none", "6") for size in SIZES
    ]
    found = json.loads((place / FIGURES).read_text())
    contest = found["panels"][0]["contests"][0]
    assert [point["verdict"] for point in contest["points"]] == ["worse", "worse", "better"]
    assert 10e6 < contest["crossing"] < 20e6


def test_each_value_of_the_other_parameters_has_a_panel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_sweep(tmp_path, workers=("2", "4"))
    assert main.main(["sweep", "--page-only", str(place)]) == 0
    out = capsys.readouterr().out
    assert out.count("Net peak, owned-proxy beside none: more from 1MB to 10MB") == 2
    assert "dask-workers 2:" in out
    assert "dask-workers 4:" in out
    assert main.main(["sweep", "--page-only", str(place), "--axis", "dask-workers"]) == 0
    assert "bytes 100MB:" in capsys.readouterr().out
    assert main.main(["sweep", "--page-only", str(place), "--axis", "x"]) == 2
    assert "--axis x: choose from bytes, dask-workers" in capsys.readouterr().err


def test_a_cell_without_runs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_sweep(tmp_path)
    (place / "1-bytes-1MB" / "outcomes.csv").unlink()
    (place / "1-bytes-1MB" / "results.csv").unlink()
    assert main.main(["sweep", "--page-only", str(place)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^1MB +2 +- +-$", out, re.MULTILINE)
    assert "1-bytes-1MB: " in out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    runs = json.dumps(str(tmp_path / "runs"))
    path.write_text(f'{PLAN}run-dir = {runs}\n[sweep]\nbytes = ["1MB", "10MB"]\n')
    return path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Let no engine be needed; return the plans that took turns."""
    plans: list[Plan] = []

    class Turns:
        def __init__(self, benches: list[Bench], _seed: int, enough: Callable[[], bool]) -> None:
            self.benches, self.enough = benches, enough

        def run(self) -> None:
            for bench in self.benches:
                plans.append(bench.plan)
                path = bench.directory.path
                shutil.rmtree(path)
                write_run_directory(path, {"none": [30 * MB] * 6}, events=False)
                document = MANIFEST | {"plan": bench.plan.model_dump(mode="json")}
                bench.directory.manifest.write_text(json.dumps(document))
                write_bench_file(bench.directory.bench, bench.plan, {})
                if self.enough():
                    break

    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    for name, value in {
        "admit": lambda *_: [],
        "variant_of": nothing,
        "write_quality": nothing,
        "Turns": Turns,
    }.items():
        monkeypatch.setattr(sweep, name, value)
    for name in ("ensure", "require_images", "clear_the_way"):
        monkeypatch.setattr(sides, name, lambda *_, **__: {})
    return plans


def directory_of(file: Path) -> Path:
    return next((file.parent / "runs").iterdir())


def test_every_cell_is_a_run_directory(
    ran: list[Plan], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["sweep", str(file), "--sweep", "dask-workers=1,2"]) == 0
    sizes = [stages_of(plan).stage_bytes_sizes[0] for plan in ran]
    assert sizes == [MB, MB, 10 * MB, 10 * MB]
    assert [plan.executor.model_dump()["workers"] for plan in ran] == [1, 2, 1, 2]
    assert all(plan.topology is not None and plan.topology.isolate == "run" for plan in ran)
    names = {path.name for path in directory_of(file).iterdir() if path.is_dir()}
    assert "1-bytes-1MB-dask-workers-1" in names
    assert len(names) == 4
    captured = capsys.readouterr()
    assert "4 cells, 48 runs; predicted: " in captured.err


def test_a_spent_budget_says_how_to_go_on(
    ran: list[Plan],
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main.main(["sweep", str(file), "--budget", "1e-9"]) == 0
    assert len(ran) == 1
    place = directory_of(file)
    assert f"harness sweep --resume {place}" in capsys.readouterr().err
    record = json.loads((place / "sweep.json").read_text())
    assert record["options"]["budget"] == 1e-9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep", "x"], "--sweep x: write NAME=VALUE,VALUE"),
        (["--sweep", "size=1,2"], "--sweep size: neither a flag of a plan nor used"),
        (["--sweep", "dask-workers=0,1"], "cell bytes 1MB, dask-workers 0: --dask-workers"),
        (["--axis", "x"], "--axis x: choose from bytes"),
        (["--budget", "0"], "argument --budget: '0' is not a number of minutes above 0"),
        (["--repaet", "0"], "unknown flag or value '--repaet': did you mean --repeat?"),
        (["--resume", "nowhere"], "--resume"),
    ],
)
def test_one_line_before_anything_starts(
    ran: list[Plan], file: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["sweep", str(file), *words]) == 2
    assert said in capsys.readouterr().err
    assert ran == []


def test_a_file_without_a_sweep_and_a_bench_with_one(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["bench", str(file)]) == 2
    assert f"is for 'harness sweep {file}'" in capsys.readouterr().err
    file.write_text(file.read_text().partition("[sweep]")[0])
    assert main.main(["sweep", str(file)]) == 2
    assert "nothing varies: write a table [sweep]" in capsys.readouterr().err
