"""Run a plan in containers and measure each of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.analysis.predicted import predictions
from harness.analysis.quality import write_quality
from harness.analysis.summary import summarise
from harness.core.errors import HarnessError
from harness.core.flags import Parser
from harness.plan import add_plan_flags, parse_plan
from harness.report.progress import Progress
from harness.report.quality import quality_lines
from harness.report.tables import (
    PREDICTION_NOTE,
    SUMMARY_NOTE,
    ledger_table,
    prediction_table,
    summary_table,
)
from harness.results.directory import RunDirectory, create
from harness.topology.session import Bench


def main(argv: Sequence[str]) -> int:
    """Parse, bench, print."""
    parser = Parser(prog="harness bench", description=__doc__, allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    plan = parse_plan(parser, argv, containers=True)
    directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    try:
        with Progress(len(plan.runs()), sys.stderr) as progress:
            Bench(plan, directory, progress.say, progress.done).run()
    except (HarnessError, KeyboardInterrupt):
        _print_summary(directory)
        raise
    _print_summary(directory)
    return 0


def _print_summary(directory: RunDirectory) -> None:
    quality = write_quality(directory)
    summaries = summarise(directory)
    if summaries:
        print(f"\n{summary_table(summaries)}\n{SUMMARY_NOTE}")
        print(f"\n{ledger_table(summaries)}")
        print(f"\n{prediction_table(predictions(directory))}\n{PREDICTION_NOTE}\n")
        for line in quality_lines(quality):
            print(line)
    for view, lacks in quality["absent"].items():
        for what, why in lacks.items():
            print(f"{view} view: {what}: {why}")
    print(f"\nRun directory: {directory.path}")
