"""Plans as steps of Slurm jobs: a real Slurm, two nodes with their own clocks, an ordinary user."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import run_bench

# It makes namespaces and cgroups.
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
WORKLOAD = (
    "--stage-task-counts 1 3 1 --stage-bytes-sizes 1MB 5MB 5MB 1KB --task-sleep 0.2 --no-report"
)
# The nodes' clocks are 5000 s and 9000 s ahead (scripts/slurm).
SHIFT_NS = (5000 - 9000) * 10**9


# The address of the login node (scripts/slurm).
LOGIN = "10.213.89.1"
# Two nodes with a pool of two workers on each.
PARSL_CONFIG = f"""
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider
provider = SlurmProvider(
    partition="main", nodes_per_block=2, init_blocks=1, max_blocks=1, walltime="00:05:00",
    exclusive=False, launcher=SrunLauncher(), cmd_timeout=30,
)
htex = HighThroughputExecutor(
    address="{LOGIN}", max_workers_per_node=2, cores_per_worker=0.1, provider=provider
)
config = Config(executors=[htex], strategy="none")
"""
# What dask-jobqueue submits, and what its user does.
DASK_SCRIPT = f"""
dask scheduler --no-dashboard --host {LOGIN} >scheduler.log 2>&1 &
for node in w1 w2; do
    sbatch --nodelist $node --output $node.out --wrap "python -m distributed.cli.dask_worker \
        tcp://{LOGIN}:8786 --name $node --nthreads 1 --memory-limit 1GB --nanny --no-dashboard"
