"""The command line as a user meets it: exit codes, one line for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli import main

PLAN = "--data-management none --stage-task-counts 1 --stage-bytes-sizes 1 1 --task-sleep 0"
SHORT = (
    "--executor thread --thread-pool-max-workers 2 --ps-connector file --stage-task-counts 1 2"
    " --stage-bytes-sizes 10 10 10"
)


def harness(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *line.split()],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands(tmp_path: Path) -> None:
    done = harness("--help", tmp_path)
    assert done.returncode == 0
    for command in ("bench", "images", "run"):
        assert f"\n  {command} " in done.stdout


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    done = harness("brench", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unknown command 'brench'" in done.stderr


@pytest.mark.parametrize(
    "size", [("nan", "3"), ("1e5", "1e5"), ("3", "inf"), ("0", "3"), ("-1", "3")]
)
def test_a_size_no_picture_can_have_is_a_usage_error(size: tuple[str, str], tmp_path: Path) -> None:
    done = harness(f"plot x -o x.png --size {' '.join(size)}", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--size" in done.stderr


def test_a_fault_of_our_own_is_one_line_and_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(_argv: object) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(main, "_load", lambda _name: SimpleNamespace(main=fails))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main.main(["list"]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "RuntimeError: two lines" in said
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_any_character_is_printed_in_any_locale(encoding: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list", "r…é"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    for command in ("run", "bench"):
        done = harness(f"{command} {SHORT} --ps-file-dir o --task-sleep x", tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "--task-sleep" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_writes_its_directory_and_exits_with_0(tmp_path: Path) -> None:
    done = harness(f"run {SHORT} --ps-file-dir objects --task-sleep 0 --run-dir r", tmp_path)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "r").iterdir()
    assert {
        "log.txt",
        "results.csv",
        "results-memory.csv",
        "marks.csv",
        "objects.csv",
        "outcomes.csv",
        "manifest.json",
        "sampling.json",
        "phases.csv",
        "predictions.csv",
        "storage.csv",
        "tasks.csv",
    } == {path.name for path in directory.iterdir()}
    header = (directory / "results-memory.csv").read_text().splitlines()[0]
    assert header == "unix_timestamp,total_bytes,available_bytes,used_bytes,free_bytes"
    assert not (tmp_path / "objects").exists()


def test_a_plan_that_is_no_plan_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"executor_name": "dask"}')
    for name in ("plan.json", "missing.json"):
        done = harness(f"run --plan {name}", tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert name in done.stderr


def _interrupted(tmp_path: Path, number: int) -> subprocess.CompletedProcess[str]:
    command = f"run {SHORT} --ps-file-dir objects --task-sleep 0.3 --repeat 50 --run-dir r"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *command.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # The second run is under way: between two runs none would be interrupted.
        if any(p.read_text().count(",run_start,") > 1 for p in tmp_path.glob("r/*/marks.csv")):
            break
        time.sleep(0.05)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_ctrl_c_and_sigterm_keep_the_rows_and_exit_with_130(tmp_path: Path) -> None:
    for name, number in (("int", signal.SIGINT), ("term", signal.SIGTERM)):
        place = tmp_path / name
        place.mkdir()
        done = _interrupted(place, number)
        assert done.returncode == 130
        assert done.stderr.count("\n") == 1
        (directory,) = (place / "r").iterdir()
        rows = (directory / "outcomes.csv").read_text().splitlines()
        assert rows[1].endswith(",ok,,")
        assert ",interrupted," in rows[-1]
        assert (directory / "manifest.json").exists()
        assert not (place / "objects").exists()


def test_calibrating_with_too_few_repeats_is_refused(tmp_path: Path) -> None:
    done = harness("calibrate --repeat 2", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--repeat" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_places_that_the_plan_has_not_are_refused(tmp_path: Path) -> None:
    plan = {
        "executor_name": "thread",
        "executor": {},
        "connector_name": "local",
        "connector": {},
        "workload": {"stage_task_counts": [1], "stage_bytes_sizes": [1, 1], "task_sleep": 0},
        "general": {},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = harness("run --plan plan.json --places 1 99", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--places 1 99: the plan has runs 1 to 3" in done.stderr


def test_a_command_names_the_extra_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.core.interrupt.install", lambda: None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "harness.reproduce.writer", raising=False)
    monkeypatch.delitem(sys.modules, "harness.reproduce.pack", raising=False)
    monkeypatch.delitem(sys.modules, "harness.cli.pack", raising=False)
    assert main.main(["pack", "runs/x", "-o", "x.tar.zst"]) == 3
    assert capsys.readouterr().err == (
        "harness pack: error: needs the Python package zstandard: pip install"
        " 'workflow-memory-harness[reproduce]' (in a checkout: scripts/venv full)\n"
    )


@pytest.mark.parametrize("chosen", ["--executor dask", "--ps-connector redis"])
def test_a_plug_in_names_the_extra_it_lacks(
    chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.core.interrupt.install", lambda: None)
    for module in ("harness.executors.dask.find_spec", "harness.connectors._protocol.find_spec"):
        monkeypatch.setattr(module, lambda _: None)
    flags = {"--executor": "thread", "--ps-connector": "file", **dict([chosen.split()])}
    line = " ".join(f"{flag} {value}" for flag, value in flags.items())
    more = "--ps-host h --ps-port 1" if "redis" in line else f"--ps-file-dir {tmp_path}"
    assert main.main(["run", *line.split(), *more.split(), *PLAN.split()]) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"harness run: error: {chosen}: needs")
    assert f"pip install 'workflow-memory-harness[{chosen.split()[1]}]'" in error
