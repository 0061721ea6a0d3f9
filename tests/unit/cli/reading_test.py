"""report, compare, list and plot as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.rundirs import write_run_directory

MB = 1_000_000
STEADY = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]
PAPER = Path(__file__).parents[2] / "data" / "paper"

HEAVY = "numpy|matplotlib|jinja2"


@dataclass
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Harness = Callable[..., Done]


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Run a command in this process: NumPy is imported once for all tests."""
    monkeypatch.setattr("harness.core.interrupt.install", lambda: None)

    def run(*arguments: str | Path) -> Done:
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("runs")
    write_run_directory(parent / "a", {"none": STEADY})
    write_run_directory(parent / "same", {"none": STEADY[::-1]})
    write_run_directory(parent / "worse", {"none": [2 * value for value in STEADY]})
    write_run_directory(parent / "other", {"none": STEADY}, sizes=(5, 5, 5))
    write_run_directory(parent / "few", {"none": STEADY[:2]})
    write_run_directory(parent / "fewer", {"none": STEADY[:1]})
    return parent


def test_report_prints_its_tables_and_names_the_page(
    harness: Harness, runs: Path, tmp_path: Path
) -> None:
    done = harness("report", runs / "a", "--output", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "net peak" in done.stdout
    assert done.stdout.splitlines()[-1] == f"Report: {tmp_path}/out/report.html"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "summary.json",
        "figures",
        "tables",
    }


def test_several_published_directories_make_one_table(harness: Harness) -> None:
    done = harness("report", *sorted(PAPER.glob("polaris-*")), "--tables-only")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines() if "-proxy" in line][:2]
    assert [row[0] for row in rows] == ["default-proxy", "manual-proxy"]
    assert rows[0][3:5] == ["37.6", "GB"]


