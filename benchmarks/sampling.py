"""What sampling costs, outside of the containers and in them, and how well it keeps its clock.

``python benchmarks/sampling.py [--containers 6] [--seconds 20] [--inside-interval S] [--busy N]``
starts idle containers whose first process is the inside sampler, samples them as a bench does
(cgroup files every 20 ms, the engine's stats streams), first on an otherwise idle machine and then
beside N processes that never rest (by default one for each core), and prints the figures. Targets:
all sampling outside at most 2 % of one core; at least 98 % of the ticks outside and 95 % inside
while the cores are busy. The whole apparatus, with the inside samplers and the
host-wide profiler of the runner, is printed beside it.

CPU figures are the processes' own CPU clocks, so other load on the machine does not add to them
(but cold caches do). The engine's side of the streams is printed beside them.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import docker
from _benches import idle_containers
from docker.errors import DockerException
from docker.models.containers import Container

from harness.core import interrupt
from harness.results.directory import RunDirectory
from harness.sampling.agent.relay import child_agent
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.sampling.docker_stats import DockerView
from harness.sampling.host import HostProfiler
from harness.sampling.report import merge_reports
from harness.topology.calibrate import engine_cpu_between, engine_cpu_s
from harness.topology.sampling import default_inside_interval_s

CPU_TARGET = 0.02
KEPT_TARGET = 0.98
INSIDE_KEPT_TARGET = 0.95


@dataclass(frozen=True)
class Window:
    """One measured stretch of time; CPU shares are of one core."""

    cgroup_cpu: float
    streams_cpu: float
    inside_cpu: float
    host_cpu: float
    engine_cpu: float
    kept: float
    inside_kept: float
    inside_mb: float
    late_median_ms: float
    late_p99_ms: float
    late_max_ms: float
    priority: str


def main() -> int:
    """Measure and print; the exit code says whether the targets were met."""
    interrupt.install()  # SIGTERM, too, must remove the containers
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--containers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--inside-interval", type=float, help="seconds (default: as in a bench)")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, metavar="N")
    arguments = parser.parse_args()
    inside_s = arguments.inside_interval or default_inside_interval_s(arguments.containers)
    client = docker.from_env(max_pool_size=arguments.containers + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        idle_containers(client, arguments.containers, folder, inside_s) as containers,
    ):
        idle_engine = engine_share(arguments.seconds / 2)
        rows = RunDirectory(Path(folder)).memory("inside")
        quiet = measure(client, containers, arguments.seconds, rows, inside_s)
        with busy_processes(arguments.busy):
            busy = measure(client, containers, arguments.seconds, rows, inside_s)
    print(
        f"{arguments.containers} containers, {arguments.seconds:g} s each, read from inside each"
        f" {inside_s * 1e3:.0f} ms; % of one core"
    )
    print(f"{'':34}{'quiet':>12}{f'{arguments.busy} busy':>16}")
    for name, of_quiet, of_busy in (
        ("agent (cgroup sampler)", quiet.cgroup_cpu, busy.cgroup_cpu),
        ("home: stats streams, agent's rows", quiet.streams_cpu, busy.streams_cpu),
        ("all sampling outside", outside(quiet), outside(busy)),
        ("inside samplers, all of them", quiet.inside_cpu, busy.inside_cpu),
        ("host-wide profiler (in the runner)", quiet.host_cpu, busy.host_cpu),
        ("the whole apparatus", whole(quiet), whole(busy)),
        ("ticks kept at 20 ms, outside", quiet.kept, busy.kept),
        ("ticks kept, inside", quiet.inside_kept, busy.inside_kept),
    ):
        print(f"{name:34}{of_quiet:12.2%}{of_busy:16.2%}")
    for name in ("late_median_ms", "late_p99_ms", "late_max_ms", "inside_mb"):
        print(f"{name:34}{getattr(quiet, name):12.2f}{getattr(busy, name):16.2f}")
    print(f"engine's side of the streams, quiet: {quiet.engine_cpu - idle_engine:.2%}")
    print(f"priority: {quiet.priority}")
    met = outside(quiet) <= CPU_TARGET and busy.kept >= KEPT_TARGET
    met = met and busy.inside_kept >= INSIDE_KEPT_TARGET
    print(
        f"targets (<= {CPU_TARGET:.0%} outside, >= {KEPT_TARGET:.0%} kept outside,"
        f" {INSIDE_KEPT_TARGET:.0%} inside): {met}"
    )
    return 0 if met else 1


def outside(window: Window) -> float:
    """Return the share of a core that all sampling on the host takes."""
    return window.cgroup_cpu + window.streams_cpu


def whole(window: Window) -> float:
    """Return the share of a core that all of our processes take; the engine's are not ours."""
    return outside(window) + window.inside_cpu + window.host_cpu


