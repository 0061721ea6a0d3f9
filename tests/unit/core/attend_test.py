"""Processes that attend, asked as a runner asks them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.core import trace
from harness.core.attend import (
    VARIABLE,
    ask_start,
    ask_stop,
    attended_children,
    attending_environment,
)

# It allocates when it is told to, and forks or starts another one.
_PROGRAM = """
import os, subprocess, sys, time
def hold(size):
    return bytes(size)
kept = []
for line in sys.stdin:
    word, _, size = line.strip().partition(" ")
    if word == "hold":
        kept.append(hold(int(size)))
    elif word == "fork":
        if os.fork() == 0:
            time.sleep(30)
    elif word == "another":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    print("done", flush=True)
"""


class Program:
    """A Python process below a folder of sockets."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=attending_environment(os.environ, str(folder)),
            start_new_session=True,
        )

    def do(self, words: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.communicate()

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}-{self.process.pid}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    program = Program(folder)
    program.do("hold 0")
    wait_for(folder, 1)
    yield program
    program.end()


def wait_for(folder: Path, sockets: int) -> None:
    deadline = time.monotonic() + 20
    while len(list(folder.glob("*.sock"))) < sockets:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces"
    path.mkdir(exist_ok=True)
    return path


def test_a_process_that_runs_nothing_for_others_is_traced(
    folder: Path, program: Program, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    from memray import FileReader  # noqa: PLC0415

    assert ask_start(folder, str(traces(tmp_path))) == {program.name: ""}
    program.do("hold 10000000")
    assert ask_stop(folder) == {program.name: ""}

    with FileReader(traces(tmp_path) / f"{program.name}{trace.SUFFIX}") as reader:
        (record,) = (
            record
            for record in reader.get_high_watermark_allocation_records()
            if record.size > 9_000_000
        )
        # All frames, although the process had begun to run long before.
        assert [function for function, _, _ in record.stack_trace()] == ["hold", "<module>"]


def test_one_that_begins_later_starts_its_own_trace_and_a_fork_can_be_asked(
    folder: Path, program: Program, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    ask_start(folder, str(traces(tmp_path)))
    program.do("another")
    wait_for(folder, 2)
    deadline = time.monotonic() + 20
    while len(list(traces(tmp_path).glob(f"*{trace.SUFFIX}"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.do("fork")
    wait_for(folder, 3)

    answers = ask_stop(folder)

    assert len(answers) == 3
    assert set(answers.values()) == {""}
    assert not (folder / "tracing").exists()


def test_one_that_has_ended_is_nobody(folder: Path, program: Program, tmp_path: Path) -> None:
    program.end()

    assert ask_start(folder, str(tmp_path)) == {}
    assert not list(folder.glob("*.sock"))


def test_one_that_does_not_answer_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.core.attend._TIMEOUT_S", 0.1)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "host-7.sock"))
        silent.listen()
        assert ask_start(folder, str(tmp_path)) == {"host-7": "has not answered within 0.1 s"}


def test_what_holds_nothing_for_anybody_does_not_attend(folder: Path) -> None:
    command = [sys.executable, "-c", "import multiprocessing.resource_tracker"]
    environment = attending_environment(os.environ, str(folder))

    subprocess.run(command, env=environment, check=True, timeout=60)

    assert not folder.exists()


def test_a_process_starts_all_the_same_where_it_cannot_attend(tmp_path: Path) -> None:
    environment = attending_environment(os.environ, str(tmp_path / ("x" * 150)))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(len(sys.path))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip().isdigit()
    assert "this process is not traced" in done.stderr


def test_children_attend_for_as_long_as_they_are_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/else/where")
    monkeypatch.delenv(VARIABLE, raising=False)
    with attended_children():
        folder = Path(os.environ[VARIABLE])
        assert folder.is_dir()
        first, *others = os.environ["PYTHONPATH"].split(os.pathsep)
        assert (Path(first) / "sitecustomize.py").is_file()
        assert others == ["/else/where"]
    assert os.environ["PYTHONPATH"] == "/else/where"
    assert VARIABLE not in os.environ
    assert not folder.exists()
