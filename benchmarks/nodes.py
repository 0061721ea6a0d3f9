"""How home's part grows with nodes: what marks cost, and what the rows of all agents cost.

Run as root, with nothing else running:

    python benchmarks/nodes.py [--nodes N ...] [--containers N] [--seconds S]

Each node is a real agent, a process of its own; each of its containers is a cgroup with nothing in
it. All of them share this machine's cores, so an agent's own cost is not looked at, only home's:
the CPU time of this process for the rows that came, and its memory. One mark goes through all
agents as in a bench: the first one's, then all others', then it is confirmed.

Targets at 64 nodes of two containers: 10 % of a core and 150 MB. For more containers the CPU time
of a row counts, which is printed, too: 50 rows a second come from each container.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder
from harness.sampling.agent.relay import child_agent
from harness.sampling.agent.several import Several
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig

NODES = (1, 2, 4, 8, 16, 32, 64)
CPU_TARGET, MEMORY_TARGET_MB = 0.10, 150
ROWS_A_SECOND = 50
_TREE = Path("/sys/fs/cgroup/memory")


def tree() -> Path:
    """Return where cgroups can be made."""
    return _TREE if _TREE.is_dir() else _TREE.parent


def cpu_s() -> float:
    """Return the CPU time of this process, without its agents."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    """Return what this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(nodes: int, containers: int, seconds: float) -> tuple[float, float, int, float]:
    """Return the median of a mark in ms, home's share of a core, rows that came, and MB."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        directory = RunDirectory(Path(folder))
        names = tuple(f"n{number}" for number in range(nodes))
        several = Several(names[0], names)
        relays = [stack.enter_context(child_agent()) for _ in names]
        for name, relay in reversed(list(zip(names, relays, strict=True))):
            shared = SharedFolder(Path(folder, "shared", name))
            shared.create()
            replies = Path(folder, "replies", name)
            replies.mkdir(parents=True)
            configs = []
            for number in range(containers):
                path = tree() / f"wmhbench-{os.getpid()}-{name}-{number}"
                path.mkdir()
                stack.callback(path.rmdir)
                configs.append(ContainerConfig(f"{name}-{number}", "worker", directory=str(path)))
            config = SamplerConfig(
                shared=str(shared.path),
                replies=str(replies),
                containers=configs,
                names={"worker": f"worker@{name}", "topology": f"topology@{name}"},
            )
            stack.enter_context(relay.watch(config, directory, several=(several, name)))
        first = Path(folder, "shared", names[0])
        answers = RunDirectory(Path(folder, "replies", names[0]))
        took = []
        rows = directory.memory("cgroup")
        with MarkWriter(RunDirectory(first).marks, answers.marks_ack) as writer:
            writer.write("r1", "run_start")
            began_s, began_cpu_s, began_bytes = time.monotonic(), cpu_s(), rows.stat().st_size
            time.sleep(seconds)
            share = (cpu_s() - began_cpu_s) / (time.monotonic() - began_s)
            ended_bytes = rows.stat().st_size
            for number in range(20):
                started_s = time.perf_counter()
                writer.write("r1", "run_end" if number % 2 == 0 else "run_start")
                took.append((time.perf_counter() - started_s) * 1000)
        with rows.open("rb") as file:
            file.seek(began_bytes)
            came = file.read(ended_bytes - began_bytes).count(b"\n")
        return statistics.median(took), share, came, rss_mb()


def main() -> int:
    """Measure and print; the exit code says whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--containers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    print("nodes  containers  mark, median  home's CPU  rows a second  CPU of a row   memory")
    met = True
    for nodes in args.nodes:
        mark_ms, share, rows, memory_mb = measure(nodes, args.containers, args.seconds)
        of_row_us = share * args.seconds / rows * 1e6 if rows else 0.0
        print(
            f"{nodes:5}  {nodes * args.containers:10}  {mark_ms:9.1f} ms  {share:10.1%}"
            f"  {rows / args.seconds:13.0f}  {of_row_us:9.1f} us  {memory_mb:5.0f} MB"
        )
        if nodes == max(NODES) and args.containers == 2:
            met = share <= CPU_TARGET and memory_mb <= MEMORY_TARGET_MB
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
