"""What ``harness slurm`` does once its flags are there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.cli._parser import Parser
from harness.core.errors import HarnessError, UsageError
from harness.plan import Plan, parse_plan
from harness.processes.bench import StepsBench
from harness.processes.services import Places, refuse
from harness.processes.slurm import Allocation
from harness.results.directory import RunDirectory, create


def slurm(parser: Parser, argv: Sequence[str]) -> int:
    """Parse with the command's parser, run or write the script, print."""
    known, _ = parser.parse_known_args(argv)
    plan = parse_plan(parser, argv, containers=True)
    refuse(plan)
    if known.script is not None:
        _write(known.script, known.sbatch, _without(argv))
        return 0
    if known.sbatch:
        raise UsageError("--sbatch: is for a script: name one with --script FILE")
    allocation = Allocation.here(os.environ)
    places = _places(allocation, known.workers_on)
    directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    return _run(plan, directory, allocation, places)


def _places(allocation: Allocation, workers_on: str) -> Places:
    first, *others = allocation.nodes
    if workers_on == "all":
        return Places(first, allocation.nodes)
    if not others:
        raise UsageError("--workers-on others: the job has one node: ask for more")
    return Places(first, others)


def _run(plan: Plan, directory: RunDirectory, allocation: Allocation, places: Places) -> int:
    total = plan.run_count

    def progress(done: int) -> None:
        _say(f"{done} of {total} runs")

    _say(f"Job {allocation.job}, nodes {', '.join(allocation.nodes)}: {directory.path}")
    try:
        StepsBench(plan, directory, allocation, places, _say, progress).run()
    finally:
        _conclude(plan, directory)
    return 0


def _conclude(plan: Plan, directory: RunDirectory) -> None:
    """Say what came of it, and write the report where what it needs is installed."""
    assert plan.topology is not None
    lacks: dict[str, dict[str, str]] = {}
    try:
        # Nodes may have no more than what runs there.
        from harness.analysis.quality import write_quality  # noqa: PLC0415
        from harness.report.ahead import ReportAhead  # noqa: PLC0415
        from harness.report.terminal import screen_of  # noqa: PLC0415

        lacks = write_quality(directory)["absent"]
        if directory.outcomes.exists():
            report = ReportAhead(page=not plan.topology.no_report)
            tables, place = report.write(directory.path, screen_of(sys.stdout))
            print(f"\n{tables}\n")
            if place:
                print(place)
    except ModuleNotFoundError as error:
        print(f"No report here ({error.name} is not installed): 'harness report {directory.path}'")
    except HarnessError as error:
        print(f"No report: {error}")
    for view, found in lacks.items():
        for what, why in found.items():
            print(f"{view} view: {what}: {why}")
    print(f"\nRun directory: {directory.path}")


def _without(argv: Sequence[str]) -> list[str]:
    """Return a command line without the flags that are of the script alone."""
    found: list[str] = []
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in ("--script", "--sbatch"):
            skip = True
        elif word.partition("=")[0] not in ("--script", "--sbatch"):
            found.append(word)
    return found


def script_text(options: Sequence[str], argv: Sequence[str]) -> str:
    """Return a script for sbatch that runs a plan.

    Args:
        options: of sbatch.
        argv: the plan's flags.
    """
    words = ["harness", "slurm", *argv]
    lines = ["#!/bin/sh", *(f"#SBATCH {option}" for option in options)]
    # The job begins in the directory it was submitted from, with its environment.
    command = " ".join([shlex.quote(sys.executable), "-m", *map(shlex.quote, words)])
    return "\n".join([*lines, f"exec {command}", ""])


def _write(path: str, options: Sequence[str], argv: Sequence[str]) -> None:
    if not any(option.startswith(("--nodes", "-N")) for option in options):
        raise UsageError("--script: how many nodes? add --sbatch=--nodes=N")
    text = script_text(options, argv)
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"--script {path}: is there already: name a new file") from None
    except OSError as error:
        raise UsageError(f"--script {path}: {error.strerror}") from None
    print(f"wrote {path}: 'sbatch {shlex.quote(path)}' submits it")


def _say(line: str) -> None:
    # Whoever read this may be gone; the runs go on.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
