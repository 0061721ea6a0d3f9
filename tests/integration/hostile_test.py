"""Containers that turn against their machine: the host reads what they leave in their folder.

Every kind of thing is put in place of every file, by a process of a worker, without rights, while a
real bench runs. Files of the host must stay as they are, and the bench must come to an end that it
can name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from harness.images import docker_cli
from tests.integration.conftest import (
    Bench,
    containers_of,
    finish_bench,
    left_behind,
    project_of,
    run_bench,
    start_bench,
)

# One packs and loads 200 MB.
pytestmark = pytest.mark.timeout(900)

PLAN = [
    *("--executor", "dask", "--dask-workers", "1", "--ps-connector", "redis"),
    *("--data-management", "none", "default-proxy", "--stage-task-counts", "1"),
    *("--stage-bytes-sizes", "1KB", "1KB", "--task-sleep", "0.5", "--repeat", "3"),
]
# A runner whose files are gone may wait for answers until its time is up.
BOUND = ["--run-timeout", "45"]

# In the worker: argument 1 is a file of the host, argument 2 what to do.
ATTACK = r"""
import os, socket, sys, time
target, what = sys.argv[1], sys.argv[2]
os.chdir("/harness/run")
HOSTS = ["memory-cgroup.csv", "memory-docker.csv", "peaks.csv", "ledger.csv", "quality.json",
         "quality.tmp", "sampling.json", "sampling.tmp", "bench.json", "manifest.tmp", "plan.tmp",
         "report.html", "summary.json", ".reserve", "logs", "stacks", "compose", "figures",
         "tables", "known.json", "calibration.json", "outcomes.csv-new", "report.tmp", "replies",
         "shared"]
OWN = ["marks.csv", "results.csv", "outcomes.csv", "objects.csv", "tasks.csv", "phases.csv",
       "storage.csv", "predictions.csv", "memory-inside.csv", "results-memory.csv", "log.txt",
       "manifest.json", ".ending", ".sampling", "truth.csv", "workers.csv"]
LINES = [b"0001-none-1 ssh-rsa AAAA chosen,run_start,1,1\n", b"../../x,run_end,1,1\n",
         b"9999-none-1,none,1,ok,chosen,\n", b"0002-none-2,none,2,ok,\x1b[31mchosen,\n",
         b"nan,inf,1e999,-1\n", b"\xff\xfe\x00,\n", b",".join([b"1"] * 5000) + b"\n", b"x" * 100000]

def attempt(act):
    try:
        act()
    except OSError:
        pass

def unlink(name):
    attempt(lambda: os.unlink(name))
    attempt(lambda: os.rename(name, "." + str(time.monotonic_ns())))

def bind(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)

def huge(name):
    with open(name, "wb") as file:
        file.truncate(1 << 42)

def grow(name):
    with open(name, "ab") as file:
        file.write(b"".join(LINES) * 20)

KINDS = [lambda n: os.symlink(target, n), lambda n: os.symlink("/etc/passwd", n),
         lambda n: os.symlink("/none/such", n), lambda n: os.symlink(os.path.dirname(target), n),
         os.mkfifo, bind, lambda n: os.mknod(n, 0o60666, os.makedev(8, 0)),
         lambda n: os.mknod(n, 0o20666, os.makedev(1, 5)), os.mkdir, huge, grow,
         lambda n: os.link("/etc/passwd", n), lambda n: os.link(target, n)]

if what == "beside":
    for name in HOSTS:
        attempt(lambda: os.symlink(target, name))
    for name in ("../x", "../../x", "../../../x", "x\nchosen", "x\x1b[31m"):
        attempt(lambda: os.symlink(target, name))
        attempt(lambda: open(name, "w").close())
    for name in ("plan.json", ".marks-ack", ".settled"):
        unlink(name)
        attempt(lambda: os.symlink(target, name))
        attempt(lambda: open(name, "ab").write(b"chosen"))
elif what == "rows":
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for name in OWN:
            attempt(lambda: grow(name))
        time.sleep(0.2)
