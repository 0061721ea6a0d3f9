"""Run a plan in containers and measure each of them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli._parser import Parser
from harness.plan import add_plan_flags
from harness.plan.parse import needed_flags


def main(argv: Sequence[str]) -> int:
    """Parse, bench, print."""
    parser = Parser(
        prog="harness bench",
        usage="harness bench [PLAN.toml] --executor NAME --ps-connector NAME\n"
        "    --stage-task-counts COUNT... --stage-bytes-sizes BYTES... --task-sleep SEC\n"
        "    [FLAG...]",
        description=__doc__,
        example="harness bench --executor dask --dask-workers 4 --ps-connector redis \\\n"
        "    --data-management none owned-proxy --stage-task-counts 4 4 1 \\\n"
        "    --stage-bytes-sizes 10MB 10MB 10MB 1KB --task-sleep 0.2 --repeat 5",
        needed=needed_flags,
    )
    ways = parser.add_argument_group("instead of a new bench")
    ways.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be started and what it is predicted to need; start nothing",
    )
    ways.add_argument(
        "--resume",
        metavar="RUN_DIR",
        help="do the runs of an earlier bench that have no outcome yet, or one that says nothing"
        " about them (infrastructure, interrupted), with the same plan and images; no other flags",
    )
    add_plan_flags(parser, containers=True)
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])  # ends here
    # Engine, images and reports take as long to import as all of the above.
    from harness.cli._bench import bench  # noqa: PLC0415

    return bench(parser, argv)
