"""What ``harness bench`` does once its flags are there; it imports what its help does not need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.analysis.quality import write_quality
from harness.cli._parser import Parser
from harness.cli._traced import say_why, trace
from harness.core.errors import HarnessError, UsageError
from harness.images import Image
from harness.images.variant import Variant, saved
from harness.plan import Plan, parse_plan
from harness.report.ahead import ReportAhead
from harness.report.dry_run import dry_run_text
from harness.report.progress import Progress
from harness.report.terminal import screen_of
from harness.results.directory import RunDirectory, create, traced_directory
from harness.results.manifest import notes
from harness.results.repair import finished_runs
from harness.topology import ownership
from harness.topology.admission import admit
from harness.topology.ahead import look_ahead
from harness.topology.bench import Bench
from harness.topology.launch import variant_of
from harness.topology.resume import (
    clear_the_way,
    only_bench_of,
    read_bench_file,
    require_images,
)

RESUME = "--resume"


def bench(parser: Parser, argv: Sequence[str]) -> int:
    """Parse with the command's parser, bench, print."""
    if any(word.partition("=")[0] == RESUME for word in argv):
        return _resume(argv)
    dry_run = "--dry-run" in argv
    plan = parse_plan(parser, argv, containers=True)
    if dry_run:
        print(dry_run_text(plan, look_ahead(plan)))
        return 0
    _check_against(plan)
    warnings = admit(plan, plan.general.run_dir)
    variant = variant_of(plan, _say)
    if variant is not None:
        _say(f"stack: {variant}")
    directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    for line in warnings:
        _say(line)
    with only_bench_of(directory.path, "--run-dir"):
        return _bench(plan, directory, variant=variant)


def _check_against(plan: Plan) -> None:
    """Refuse a run directory that the runs could not be compared with, before they are made."""
    if plan.topology is None or plan.topology.against is None:
        return
    # They take half a second to import, and few benches need them.
    from harness.analysis.identity import other_plan  # noqa: PLC0415
    from harness.analysis.readers import read_session  # noqa: PLC0415

    against = read_session(Path(plan.topology.against))
    missing = [mode for mode in plan.workload.modes if not against.measured(mode)]
    other = [str(d) for d in other_plan(plan.model_dump(mode="json"), against)]
    other += [f"no run of {mode} went through there" for mode in missing]
    if other:
        raise UsageError(
            f"--against {plan.topology.against}: other work was done ({'; '.join(other)}): run the"
            " same plan"
        )


def _resume(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness bench", allow_abbrev=False)
    parser.add_argument(RESUME, metavar="RUN_DIR", required=True)
    args, others = parser.parse_known_args(argv)
    if others:
        raise UsageError(f"{RESUME}: takes the plan of the earlier bench: leave out {others[0]}")
    path = Path(args.resume).absolute()
    with only_bench_of(path, RESUME):
        plan, images = read_bench_file(RunDirectory(path).bench)
        directory = RunDirectory(path, plan.general.csv_file, plan.general.log_file)
        for line in admit(plan, path):
            _say(line)
        require_images(images)
        clear_the_way(directory, _say)
        done = finished_runs(directory, _say)
        left = plan.run_count - len(done)
        _say(f"{len(done)} of {plan.run_count} runs are done, {left} are left")
        clear_the_way(traced_directory(directory), _say)
        return _bench(plan, directory, bool(left), images=images, variant=saved(path))


def _bench(
    plan: Plan,
    directory: RunDirectory,
    anything: bool = True,
    images: dict[str, Image] | None = None,
    variant: Variant | None = None,
) -> int:
    assert plan.topology is not None
    report = ReportAhead(page=not plan.topology.no_report)
    total = plan.run_count
    try:
        if anything and (plan.general.why is None or not plan.general.why.only):
            names = [run.run_id for run in plan.runs()]
            with Progress(total, sys.stderr, names) as progress:

                def done(runs: int) -> None:
                    progress.done(runs)
                    if runs >= total and plan.general.why is None:
                        report.start()

                Bench(plan, directory, progress.say, done, images, variant).run()
        if plan.general.why is not None:
            trace(plan, directory, images, variant, _say)
    except KeyboardInterrupt:
        _conclude(directory, ReportAhead(page=False))
        raise
    except HarnessError:
        _conclude(directory, report)
        raise
    _conclude(directory, report)
    return 0


def _say(line: str) -> None:
    # Whoever read this may be gone; the bench goes on.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _conclude(directory: RunDirectory, report: ReportAhead) -> None:
    """Say what came of it, and write the report if one is wanted and there is anything."""
    if not directory.outcomes.exists() and traced_directory(directory).outcomes.exists():
        directory = traced_directory(directory)
    quality = write_quality(directory)
    tables = place = ""
    if directory.outcomes.exists():
        tables, place = report.write(directory.path, screen_of(sys.stdout))
    if tables:
        print(f"\n{tables}\n")
    for note in notes(directory.manifest):
        print(f"Note: {note}")
    for view, lacks in quality["absent"].items():
        for what, why in lacks.items():
            print(f"{view} view: {what}: {why}")
    ownership.give_to_user(directory.path, ownership.current_owner())
    print(f"\nRun directory: {directory.path}")
    if place:
        print(place)
    say_why(directory)
