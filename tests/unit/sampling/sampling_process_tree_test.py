"""When the sampler beside a worker ends, and which processes are below the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from harness.sampling import process_tree
from harness.sampling.process_tree import ProcessTree, _Parent
from harness.sampling.spool import LEASE, LEASE_S
from tests.fake_engine import FakeClock


class Time(FakeClock):
    """A clock whose time of day a lease can be compared with."""

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(process_tree, "time", time)
    return time


def lease(place: Path, time: Time) -> Path:
    own = place / "worker"
    own.mkdir()
    (place / LEASE).touch()
    os.utime(place / LEASE, (time.now_s, time.now_s))
    return own


def test_a_lease_that_is_renewed_lets_it_go_on(tmp_path: Path, time: Time) -> None:
    own = lease(tmp_path, time)
    parent = _Parent(own)
    for _ in range(10):
        assert not parent.look()
        time.sleep(LEASE_S / 2)
        os.utime(tmp_path / LEASE, (time.now_s, time.now_s))
    assert not parent.forgotten


def test_a_lease_that_is_not_renewed_ends_it(tmp_path: Path, time: Time) -> None:
    parent = _Parent(lease(tmp_path, time))
    waited_s = 0
    while not parent.look():
        time.sleep(1)
        waited_s += 1
    # It is looked at every five seconds.
    assert waited_s == LEASE_S + 5
    assert parent.forgotten


def test_a_spool_that_is_gone_ends_it(tmp_path: Path, time: Time) -> None:
    assert _Parent(tmp_path / "none" / "worker").look()


def test_the_end_of_standard_input_ends_it(
    tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = _Parent(lease(tmp_path, time))
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", stdin)
        parent.sleep(0)
        assert not parent.look()
        os.write(writing, b"x")
        parent.sleep(60)
        assert not parent.look()
        os.close(writing)
        parent.sleep(60)
        assert parent.look()
    assert not parent.forgotten


def test_a_process_and_those_below_it_but_no_samplers() -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c',"
        " 'print(flush=True); input()', sys.argv[1]], stdin=subprocess.PIPE);"
        " print(child.pid, flush=True); input()"
    )
    for argument, counted in (("a.worker", 2), ("harness.sampling.inside", 0)):
        with subprocess.Popen(
            [sys.executable, "-c", code, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            # A process that is just being started has no command line to be known by.
            child = int(b"".join(process.stdout.readline() for _ in range(2)))
            tree = ProcessTree(process.pid)
            assert tree.rss().n_procs == counted
            assert not tree.ended
            psutil.Process(child).kill()
            process.kill()
        assert tree.ended
        # The child is gone when whoever took it over has noticed.
        deadline = monotonic() + 30
        while tree.rss().n_procs and monotonic() < deadline:
            sleep(0.01)
            tree.refresh()
        assert tree.rss().n_procs == 0


def test_a_process_that_is_not_there_cannot_be_sampled() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        ProcessTree(2**22)