def test_a_truncated_file_is_a_warning_and_the_rest_is_reported(
    harness: Harness, tmp_path: Path
) -> None:
    directory = write_run_directory(tmp_path / "run", {"none": STEADY})
    with directory.memory("cgroup").open("a") as file:
        file.write("0005-none-5,redis-1,5")
    done = harness("report", directory.path, "--tables-only")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "memory-cgroup.csv: row" in done.stderr
    assert "cut short" in done.stderr
    assert "100 MB" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "missing"], "missing: not a directory"),
        (["report", "."], "has no results.csv"),
        (["report", "missing", "missing"], "--output: needed with several directories"),
        (["compare", "missing"], "a second directory is needed"),
        (["compare", "missing", "missing", "--threshold", "5"], "write 5% or 0.05"),
        (["compare", "missing", "missing", "--format", "xml"], "--format"),
        (["list", "missing"], "missing: no such directory"),
        (
            ["plot", "missing", "-o", "x.gif"],
            "name a file that ends with .pdf, .svg, .png, .eps or .pgf",
        ),
        (["plot", "missing", "-o", "x.pdf"], "missing: not a directory"),
    ],
)
def test_a_mistake_is_one_line(
    harness: Harness,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = harness(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_compare_ends_with_0_if_nothing_is_worse(harness: Harness, runs: Path) -> None:
    done = harness("compare", runs / "a", runs / "same")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("net peak: equivalent in ")


def test_compare_ends_with_1_on_a_regression(harness: Harness, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "comment.md"
    done = harness("compare", runs / "a", runs / "worse", "--format", "markdown", "-o", out)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "net peak: worse in " in done.stderr
    assert out.read_text().startswith("### Memory and makespan: net peak: worse in ")
    other = harness("compare", runs / "a", runs / "worse", "--metrics", "makespan")
    assert other.returncode == 0
    assert harness("compare", runs / "a", runs / "worse", "--primary", "makespan").returncode == 0


def test_the_papers_three_runs_say_what_every_reader_sees(harness: Harness) -> None:
    published = sorted(PAPER.glob("polaris-*"))
    modes = ("--modes", "manual-proxy", "default-proxy")
    done = harness("compare", *reversed(published), *modes)
    assert done.returncode == 1
    assert "net peak: worse in manual-proxy > default-proxy (+199.2 %)" in done.stdout


def test_compare_of_too_few_runs_is_undecided_and_says_so(harness: Harness, runs: Path) -> None:
    done = harness("compare", runs / "few", runs / "fewer")
    assert done.returncode == 5
    assert "net peak: it would take 2 more runs of each" in done.stdout
    assert harness("compare", runs / "few", runs / "fewer", "--allow-undecided").returncode == 0


@pytest.mark.parametrize(
    ("primary", "said"),
    [
        ("speed", "--primary speed: no such metric; there are net_peak, peak,"),
        ("makespan:redis", "--primary makespan:redis: no such metric; there are"),
        ("net_peak:broker", "of a service (:SERVICE behind: redis, worker) net_peak, peak,"),
    ],
)
def test_a_primary_metric_that_is_none_is_one_line(
    harness: Harness, runs: Path, primary: str, said: str
) -> None:
    done = harness("compare", runs / "a", runs / "same", "--primary", primary)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_directories_of_one_name_are_told_apart_everywhere(
    harness: Harness, tmp_path: Path
) -> None:
    for folder in ("old", "new"):
        write_run_directory(tmp_path / folder / "run", {"none": STEADY})
    old, new = tmp_path / "old" / "run", tmp_path / "new" / "run"
    compared = harness("compare", old, new)
    assert compared.stdout.splitlines()[0] == "new/run (B) beside old/run (A)"
    done = harness("report", old, new, "--output", tmp_path / "out")
    assert "Comparisons with none (old/run)\n" in done.stdout
    assert "\nnone (new/run)  net peak" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [session["directory"] for session in summary["sessions"]] == ["old/run", "new/run"]
    assert [mode["directory"] for mode in summary["modes"]] == ["old/run", "new/run"]
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("old/run", "new/run"):
        assert f"How it was measured: {name}" in page


def test_packages_that_differ_are_named_of_two_and_of_more(
    harness: Harness, tmp_path: Path
) -> None:
    for name, version in (("a", "2025.1.0"), ("b", "2026.8.0"), ("c", "2026.8.0")):
        directory = write_run_directory(tmp_path / name, {"none": STEADY})
        manifest = json.loads(directory.manifest.read_text())
        manifest["runner"]["packages"] = {"dask": version, "distributed": version}
        directory.manifest.write_text(json.dumps(manifest))
    compared = harness("compare", tmp_path / "a", tmp_path / "b")
    assert (
        "\ndifferent: distributed 2025.1.0 and 2026.8.0, dask 2025.1.0 and 2026.8.0\n"
        in compared.stdout
    )
    three = (tmp_path / name for name in "abc")
    done = harness("report", *three, "--output", tmp_path / "out")
    said = "2025.1.0 in a and 2026.8.0 in b and c"
    assert f" Different: distributed {said}; dask {said}.\n" in done.stdout
    assert f"Different: distributed {said}; dask" in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/summary.json").read_text())["packages"] == [
        {"name": name, "versions": ["2025.1.0", "2026.8.0", "2026.8.0"]}
        for name in ("distributed", "dask")
    ]


def test_compare_refuses_other_work_unless_told_so(harness: Harness, runs: Path) -> None:
    done = harness("compare", runs / "a", runs / "other")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--stage-bytes-sizes: 1000000 500000 100000 and 5 5 5" in done.stderr
    forced = harness("compare", runs / "a", runs / "other", "--force", "--format", "json")
    assert forced.returncode == 0
    assert json.loads(forced.stdout)["differences"][0]["severity"] == "refuse"
    free = harness("compare", runs / "a", runs / "other", "--scale-free")
    assert "net peak / payload" in free.stdout


def test_list_names_every_run_directory(harness: Harness, runs: Path) -> None:
    done = harness("list", runs)
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert names == ["a", "few", "fewer", "other", "same", "worse"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode", "none", "--service", "worker", "-o", "f.pdf"],
        ["--figure", "services", "--run", "0002-none-2", "-o", "f.svg"],
        ["--figure", "peaks", "-o", "f.png", "--size", "3.3", "2"],
        ["--figure", "makespans", "-o", "f.svg"],
    ],
)
def test_plot_draws_one_figure(
    harness: Harness,
    arguments: list[str],
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = harness("plot", runs / "a", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (figure,) = tmp_path.iterdir()
    start = {".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}[figure.suffix]
    assert figure.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "nope"], "--mode nope: there is no run of it; there is none"),
        (["--service", "nope"], "--service nope: not one of redis, worker, topology"),
        (["--figure", "services", "--run", "9"], "--run 9: no such run"),
    ],
)
def test_plot_names_what_there_is(
    harness: Harness, arguments: list[str], said: str, runs: Path
) -> None:
    done = harness("plot", runs / "a", *arguments, "-o", runs / "f.svg")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list", str(PAPER)]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    """Imports, not seconds: what makes them fast on any machine."""
    code = (
        "import sys, harness.cli.main as m; m.main(sys.argv[1:]);"
        f"heavy = {HEAVY.split('|')!r} + ['pydantic', 'distributed', 'docker'];"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