done
until [ "$(grep -c 'Register worker' scheduler.log)" = 2 ]; do sleep 0.2; done
python -m harness run --executor dask --dask-scheduler tcp://{LOGIN}:8786 "$@"
code=$?
scancel --name wrap --user astrid
kill %1
exit $code
"""


@dataclass
class Cluster:
    """A cluster of a login node and two nodes."""

    environment: dict[str, str]
    home: Path

    def call(self, *words: str, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "scripts" / "slurm"), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of the user's on the login node."""
        return subprocess.Popen(
            [str(ROOT / "scripts" / "slurm"), "run", "--", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def newest(self, runs: str) -> Path:
        """Return the one run directory below a folder of the user's home."""
        (found,) = (self.home / runs).iterdir()
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    environment = os.environ | {"SLURM_CLUSTER": f"p{os.getpid()}", "SLURM_NET": "10.213.89"}
    environment.pop("PYTHONPATH", None)
    made = Cluster(environment, Path())
    up = made.call("up")
    assert up.returncode == 0, up.stderr + up.stdout
    made.home = Path(made.call("home").stdout.strip())
    yield made
    down = made.call("down")
    assert down.returncode == 0, down.stderr


def rows(directory: Path, name: str) -> list[dict[str, str]]:
    with (directory / name).open(newline="") as file:
        return list(csv.DictReader(file))


def outcomes(directory: Path) -> list[str]:
    return [row["outcome"] for row in rows(directory, "outcomes.csv")]


def manifest(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return found


def wait_for(said: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def nothing_runs(cluster: Cluster) -> bool:
    """Say whether no process of the user and no folder of a bench is left on the nodes."""
    left = [
        cluster.call("on", node, "--", "sh", "-c", "pgrep -u 5001 -l; ls -d /tmp/harness-*").stdout
        for node in ("w1", "w2")
    ]
    return left == ["", ""]


def test_dask_in_an_allocation_is_measured_on_all_nodes(cluster: Cluster) -> None:
    flags = (
        "--executor dask --dask-workers 4 --ps-connector redis --data-management none owned-proxy"
        f" --repeat 2 --isolate none --run-dir dask {WORKLOAD}"
    )
    command = f"salloc -N2 --time 5 python -m harness slurm {flags}"
    done = cluster.call("run", "--", *command.split())
    assert done.returncode == 0, done.stderr
    directory = cluster.newest("dask")
    assert outcomes(directory) == ["ok"] * 4
    # The clocks: what is known of them is within the stated bound.
    nodes = rows(directory, "nodes.csv")
    moments = [row["moment"] for row in nodes if row["node"] == "w2"]
    assert (moments[0], moments[-1]) == ("start", "end")
    assert len(moments) >= 3
    assert {(row["node"], row["clock"]) for row in nodes} == {("w1", "same"), ("w2", "measured")}
    for row in nodes:
        known = {"w1": 0, "w2": SHIFT_NS}[row["node"]]
        assert abs(int(row["offset_ns"]) - known) <= int(row["error_ns"]) < 50_000_000
    # All series are on the clock of the runner's node.
    marks = [int(row["t_mono_ns"]) for row in rows(directory, "marks.csv")]
    for view in ("cgroup", "inside"):
        samples = rows(directory, f"memory-{view}.csv")
        runs = {(row["container"], row["run_id"]) for row in samples}
        names = {"runner-1", "scheduler-1", "redis-1", *(f"worker-{n}" for n in range(1, 5))}
        assert {name for name, _ in runs} == names
        assert {run for _, run in runs} >= {r["run_id"] for r in rows(directory, "outcomes.csv")}
        measured = [int(row["t_mono_ns"]) for row in samples if row["run_id"]]
        assert min(marks) - 10**9 < min(measured) < max(measured) < max(marks) + 10**9
    # A fresh step has a fresh mark, which the first run raises.
    peaks = rows(directory, "peaks.csv")
    first = {row["name"]: row for row in peaks if row["run_id"] == "0001-none-1"}
    assert first["runner-1"]["label"] == first["runner"]["label"] == "kernel"
    assert {"worker@w1", "worker@w2", "topology@w1", "topology@w2"} <= set(first)
    assert not {"worker", "topology"} & set(first)
    # The mark of a step is that of all its tasks, and slurmstepd's.
    assert first["worker@w1"]["label"] == "kernel"
    parts = sum(int(first[f"worker-{n}"]["baseline_bytes"]) for n in (1, 2))
    assert 0 <= int(first["worker@w1"]["baseline_bytes"]) - parts < 5_000_000
    # Tasks have their times, on whatever node they ran.
    tasks = rows(directory, "tasks.csv")
    assert all(row["started_mono_ns"] for row in tasks)
    assert {row["worker"].split(":")[0] for row in tasks} == {"w1", "w2"}
    for row in tasks:
        assert int(row["submitted_mono_ns"]) < int(row["finished_mono_ns"]) + 10**7
    found = manifest(directory)["slurm"]
    assert found["workers"] == {"w1": ["worker-1", "worker-2"], "w2": ["worker-3", "worker-4"]}
    assert nothing_runs(cluster)


def test_parsl_in_a_job_that_a_script_describes(cluster: Cluster) -> None:
    flags = (
        "--executor parsl --parsl-executor htex --parsl-max-workers 2 --ps-connector file"
        f" --data-management owned-proxy --run-dir parsl {WORKLOAD}"
    )
    script = "--script job.sh --sbatch=--nodes=2 --sbatch=--output=job.out --"
    written = cluster.call("run", "--", *f"python -m harness slurm {script} {flags}".split())
    assert written.returncode == 0, written.stderr
    assert written.stdout == "wrote job.sh: 'sbatch job.sh' submits it\n"
    done = cluster.call("run", "--", "sbatch", "--wait", "job.sh")
    assert done.returncode == 0, (cluster.home / "job.out").read_text()
    directory = cluster.newest("parsl")
    assert outcomes(directory) == ["ok"]
    assert manifest(directory)["executor"]["workers"] == 2
    containers = {row["container"] for row in rows(directory, "memory-cgroup.csv")}
    assert containers == {"runner-1", "worker-1", "worker-2"}
    assert not list(directory.glob(".private*"))


def test_workers_in_jobs_of_somebody_elses_cluster_are_seen_from_inside_and_outside(
    cluster: Cluster,
) -> None:
    (cluster.home / "config.py").write_text(PARSL_CONFIG)
    (cluster.home / "dask.sh").write_text(DASK_SCRIPT)
    flags = (
        "--data-management none owned-proxy --stage-task-counts 1 3 1 --task-sleep 0.2"
        " --stage-bytes-sizes 1MB 20MB 20MB 1KB --ps-connector file"
        " --ps-file-dir /home/astrid/store"
    )
    parsl = "--executor parsl --parsl-config config.py --parsl-max-workers 4"
    # Both at once: they wait more than they work.
    running = [
        cluster.start("bash", "dask.sh", *f"{flags} --run-dir jobs-dask".split()),
        cluster.start(*f"python -m harness run {parsl} {flags} --run-dir jobs-parsl".split()),
    ]
    for process in running:
        _, said = process.communicate(timeout=280)
        assert process.returncode == 0, said
    for name, per_node in (("dask", 1), ("parsl", 2)):
        directory = cluster.newest(f"jobs-{name}")
        assert outcomes(directory) == ["ok", "ok"]
        assert "not seen from outside" not in (directory / "log.txt").read_text()
        workers = rows(directory, "workers.csv")
        assert sorted(row["host"] for row in workers) == ["w1"] * per_node + ["w2"] * per_node
        runs = {row["run_id"] for row in rows(directory, "outcomes.csv")}
        for view in ("inside", "cgroup"):
            samples = rows(directory, f"memory-{view}.csv")
            found = {(row["run_id"], row["container"]) for row in samples if row["run_id"]}
            assert found == {(run, f"worker-{n}") for run in runs for n in (1, 2)}
            # They are on the clock of the login node, where the runner is.
            marks = [int(row["t_mono_ns"]) for row in rows(directory, "marks.csv")]
            times = [int(row["t_mono_ns"]) for row in samples if row["run_id"]]
            assert min(marks) - 10**8 < min(times) < max(times) < max(marks) + 10**8
        for row in rows(directory, "nodes.csv"):
            known = {"home": 0, "w1": -5000 * 10**9, "w2": -9000 * 10**9}[row["node"]]
            assert abs(int(row["offset_ns"]) - known) <= int(row["error_ns"]) < 50_000_000
        # The marks of the jobs' steps have risen since the workers came up.
        peaks = {r["name"]: r for r in rows(directory, "peaks.csv") if "none" in r["run_id"]}
        assert peaks["worker@w1"]["label"] == peaks["worker@w2"]["label"] == "kernel"
        for worker in ("worker-1", "worker-2"):
            peak, baseline = (int(peaks[worker][f"{of}_bytes"]) for of in ("peak", "baseline"))
            assert peaks[worker]["label"] == "kernel"
            assert peak - baseline > 15_000_000
            used = [
                int(row["usage_bytes"])
                for row in samples
                if "none" in row["run_id"] and row["container"] == worker
            ]
            assert peak >= max(used)
        assert not (directory / ".marks-ack").exists()
    wait_for(lambda: nothing_runs(cluster))
    left = [cluster.call("on", n, "--", "ls", "/tmp").stdout for n in ("w1", "w2")]
    assert "workflow-memory-harness" not in "".join(left)


def test_a_worker_that_is_killed_on_another_node_is_named(cluster: Cluster) -> None:
    flags = (
        "--executor dask --dask-workers 2 --ps-connector file --data-management none owned-proxy"
        " --stage-task-counts 2 2 --stage-bytes-sizes 1KB 1KB 1KB --task-sleep 2 --no-report"
        " --isolate run --run-dir killed"
    )
    running = cluster.start(*f"salloc -N2 --time 5 python -m harness slurm {flags}".split())

    def started() -> bool:
        found = list((cluster.home / "killed").glob("*/shared/topology-1/marks.csv"))
        return bool(found) and "run_start" in found[0].read_text()

    wait_for(started)
    killed = cluster.call("on", "w2", "--", "pkill", "-KILL", "-f", "^dask worker")
    assert killed.returncode == 0
    _, said = running.communicate(timeout=120)
    directory = cluster.newest("killed")
    found = rows(directory, "outcomes.csv")
    assert [row["outcome"] for row in found] == ["killed", "ok"], said
    assert found[0]["service"] == "worker-2"
    assert "worker-2 on w2 ended" in found[0]["reason"]
    assert running.returncode == 1
    assert nothing_runs(cluster)


def test_an_agent_that_freezes_ends_the_bench_in_time(cluster: Cluster) -> None:
    flags = (
        "--executor dask --dask-workers 2 --ps-connector file --data-management none"
        " --stage-task-counts 2 2 --stage-bytes-sizes 1KB 1KB 1KB --task-sleep 20 --no-report"
        " --run-dir frozen"
    )
    running = cluster.start(*f"salloc -N2 --time 5 python -m harness slurm {flags}".split())

    def started() -> bool:
        found = list((cluster.home / "frozen").glob("*/shared/topology-1/marks.csv"))
        return bool(found) and "run_start" in found[0].read_text()

    wait_for(started)
    frozen = cluster.call("on", "w2", "--", "pkill", "-STOP", "-f", "harness.processes.node")
    assert frozen.returncode == 0
    began = time.monotonic()
    said: list[str] = []
    assert running.stderr is not None
    for line in running.stderr:
        said.append(line)
        if "a memory sampler ended" in line:
            break
    assert time.monotonic() - began < 15
    assert "w2: it has said nothing for 8 s" in said[-1]
    running.wait(timeout=120)
    assert running.returncode == 3
    assert outcomes(cluster.newest("frozen")) == ["infrastructure"]
    # Slurm kills what is frozen: its folder stays, and is this test's to remove.
    cluster.call("on", "w2", "--", "sh", "-c", "rm -rf /tmp/harness-*")


def test_a_bundle_is_reproduced_without_an_engine(cluster: Cluster, tmp_path: Path) -> None:
    # No engine is in sight of the cluster's machines; the bundle is made outside of them.
    bench = run_bench(
        tmp_path / "runs",
        *("--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"),
        *("--data-management", "owned-proxy", "--repeat", "4"),
        *("--stage-task-counts", "1", "2", "--stage-bytes-sizes", "1MB", "1MB", "1MB"),
        *("--task-sleep", "0.2"),
    )
    assert bench.code == 0, bench.err
    bundle = cluster.home / "x.tar.zst"
    packed = subprocess.run(
        [sys.executable, "-m", "harness", "pack", str(bench.directory), "-o", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert packed.returncode == 0, packed.stderr
    again = "python -m harness reproduce --runtime bwrap --threshold 1000% x.tar.zst --run-dir"
    # On one machine, where an ordinary user has no cgroups: resident memory on both sides.
    alone = cluster.call("run", "--", *again.split(), "alone", timeout_s=280)
    assert alone.returncode == 0, alone.stderr + alone.stdout
    assert "Verdict: reproduced" in alone.stdout
    assert "memory is of the view" not in alone.stdout
    directory = cluster.newest("alone")
    assert manifest(directory)["runtime"] == "bwrap"
    ids = {stack: found["id"] for stack, found in bench.manifest["images"].items()}
    assert {s: found["id"] for s, found in manifest(directory)["images"].items()} == ids
    # On the nodes of a job: the steps' cgroups.
    on_nodes = cluster.call("run", "--", "salloc", "-N2", *again.split(), "nodes", timeout_s=280)
    assert on_nodes.returncode == 0, on_nodes.stderr + on_nodes.stdout
    assert "Verdict: reproduced" in on_nodes.stdout
    containers = {row["container"] for row in rows(cluster.newest("nodes"), "memory-cgroup.csv")}
    assert containers == {"runner-1", "scheduler-1", "redis-1", "worker-1", "worker-2"}
    assert nothing_runs(cluster)
    assert not list(cluster.newest("nodes").glob(".images-*"))