def cpu_s(containers: list[Container]) -> float:
    """Return the CPU seconds of the containers' first processes, which are the samplers."""
    total = 0
    for container in containers:
        stat = Path(f"/proc/{container.attrs['State']['Pid']}/stat").read_text()
        total += sum(int(field) for field in stat.rpartition(")")[2].split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run so many ordinary processes that never rest."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def inside(rows: Path, since_ns: int, until_ns: int) -> tuple[int, float]:
    """Return how many rows the inside samplers wrote in a window, and their own median MB."""
    with rows.open() as file:
        found = [
            int(row["sampler_rss_bytes"])
            for row in csv.DictReader(file)
            if since_ns <= int(row["t_mono_ns"]) < until_ns
        ]
    return len(found), statistics.median(found) / 1e6


def measure(
    client: docker.DockerClient,
    containers: list[Container],
    seconds: float,
    rows: Path,
    inside_interval_s: float,
) -> Window:
    """Sample for a while and return what it took; the inside samplers write ``rows``."""
    with tempfile.TemporaryDirectory() as folder:
        config = SamplerConfig(
            shared=folder,
            replies=folder,
            containers=[
                ContainerConfig(str(c.name), "idle", int(c.attrs["State"]["Pid"]), str(c.id))
                for c in containers
            ],
        )
        errors = (DockerException, OSError, ValueError)
        with (
            child_agent() as agent,
            agent.watch(config, RunDirectory(Path(folder))),
            HostProfiler(0.01, Path(folder) / "results-memory.csv"),
            DockerView(folder, stream_errors=errors) as view,
        ):
            for container in containers:
                stream = client.containers.get(str(container.id)).stats(stream=True, decode=True)
                view.follow(str(container.name), cast(Iterator[dict[str, Any]], stream))
            time.sleep(2)  # the streams' first messages are slow and not of interest
            cpu_ns, started_ns = time.process_time_ns(), time.monotonic_ns()
            inside_s = cpu_s(containers)
            engine = engine_share(seconds)
            inside_s = cpu_s(containers) - inside_s
            ended_ns = time.monotonic_ns()
            streams = (time.process_time_ns() - cpu_ns) / (ended_ns - started_ns)
            time.sleep(2)  # until what is buffered is written
        reports = merge_reports(Path(folder))
    written, inside_mb = inside(rows, started_ns, ended_ns)
    due = len(containers) * (ended_ns - started_ns) / 1e9 / inside_interval_s
    cgroup = reports["cgroup"]["host"]
    host = reports["host"]["results-memory"]
    return Window(
        cgroup_cpu=cgroup["cpu_ns"] / cgroup["elapsed_ns"],
        streams_cpu=streams,
        inside_cpu=inside_s / seconds,
        host_cpu=host["cpu_ns"] / host["elapsed_ns"],
        engine_cpu=engine,
        kept=cgroup["grid"]["kept"],
        inside_kept=min(1.0, written / due),
        inside_mb=inside_mb,
        late_median_ms=cgroup["grid"]["late_median_ns"] / 1e6,
        late_p99_ms=cgroup["grid"]["late_p99_ns"] / 1e6,
        late_max_ms=cgroup["grid"]["late_max_ns"] / 1e6,
        priority=cgroup["priority"],
    )


def engine_share(seconds: float) -> float:
    """Wait, and return the share of a core the engine's processes used meanwhile."""
    before = engine_cpu_s()
    time.sleep(seconds)
    return engine_cpu_between(before, engine_cpu_s()) / seconds


if __name__ == "__main__":
    sys.exit(main())
