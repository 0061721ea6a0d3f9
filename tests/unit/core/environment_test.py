"""Commands in surroundings that hold foreign modules, or lack what is usually there."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.core import environment
from harness.core.environment import child_environment, home_directory, put_foreign_last

ROOT = str(Path(harness.__file__).parents[1])
RUN = (
    "run --executor thread --ps-connector local --data-management none --stage-task-counts 1"
    " --stage-bytes-sizes 1KB 1KB --task-sleep 0"
)
FOREIGN = ("random", "json", "logging", "docker", "redis", "tabulate", "pydantic", "tempfile")


def run(
    line: str, cwd: Path, *, own: bool = True, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([ROOT] * own + [text for text in (changes.pop("path", None),) if text])
    env = dict(os.environ) | {"PYTHONPATH": path, "PYTHONSAFEPATH": None} | changes
    return subprocess.run(
        [sys.executable, "-m", "harness", *line.split()],
        cwd=cwd,
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def polluted(tmp_path: Path) -> Path:
    folder = tmp_path / "polluted"
    folder.mkdir()
    for name in FOREIGN:
        (folder / f"{name}.py").write_text("raise SystemExit('foreign code was executed')\n")
    return folder


def assert_ran(done: subprocess.CompletedProcess[str], runs: Path) -> None:
    assert (done.returncode, "foreign code" in done.stdout + done.stderr) == (0, False)
    (directory,) = runs.iterdir()
    with (directory / "outcomes.csv").open() as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["ok"]
    # A sampler process of our own wrote it.
    assert (directory / "results-memory.csv").stat().st_size > 100


def test_foreign_modules_in_the_working_directory_are_not_taken(
    polluted: Path, tmp_path: Path
) -> None:
    assert_ran(run(f"{RUN} --run-dir {tmp_path}/runs", polluted), tmp_path / "runs")


def test_foreign_modules_in_pythonpath_are_not_taken(polluted: Path, tmp_path: Path) -> None:
    done = run(f"{RUN} --run-dir {tmp_path}/runs", tmp_path, path=str(polluted))
    assert_ran(done, tmp_path / "runs")


def test_another_harness_in_pythonpath_is_not_taken_by_children(
    polluted: Path, tmp_path: Path
) -> None:
    (polluted / "harness").mkdir()
    (polluted / "harness" / "__init__.py").write_text("raise SystemExit('foreign code')\n")
    done = run(f"{RUN} --run-dir {tmp_path}/runs", Path(ROOT), own=False, path=str(polluted))
    assert_ran(done, tmp_path / "runs")


def test_what_only_pythonpath_has_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/own-plug-ins")
    monkeypatch.setattr(environment, "_OWN_ROOT", "/checkout")
    monkeypatch.setattr(sys, "path", ["", "/own-plug-ins", "/checkout", "/usr/lib/python3"])
    put_foreign_last()
    assert sys.path == ["/checkout", "/usr/lib/python3", "", "/own-plug-ins"]
    sys.path.append("/with:colon")
    child = child_environment()
    assert child is not None
    assert child["PYTHONPATH"] == "/checkout:/usr/lib/python3::/own-plug-ins"
    monkeypatch.delenv("PYTHONPATH")
    assert child_environment() is None


def test_no_home_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda _: "~")
    with pytest.raises(FileNotFoundError, match="HOME"):
        home_directory()
    for home in (None, "/nonexistent", "/proc"):
        done = run(f"list {tmp_path}", tmp_path, HOME=home, XDG_STATE_HOME=None)
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("folder", "locale", "code"),
    [
        (b"r\xff", "C.UTF-8", 2),
        (b"r\xc3\xa9 : $x,'", "C.UTF-8", 0),
        # Python itself then reads paths as ASCII.
        (b"r\xc3\xa9", "C", 2),
        (b"r : $x,'", "C", 0),
    ],
)
def test_a_run_directory_of_any_name(folder: bytes, locale: str, code: int, tmp_path: Path) -> None:
    command = [os.fsencode(sys.executable), b"-m", b"harness", *RUN.encode().split()]
    variables = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [*command, b"--run-dir", folder],
        cwd=tmp_path,
        env=dict(os.environ) | variables,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    made = [os.fsencode(path.name) for path in tmp_path.iterdir()]
    assert made == ([] if code else [folder])
    if code:
        assert done.stderr.count(b"\n") == 1
        assert b"--run-dir" in done.stderr
