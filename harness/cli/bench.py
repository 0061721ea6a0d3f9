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
from harness.report.ahead import ReportAhead
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
from harness.topology import ownership
from harness.topology.session import Bench


def main(argv: Sequence[str]) -> int:
    """Parse, bench, print."""
    parser = Parser(prog="harness bench", description=__doc__, allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    plan = parse_plan(parser, argv, containers=True)
    directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    report = ReportAhead()
    total = len(plan.runs())
    try:
        with Progress(total, sys.stderr) as progress:

            def done(runs: int) -> None:
                progress.done(runs)
                if runs >= total:
                    report.start()

            Bench(plan, directory, progress.say, done).run()
    except KeyboardInterrupt:
        _print_summary(directory)
        raise
    except HarnessError:
        _print_summary(directory)
        _write_report(directory, report)
        raise
    _print_summary(directory)
    _write_report(directory, report)
    return 0


def _write_report(directory: RunDirectory, report: ReportAhead) -> None:
    """Write the report, if there is anything to report."""
    if directory.results.exists():
        print(report.write(directory.path))
        ownership.give_to_user(directory.path, ownership.current_owner())


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
