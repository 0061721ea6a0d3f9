"""Begin here: payloads of 10 MB through Redis in all four modes, in two minutes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.cli import bench
from harness.cli._parser import Parser
from harness.executors import executors
from harness.topology.compose import COMPOSE_DIR

# Large enough that the modes differ for all to see, small enough for a laptop. With five runs of
# each, a verdict on all pairs of four modes needs runs that do not overlap at all; with seven, one
# may.
FLAGS = (
    *("--ps-connector", "redis"),
    *("--data-management", "none", "default-proxy", "manual-proxy", "owned-proxy"),
    *("--stage-task-counts", "4", "4", "4", "1"),
    *("--stage-bytes-sizes", "10MB", "10MB", "10MB", "10MB", "1MB"),
    *("--task-sleep", "0.2", "--repeat", "7", "--warmup", "1"),
)


def main(argv: Sequence[str]) -> int:
    """Bench the demo's plan, with whatever flags of ``bench`` are given besides."""
    parser = Parser(
        prog="harness demo",
        example="harness demo --stage-bytes-sizes 100MB 50MB 50MB 50MB 1KB",
        description=f"{__doc__}\n\nThe same as 'harness bench --executor dask' with these flags:\n"
        f"\n{shlex.join(FLAGS)}\n\nFlags of 'harness bench' that are given besides win over these.",
    )
    parser.add_argument("--executor", default="dask", help="task executor (default: dask)")
    args, others = parser.parse_known_args(argv)
    flags = [*_workers(args.executor), *FLAGS, *_without_warm_up(args.executor), *others]
    return bench.main(["--executor", args.executor, *flags])


def _without_warm_up(executor: str) -> list[str]:
    """Return what takes the warm-up out where its memory would stay for the run after it."""
    known = executor in executors.names()
    return ["--warmup", "0"] if known and executors.get(executor).keeps_memory else []


def _workers(executor: str) -> list[str]:
    """Return the executor's own flags in examples, as ``make bench`` has them."""
    path = COMPOSE_DIR / f"{executor}.args"
    return shlex.split(path.read_text(encoding="utf-8")) if path.is_file() else []
