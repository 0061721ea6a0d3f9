"""How soon a mark is confirmed: by an agent that is a child, and by one that is a container.

Run as root on the engine's machine, with nothing else running:

    python benchmarks/agent.py [--marks N]

A mark is written where the runner writes it; its confirmation is a byte in another file, which
comes when the agent has read all memory files, home has written their rows, and has said so. Six
containers are watched, as many as the documented example has. Targets: 5 ms as a child, 15 ms as a
container (median).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import docker
from _benches import idle_containers

from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.topology.agent import Agent, some_image, started
from harness.topology.engine import describe
from harness.topology.ownership import current_owner

TARGETS_MS = {"child": 5.0, "container": 15.0}
CONTAINERS = 6


def confirmations_ms(agent: Agent, containers: list[ContainerConfig], marks: int) -> list[float]:
    """Write marks and return how long each confirmation took."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        shared, replies = SharedFolder(Path(folder, "shared", "t")), Path(folder, "replies", "t")
        shared.create()
        replies.mkdir(parents=True)
        directory.plan.write_text("{}")
        places = agent.make_folders("t", shared, RunDirectory(replies), directory, {})
        # Where the engine has them, which is this machine.
        there = Path(places.shared)
        config = SamplerConfig(
            shared=places.seen_shared,
            replies=places.seen_replies,
            containers=containers,
            user=agent.watching_user(),
        )
        name = "t" if agent.is_container else None
        took = []
        with agent.relay.watch(config, directory, name):
            path = RunDirectory(there).marks
            with MarkWriter(path, places.replies.marks_ack) as writer:
                os.chown(path, *current_owner().of_containers())
                for number in range(marks):
                    time.sleep(0.013)  # anywhere between two ticks
                    started_s = time.perf_counter()
                    writer.write("r1", "run_start" if number % 2 == 0 else "run_end")
                    took.append((time.perf_counter() - started_s) * 1000)
    return took


def main() -> int:
    """Measure and print; the exit code says whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--marks", type=int, default=200)
    args = parser.parse_args()
    client = docker.from_env(max_pool_size=CONTAINERS + 1)
    met = True
    with (
        tempfile.TemporaryDirectory() as folder,
        idle_containers(client, CONTAINERS, folder, 0.1) as found,
    ):
        configs = [
            ContainerConfig(str(c.name), "idle", int(c.attrs["State"]["Pid"]), str(c.id))
            for c in found
        ]
        for form, target in TARGETS_MS.items():
            agent = Agent(client, describe(client), current_owner(), form, some_image())
            with started(agent):
                took = confirmations_ms(agent, configs, args.marks)
            median = statistics.median(took)
            worst = statistics.quantiles(took, n=20)[-1]
            print(
                f"{form:10} median {median:6.2f} ms, 95 % within {worst:6.2f} ms (target {target})"
            )
            met = met and median <= target
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
