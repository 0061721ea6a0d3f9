"""How much the processes that measure grow in an hour at 100 Hz.

    .venv/bin/python benchmarks/growth.py [--minutes 60] [--containers 20] [--hertz 100]

Starts idle containers whose first process is the inside sampler, at the given rate, and beside
them the host's sampler of all their cgroups and the host-wide profiler at the same rate, and the
engine's stats streams, in this process, at theirs. Resident memory of each is read a minute after
the start and then each minute. Target: no process grows by more than 5 MB in 60 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import docker
from _benches import idle_containers
from docker.errors import DockerException

from harness.core import interrupt
from harness.results.directory import RunDirectory
from harness.sampling.agent.relay import child_agent
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.sampling.docker_stats import DockerView
from harness.sampling.host import HostProfiler

TARGET_BYTES = 5_000_000
SETTLE_S = 60.0


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def watch(pids: dict[str, int], minutes: float) -> dict[str, tuple[int, int]]:
    """Return for each process its memory after settling, and the most it had since."""
    time.sleep(SETTLE_S)
    first = {name: rss_bytes(pid) for name, pid in pids.items()}
    most = dict(first)
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(min(60.0, max(end - time.monotonic(), 0.0)))
        most = {name: max(most[name], rss_bytes(pid)) for name, pid in pids.items()}
    return {name: (first[name], most[name]) for name in pids}


def main() -> int:
    """Measure and print; the exit code says whether the target was met."""
    interrupt.install()  # SIGTERM, too, must remove the containers
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--hertz", type=float, default=100.0)
    args = parser.parse_args()
    client = docker.from_env(max_pool_size=args.containers + 1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        with idle_containers(client, args.containers, folder, 1 / args.hertz) as containers:
            config = SamplerConfig(
                shared=folder,
                replies=folder,
                containers=[
                    ContainerConfig(str(c.name), "idle", int(c.attrs["State"]["Pid"]), str(c.id))
                    for c in containers
                ],
                usage_interval_ns=round(1e9 / args.hertz),
            )
            errors = (DockerException, OSError, ValueError)
            host = HostProfiler(1 / args.hertz, Path(folder) / "results-memory.csv")
            with (
                child_agent() as agent,
                agent.watch(config, RunDirectory(Path(folder))),
                host,
                DockerView(folder, stream_errors=errors) as view,
            ):
                for container in containers:
                    found = client.containers.get(str(container.id))
                    stream = found.stats(stream=True, decode=True)
                    view.follow(str(container.name), cast(Iterator[dict[str, Any]], stream))
                pids = {
                    "agent (cgroup sampler)": agent.pid,
                    "host-wide profiler": host.pid,
                    "home (stats streams, agent's rows)": os.getpid(),
                    **{
                        f"inside sampler {number}": int(c.attrs["State"]["Pid"])
                        for number, c in enumerate(containers)
                    },
                }
                found_sizes = watch(pids, args.minutes)
    print(f"{args.containers} containers at {args.hertz:g} Hz, {args.minutes:g} minutes")
    print(f"{'process':32}{'after a minute':>16}{'most since':>14}{'growth':>12}")
    for name, (first, most) in found_sizes.items():
        print(f"{name:32}{first:>16}{most:>14}{most - first:>12}")
    met = all(most - first <= TARGET_BYTES for first, most in found_sizes.values())
    print(f"target (growth <= {TARGET_BYTES} bytes): {met}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