else:
    end, turn = time.monotonic() + 15, 0
    while time.monotonic() < end:
        for place, name in enumerate(OWN + HOSTS):
            unlink(name)
            attempt(lambda: KINDS[(turn + place) % len(KINDS)](name))
        turn += 1
        time.sleep(0.05)
print("done")
"""


def tree(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return everything below a folder, with owner, mode and size."""
    found = {}
    for each in path.rglob("*"):
        status = each.lstat()
        found[str(each)] = (status.st_uid, status.st_mode, status.st_size)
    return found


class Attack(threading.Thread):
    """Tries something in a worker as soon as a bench's first run has begun.

    Args:
        client: the engine.
        runs: where the bench makes its run directory.
        what: the part of ``ATTACK``.
        canary: a file of the host that must stay as it is.
    """

    def __init__(self, client: DockerClient, runs: Path, what: str, canary: Path) -> None:
        super().__init__()
        self.said = ""
        self._client = client
        self._runs = runs
        self._words = [str(canary), what]
        self.start()

    def run(self) -> None:
        project = project_of(self._runs)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = containers_of(self._client, project)
            workers = [c for c in found if "-worker-" in str(c.name)]
            # There must be files to replace.
            if workers and any(self._runs.glob("*/shared/*/outcomes.csv")):
                done = workers[0].exec_run(["python", "-c", ATTACK, *self._words])
                self.said = str(done.output)
                return
            time.sleep(0.05)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a file of the host's; nothing in its folder may change."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    canary = outside / "authorized_keys"
    canary.write_text("keep\n")
    before = tree(outside)
    yield canary
    assert canary.read_text() == "keep\n"
    assert tree(outside) == before


def check(bench: Bench, client: DockerClient) -> None:
    """Check that a bench has come to an end it can name and has left nothing odd."""
    text = bench.out + bench.err
    assert "Traceback" not in text
    assert "fault of the harness" not in text
    assert "\x1b" not in text
    assert bench.rows("outcomes.csv"), text
    for path in bench.directory.rglob("*"):
        assert not path.is_symlink(), path
        if path.is_file() and path.suffix in {".csv", ".json"}:
            assert b"ssh-rsa" not in path.read_bytes(), path
            assert path.stat().st_size < 64 << 20, path
    assert not (bench.directory / "shared").exists()
    assert bench.directory.stat().st_uid == os.geteuid()
    assert left_behind(client, bench.project) == set()


@pytest.mark.parametrize("what", ["beside", "rows", "in place"])
def test_nothing_in_the_shared_folder_makes_the_host_touch_anything_else(
    what: str, client: DockerClient, tmp_path: Path, canary: Path
) -> None:
    runs = tmp_path / "runs"
    process = start_bench(runs, *PLAN, *BOUND, report=True)
    attack = Attack(client, runs, what, canary)
    bench = finish_bench(process, runs)
    attack.join()
    assert attack.said, f"nothing was tried\n{bench.out}\n{bench.err}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "runs"]
    assert bench.code in (0, 1, 3), bench.out + bench.err
    check(bench, client)
    if what == "beside":
        assert bench.code == 0, bench.out + bench.err
        assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * 6


def test_a_strangers_bundle_is_run_again_as_safely(
    client: DockerClient, tmp_path: Path, canary: Path
) -> None:
    published = run_bench(tmp_path / "published", *PLAN)
    bundle = tmp_path / "bundle.tar.zst"
    packing = ["pack", str(published.directory), "-o", str(bundle)]
    subprocess.run([sys.executable, "-m", "harness", *packing], check=True, capture_output=True)
    runs = tmp_path / "again"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "reproduce", str(bundle), "--run-dir", str(runs), *BOUND],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    attack = Attack(client, runs, "in place", canary)
    again = finish_bench(process, runs)
    attack.join()
    assert attack.said, f"nothing was tried\n{again.out}\n{again.err}"
    assert again.code in (1, 3), again.out + again.err
    check(again, client)
    docker_cli.remove([image["reference"] for image in again.manifest["images"].values()])
