"""Run a plan in this process tree, without Docker."""

from __future__ import annotations

import logging
import os
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from harness.core.attend import attended_children
from harness.core.errors import UsageError, missing_package
from harness.core.flags import Parser
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.options import INSIDE_INTERVAL_S
from harness.results.conversation import HostsVerdict, MarkWriter, Settle
from harness.results.directory import RunDirectory, create, traced_directory
from harness.results.documents import write_json
from harness.results.logs import BENCH, init_logging
from harness.results.manifest import base_manifest, git_revision, machine, software
from harness.sampling.host import HostProfiler
from harness.sampling.names import ContainerNames
from harness.sampling.process_tree import settle_own_processes
from harness.sampling.report import collect_reports
from harness.sampling.workers import worker_samplings
from harness.workflow.runner import PlanRunner, Watch, no_watch

logger = logging.getLogger("run.workflow-memory")

_EXAMPLE = """harness run --executor thread --ps-connector file --ps-file-dir runs/cache \\
    --data-management none owned-proxy --stage-task-counts 4 4 1 \\
    --stage-bytes-sizes 10MB 10MB 10MB 1KB --task-sleep 0.2 --repeat 5"""


def main(argv: Sequence[str]) -> int:
    """Parse, run, print."""
    in_topology = bool(argv) and argv[0] == "--plan"
    if in_topology:
        plan, directory, places = _from_file(argv)
    else:
        places = None
        parser = Parser(
            prog="harness run",
            usage="harness run [PLAN.toml] --executor NAME --ps-connector NAME\n"
            "    --stage-task-counts COUNT... --stage-bytes-sizes BYTES... --task-sleep SEC\n"
            "    [FLAG...]",
            description=f"{__doc__}\n\nexample:\n  {_EXAMPLE}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument_group("plan file").add_argument(
            "--plan",
            metavar="FILE [--places FIRST LAST]",
            help="run a plan.json in its own directory, or some of its runs, counted from 1 (no"
            " other flags)",
        )
        add_plan_flags(parser, containers=False)
        plan = parse_plan(parser, argv, containers=False)
        if plan.general.why is not None and find_spec("memray") is None:
            raise missing_package("--why", "memray", "why")
        directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    init_logging(directory.log, plan.general.log_level, plan.general.log_file_level)
    logger.log(BENCH, "Results and logs: %s", directory.path)
    # In a topology the host starts another one for them.
    why = None if in_topology else plan.general.why
    if why is None or not why.only:
        _execute(plan, directory, places, in_topology=in_topology)
    if why is not None:
        within = traced_directory(directory)
        within.path.mkdir(exist_ok=True)
        logger.log(BENCH, "Each mode once more, traced: %s", within.path)
        with attended_children():
            _execute(plan.traced(), within, None, in_topology=False)
    logger.log(BENCH, "All logs and results saved to: %s", directory.path)
    return 0


def _execute(
    plan: Plan, directory: RunDirectory, places: range | None, *, in_topology: bool
) -> None:
    facts = {}
    ack = directory.marks_ack if os.environ.get("HARNESS_MARKS_ACK") == "1" else None
    try:
        with (
            HostProfiler(plan.general.memory_profile_interval, directory.host_memory) as host,
            MarkWriter(directory.marks, ack) as marks,
        ):
            # In a topology each container samples itself.
            watch = no_watch if in_topology else _watch(plan, directory, marks)
            facts = PlanRunner(
                plan,
                directory,
                marks,
                watch,
                settle=_settle(plan, directory),
                container=ContainerNames(os.environ),
                places=places,
                ending=directory.ending if ack is not None else None,
                own_workers=in_topology,
                sampler_exit=host.exit_code,
            ).execute()
    finally:
        manifest = base_manifest(plan.model_dump(mode="json"))
        manifest["git_revision"] = git_revision(Path(__file__).parent)
        manifest |= {"machine": machine(), "runner": software(), "executor": facts}
        manifest["notes"] = list(plan.executor.notes())
        write_json(directory.manifest, manifest)
        if not in_topology:  # there, other containers' samplers still write
            collect_reports(directory)


def _watch(plan: Plan, directory: RunDirectory, marks: MarkWriter) -> Watch:
    """Return what samples the workers from inside, if the executor has a way to.

    And from outside, where they are in Slurm jobs of this user's.
    """
    if plan.executor_name not in worker_samplings.names():
        return no_watch
    sampling = worker_samplings.get(plan.executor_name)
    inside = sampling(directory, plan.general.inside_interval or INSIDE_INTERVAL_S)

    @contextmanager
    def both(executor: Executor) -> Iterator[Callable[[], None]]:
        with inside.watch(executor) as collect:
            if not any(worker.job for worker in inside.found.values()):
                yield collect
                return
            from harness.processes.jobs import watched_jobs  # noqa: PLC0415  # not in images

            with watched_jobs(inside.found, directory, marks) as measure:

                def between_runs() -> None:
                    collect()
                    measure()

                yield between_runs

    return both


def _settle(plan: Plan, directory: RunDirectory) -> Settle:
    """Return who says when memory is flat: the host's sampler, if there is one."""
    general = plan.general
    if os.environ.get("HARNESS_MARKS_ACK") == "1":
        return HostsVerdict(directory.settled, general.baseline_timeout)
    return settle_own_processes(
        general.baseline_window, general.baseline_bound, general.baseline_timeout
    )


def _from_file(argv: Sequence[str]) -> tuple[Plan, RunDirectory, range | None]:
    parser = Parser(prog="harness run", allow_abbrev=False)
    parser.add_argument("--plan", metavar="FILE", required=True)
    parser.add_argument("--places", nargs=2, type=int, metavar=("FIRST", "LAST"))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError("--plan takes one file and no other flags but --places")
    path = Path(args.plan)
    try:
        plan = Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--plan {path}: {error.strerror}") from None
    except (ValidationError, KeyError) as error:
        raise UsageError(f"--plan {path}: not a plan file ({type(error).__name__})") from None
    directory = RunDirectory(path.parent, plan.general.csv_file, plan.general.log_file)
    if args.places is None:
        return plan, directory, None
    first, last = args.places
    if not 1 <= first <= last <= plan.run_count:
        raise UsageError(f"--places {first} {last}: the plan has runs 1 to {plan.run_count}")
    return plan, directory, range(first - 1, last)
