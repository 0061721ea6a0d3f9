"""Plug-ins of other distributions: found by their entry points, and run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent.parent / "toy"
WORKLOAD = (
    "--data-management none default-proxy manual-proxy owned-proxy --stage-task-counts 1 3 1"
    " --stage-bytes-sizes 1000 5MB 1000 1000 --task-sleep 0 --stage-repeat 2"
)
TOY_CONNECTOR = "--ps-connector toy --ps-toy-database objects.db"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the toy distribution into a directory of its own."""
    directory = tmp_path_factory.mktemp("site")
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", *install, "--python", sys.executable, "--target", directory, TOY],
        check=True,
        timeout=60,
    )
    return directory


def harness(cwd: Path, site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(cwd: Path, name: str) -> list[dict[str, str]]:
    (directory,) = (cwd / "runs").iterdir()
    with (directory / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("plug_ins", "executor", "connector"),
    [
        (f"--executor toy --toy-limit 3 {TOY_CONNECTOR}", "ToyExecutor", "ToyConnector"),
        (
            f"--executor process --process-pool-max-workers 2 {TOY_CONNECTOR}",
            "ProcessPoolExecutor",
            "ToyConnector",
        ),
        ("--executor toy --ps-connector local", "ToyExecutor", "LocalConnector"),
    ],
    ids=["both", "connector", "executor"],
)
def test_a_plan_runs_with_them(
    plug_ins: str, executor: str, connector: str, site: Path, tmp_path: Path
) -> None:
    done = harness(tmp_path, site, "run", *plug_ins.split(), *WORKLOAD.split())
    assert done.returncode == 0, done.stderr
    results = rows(tmp_path, "results.csv")
    assert {row["executor"] for row in results} == {executor}
    assert [row["connector"] for row in results] == ["None", connector, connector, connector]
    assert [row["outcome"] for row in rows(tmp_path, "outcomes.csv")] == ["ok"] * 4
    for row in rows(tmp_path, "objects.csv"):
        expected = 2 * (1 + 1 + 3 + 1) if row["data_management"] == "default-proxy" else 0
        assert int(row["objects_at_end"]) == expected
        assert row["objects_left"] == "0"


def test_a_workload_of_theirs_runs(site: Path, tmp_path: Path) -> None:
    flags = "--executor thread --ps-connector local --workload toy --toy-bytes 1KB --audit-stages"
    done = harness(tmp_path, site, "run", *flags.split(), "--data-management", "owned-proxy")
    assert done.returncode == 0, done.stderr
    # The start data is read again by the last task.
    predicted = [row["size_bytes"] for row in rows(tmp_path, "predictions.csv")]
    assert predicted == ["1000", "2000", "1000", "0"]
    found = [row for row in rows(tmp_path, "storage.csv") if row["mark"] == "stage"]
    assert [row["objects"] for row in found] == ["1", "2", "1", "0"]
    assert [row["bytes_in"] for row in rows(tmp_path, "tasks.csv")] == ["1000", "2000"]


def test_help_lists_them_and_their_flags(site: Path, tmp_path: Path) -> None:
    text = harness(tmp_path, site, "run", "--help").stdout
    for word in (
        "executor toy:",
        "--toy-limit N",
        "--ps-toy-database FILE",
        "(default: 2)",
        "--toy-bytes BYTES",
    ):
        assert word in text
    assert "toy" not in harness(tmp_path, Path("nowhere"), "run", "--help").stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--executor toy --ps-connector toy", "--ps-toy-database: is required"),
        ("--executor toy --toy-limit 0 --ps-connector local", "--toy-limit"),
        ("--executor toy --ps-connector redis --ps-host h --ps-port 1", "the toy does not like it"),
    ],
)
def test_their_options_and_refusals_are_the_plans(
    flags: str, words: str, site: Path, tmp_path: Path
) -> None:
    done = harness(tmp_path, site, "run", *flags.split(), *WORKLOAD.split())
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    information = tmp_path / "broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[workflow_memory_harness.connectors]\nbad = no_such_module:Config\n"
    )
    done = harness(tmp_path, tmp_path, "run", "--help")
    assert done.returncode == 3
    assert "plug-in bad (no_such_module:Config) of broken 1" in done.stderr
    assert "Traceback" not in done.stderr
