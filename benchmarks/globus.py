"""Globus Compute without the cloud: how fast it starts, what a stage costs, what the service keeps.

    .venv/bin/python benchmarks/globus.py [--engine thread|process|htex] [--tasks N]

- From ``docker compose up`` until a task came back from every worker (``harness bench``, three
  times).
- A stage of four tasks beyond its sleep. The SDK looks for results each 0.5 s and the endpoint
  sends them each 0.5 s, neither of which can be set. How the two fall together stays the same as
  long as both run, and makes up to half a second: several clients are started, and sleeps are
  spread over a period.
- 512 tasks that do nothing, submitted together.
- The service's memory after each quarter of N such tasks: the container's anonymous memory, the
  sampler beside the service (10 MB) included.

Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker import DockerClient

from harness.core import interrupt
from harness.images import ensure
from harness.topology.compose import ComposeProject, image_stacks, new_project_name, topology_files

WORKERS = 4
BURST = 512
CLIENTS = 20
EXAMPLE = [
    *("--ps-connector", "file", "--data-management", "none", "--stage-task-counts", "1"),
    *("--stage-bytes-sizes", "1", "1", "--task-sleep", "0"),
]

# What runs beside the topology's sleeping runner.
CLIENT = """
import json, sys, time
from harness.executors.globus import GlobusConfig

what, count = sys.argv[1], int(sys.argv[2])

def nap(seconds):
    import time
    time.sleep(seconds)

def stage(executor, tasks, seconds):
    start = time.perf_counter()
    with executor.batch():
        futures = [executor.submit(nap, seconds) for _ in range(tasks)]
    for future in futures:
        future.result()
    return time.perf_counter() - start - seconds

config = GlobusConfig(workers=4)
with config.start(60) as executor:
    config.wait_ready(executor, list, 60)
    if what == "bursts":
        found = [stage(executor, 512, 0) for _ in range(count)]
    else:
        naps = [0.1 + (0.618 * count + m / 3) % 1 / 2 for m in range(3)]
        found = [stage(executor, 4, seconds) for seconds in naps]
    delayed = executor.delays
print(json.dumps({"seconds": found, "delayed": delayed}))
"""
ANONYMOUS = """
import pathlib
root = pathlib.Path("/sys/fs/cgroup")
v1 = root / "memory" / "memory.stat"
name, path = ("rss", v1) if v1.exists() else ("anon", root / "memory.stat")
print(dict(line.split() for line in path.read_text().splitlines())[name])
"""


def start_s(engine: str) -> float:
    """Return how long a bench takes from its topology's start to its first run, in seconds."""
    with tempfile.TemporaryDirectory() as place:
        flags = ["--executor", "globus", "--globus-engine", engine, *EXAMPLE, "--run-dir", place]
        with subprocess.Popen(
            [sys.executable, "-m", "harness", "bench", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as bench:
            assert bench.stderr is not None
            for line in bench.stderr:
                if line.startswith("Starting the topology"):
                    begun = time.time()
        (marks,) = Path(place).glob("*/marks.csv")
        with marks.open(newline="") as file:
            first = next(row for row in csv.DictReader(file) if row["mark"] == "run_start")
        return int(first["t_unix_ns"]) / 1e9 - begun


@contextmanager
def topology(engine: str) -> Iterator[ComposeProject]:
    """Start a topology whose runner sleeps."""
    files = topology_files("globus")
    stacks = image_stacks(files)
    images = ensure(sorted(set(stacks.values())), print)
    env = {variable: images[stack].reference for variable, stack in stacks.items()}
    env |= {"HARNESS_RUNNER_COMMAND": "sleep 86400", "HARNESS_GLOBUS_ENGINE": engine}
    project = ComposeProject(new_project_name(), files, env)
    try:
        project.up()
        yield project
    finally:
        project.down(docker.from_env())


def execute(client: DockerClient, project: str, service: str, *command: str) -> str:
    """Run a command in a service's container; return what it wrote."""
    done = client.containers.get(f"{project}-{service}-1").exec_run(list(command), stderr=False)
    assert isinstance(done.output, bytes)
    return done.output.decode()


def main() -> None:
    """Parse, measure, print."""
    interrupt.install()  # SIGTERM, too, must remove the containers
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("thread", "process", "htex"), default="htex")
    parser.add_argument("--tasks", type=int, default=10_000)
    args = parser.parse_args()
    starts = [start_s(args.engine) for _ in range(3)]
    print(f"engine {args.engine}, {WORKERS} workers")
    print(f"start to all workers ready: {_spread(starts)}")
    client = docker.from_env(timeout=600)
    with topology(args.engine) as project:

        def ask(what: str, count: int) -> dict[str, Any]:
            command = ("python", "-c", CLIENT, what, str(count))
            found = json.loads(execute(client, project.name, "runner", *command).splitlines()[-1])
            assert isinstance(found, dict)
            return found

        ask("bursts", 1)  # starts the workers
        # One process each, as in a bench.
        clients = [ask("stages", number) for number in range(CLIENTS)]
        print(f"a stage beyond its sleep:   {_spread([s for c in clients for s in c['seconds']])}")
        print(f"  requests delayed by the SDK's rate limit: {sum(c['delayed'] for c in clients)}")
        found = ask("bursts", 5)
        print(f"{BURST} tasks together:         {_spread(found['seconds'])}")
        done = 6 * BURST
        print("service, anonymous memory:")
        while True:
            used = int(execute(client, project.name, "service", "python", "-c", ANONYMOUS))
            print(f"  after {done:>6} tasks {used / 1e6:6.1f} MB")
            if done >= args.tasks:
                break
            more = -(-args.tasks // 4 // BURST)
            ask("bursts", more)
            done += more * BURST


def _spread(seconds: list[float]) -> str:
    return (
        f"median {statistics.median(seconds):.2f} s, mean {statistics.mean(seconds):.2f} s"
        f" ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} times)"
    )


if __name__ == "__main__":
    main()
