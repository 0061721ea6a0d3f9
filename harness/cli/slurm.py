"""Run a plan as steps of a Slurm job, and measure each of them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli._parser import Parser
from harness.plan import add_plan_flags


def main(argv: Sequence[str]) -> int:
    """Parse, run or write the script, print."""
    parser = Parser(
        prog="harness slurm",
        usage="harness slurm [--script FILE [--sbatch OPTION]] [PLAN.toml] FLAG...",
        description=__doc__,
        example="salloc --nodes 2 --time 10 harness slurm --executor dask --dask-workers 8 \\\n"
        "    --ps-connector redis --data-management none owned-proxy \\\n"
        "    --stage-task-counts 8 8 1 --stage-bytes-sizes 1MB 1MB 1MB 1KB --task-sleep 1\n"
        "  harness slurm --script job.sh --sbatch=--nodes=2 --sbatch=--time=10 -- FLAG...",
    )
    own = parser.add_argument_group("Slurm")
    own.add_argument(
        "--script",
        metavar="FILE",
        help="write a script for sbatch and start nothing; - is the terminal",
    )
    own.add_argument(
        "--sbatch",
        metavar="OPTION",
        action="append",
        default=[],
        help="an option of sbatch for the script, such as --sbatch=--partition=debug",
    )
    own.add_argument(
        "--workers-on",
        choices=("all", "others"),
        default="all",
        help="nodes of the workers: all of the job, or all but the first, which has scheduler,"
        " Redis and runner (default: all)",
    )
    add_plan_flags(parser, containers=True)
    words = [word for word in argv if word != "--"]
    if {"-h", "--help"} & set(words):
        parser.parse_args(["--help"])  # ends here
    from harness.cli._slurm import slurm  # noqa: PLC0415  # what help does not need

    return slurm(parser, words)
