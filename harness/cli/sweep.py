"""Run one plan over several values of its flags, which take turns; tables and curves."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.analysis.quality import write_quality
from harness.analysis.readers import read_session
from harness.analysis.sweep import Point, axis_of, panels_of
from harness.analysis.verdicts import Rules
from harness.cli._parser import Parser
from harness.cli._traced import refuse
from harness.cli.compare import add_threshold
from harness.core.errors import HarnessError, MeasuredFailure, UsageError
from harness.core.sizes import format_size
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.estimate import estimate, topologies_of
from harness.plan.file import PlanFile, file_of, given
from harness.plan.options import Isolate, Order
from harness.plan.sweep import ZIP, Cell, Sweep, sweep_of, value_of
from harness.plan.workload import MOST_SECONDS
from harness.report.progress import Progress
from harness.report.sweep import Swept, terminal, write_sweep
from harness.results.directory import create_named
from harness.results.documents import write_json
from harness.topology import ownership
from harness.topology.admission import admit
from harness.topology.ahead import look_ahead
from harness.topology.launch import variant_of
from harness.topology.resume import only_bench_of
from harness.topology.sides import Side, benches, earlier_side, images_of, new_side
from harness.topology.turns import Turns

FILE = "sweep.json"
_RESUME = "--resume"
_PAGE_ONLY = "--page-only"
# Until so many runs of each side, no difference can be told from chance.
_REPEAT = 5
_MOST_NAME = 60


@dataclass(frozen=True)
class _Named:
    """A cell, and the name of its directory."""

    name: str
    cell: Cell


def main(argv: Sequence[str]) -> int:
    """Parse, run the cells in turns, show."""
    for flag, act in ((_RESUME, _resume), (_PAGE_ONLY, _page_only)):
        if any(word.partition("=")[0] == flag for word in argv):
            return act(argv)
    parser = _plan_parser()
    if "-h" in argv or "--help" in argv:
        parser.print_help()
        return 0
    path, words = file_of(parser, argv)
    own, words = _own_parser().parse_known_args(words)
    file = (PlanFile() if path is None else PlanFile.read(path)).without(given(words))
    base = [*file.words(parser.foldable), *words]
    added = _table(own.sweep or [])
    table = dict(file.sweep or {}) | added
    if own.zip:
        table[ZIP] = own.zip
    if not table:
        raise UsageError(
            "nothing varies: write a table [sweep] in the plan file, or --sweep NAME=VALUE,VALUE"
        )

    def where(name: str) -> str:
        return f"--sweep {name}" if name in added or path is None else f"{path}: [sweep] {name}"

    sweep = sweep_of(table, parser.foldable, base, where)
    if own.axis is not None and own.axis not in [p.name for p in sweep.parameters]:
        names = ", ".join(parameter.name for parameter in sweep.parameters)
        raise UsageError(f"--axis {own.axis}: choose from {names}")
    with file.named():
        plans = _plans(sweep, base, parser)
    _say(_ahead(plans))
    if own.dry_run:
        for named, plan in plans:
            print(f"{named.name}: {plan.run_count} runs")
        return 0
    return _start(
        sweep, plans, {"budget": own.budget, "axis": own.axis, "threshold": own.threshold}
    )


def _plan_parser() -> Parser:
    parser = Parser(
        prog="harness sweep",
        usage="harness sweep PLAN.toml [--sweep NAME=VALUE,VALUE] [FLAG...]",
        description=__doc__,
        example="harness sweep plan.toml --sweep bytes=1MB,10MB,100MB\n\n"
        "The plan has {bytes} where a value belongs; a table [sweep] in it says the same.",
        # A budget is for all cells here.
        conflict_handler="resolve",
        parents=[_own_parser()],
    )
    add_plan_flags(parser, containers=True)
    parser.add_argument("--budget", type=_minutes, metavar="MINUTES", help=_BUDGET)
    for name in ("sweep", "zip", "axis", "budget", "dry-run", "threshold", "until", "against"):
        parser.foldable = {n: a for n, a in parser.foldable.items() if n != name}
    parser.set_defaults(repeat=_REPEAT, isolate=Isolate.RUN, order=Order.INTERLEAVED)
    return parser


_BUDGET = "most minutes that runs may take; what is left is done with --resume"


def _own_parser() -> Parser:
    parser = Parser(prog="harness sweep", add_help=False)
    group = parser.add_argument_group("what varies")
    group.add_argument(
        "--sweep",
        action="append",
        metavar="NAME=VALUE,VALUE",
        help="a flag without its dashes, or a variable that the plan has as {NAME}, and its values;"
        " a value of several words has blanks between them; may be given several times",
    )
    group.add_argument(
        "--zip",
        action="append",
        nargs="+",
        metavar="NAME",
        help="these take their values in step; all others are crossed",
    )
    group.add_argument("--axis", metavar="NAME", help="what figures are drawn over")
    group.add_argument("--budget", type=_minutes, metavar="MINUTES", help=_BUDGET)
    group.add_argument("--dry-run", action="store_true", help="print the cells; start nothing")
    add_threshold(group, "differences up to this are none")
    group.add_argument(
        _RESUME, metavar="SWEEP_DIR", help="do the runs that are left of an earlier one"
    )
    group.add_argument(
        _PAGE_ONLY, metavar="SWEEP_DIR", help="measure nothing: make tables and page again"
    )
    return parser


def _minutes(text: str) -> float:
    with suppress(ValueError):
        if 0 < (minutes := float(text)) < MOST_SECONDS:
            return minutes
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")


def _table(flags: Sequence[str]) -> dict[str, Any]:
    """Return the table of the flags ``NAME=VALUE,VALUE``."""
    table: dict[str, Any] = {}
    for flag in flags:
        name, equals, values = flag.partition("=")
        if not equals or not name:
            raise UsageError(f"--sweep {flag}: write NAME=VALUE,VALUE, such as dask-workers=1,2,4")
        if name in table:
            raise UsageError(f"--sweep {name}: is there twice: list its values with commas")
        table[name.lstrip("-")] = [value.split() for value in values.split(",") if value.strip()]
    return table


def _plans(sweep: Sweep, base: Sequence[str], parser: Parser) -> list[tuple[_Named, Plan]]:
    """Return each cell and its plan; all are checked before anything starts."""
    found = []
    cells = sweep.cells()
    for number, cell in enumerate(cells, 1):
        name = f"{number:0{len(str(len(cells)))}d}-{_file_name(cell)}"
        try:
            plan = parse_plan(parser, cell.words(base, parser.foldable), containers=True)
            refuse(plan, "sweep")
        except UsageError as error:
            raise UsageError(f"cell {cell}: {error}") from None
        refuse(plan, "sweep")
        found.append((_Named(name, cell), plan))
    return found


def _file_name(cell: Cell) -> str:
    text = "-".join(f"{name}-{value}" for name, value in cell.values.items())
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text)[:_MOST_NAME].strip("-.")


def _ahead(plans: Sequence[tuple[_Named, Plan]]) -> str:
    """Return in one line how many cells and runs there are, and how long they may take."""
    runs = sum(plan.run_count for _, plan in plans)
    seconds, most = 0.0, 0
    for _, plan in plans:
        containers = sum(look_ahead(plan).services.values())
        needs = estimate(plan, containers, topologies_of(plan))
        seconds, most = seconds + needs.total_s, max(most, needs.peak_bytes)
    return (
        f"{len(plans)} cells, {runs} runs; predicted: {timedelta(seconds=round(seconds))},"
        f" {format_size(most)} at the peak of the largest"
    )


def _start(sweep: Sweep, plans: Sequence[tuple[_Named, Plan]], options: Mapping[str, Any]) -> int:
    warnings: list[str] = []
    for named, plan in plans:
        try:
            warnings += admit(plan, plan.general.run_dir)
        except UsageError as error:
            raise UsageError(f"cell {named.cell}: {error}") from None
    for line in dict.fromkeys(warnings):
        _say(line)
    variants = {named.name: variant_of(plan, _say) for named, plan in plans}
    images = {n.name: images_of(plan, variants[n.name], _say) for n, plan in plans}
    place = create_named(plans[0][1].general.run_dir, "sweep", first_file=FILE)
    parameters = {p.name: [list(value.words) for value in p.values] for p in sweep.parameters}
    cells = {n.name: {k: list(v.words) for k, v in n.cell.values.items()} for n, _ in plans}
    record = {"schema_version": 1, "parameters": parameters, "cells": cells, "options": options}
    sides = [
        new_side(n.name, place / n.name, plan, variants[n.name], images[n.name])
        for n, plan in plans
    ]
    # Last: where it is, all sides can be resumed.
    write_json(place / FILE, record)
    return _run(place, record, sides)


def _resume(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness sweep")
    parser.add_argument(_RESUME, metavar="SWEEP_DIR", required=True, type=Path)
    parser.add_argument("--budget", type=_minutes, metavar="MINUTES")
    args, others = parser.parse_known_args(argv)
    if others:
        raise UsageError(
            f"{_RESUME}: takes the plans of the earlier sweep: leave out {others[0]}; only --budget"
            " may be another one"
        )
    place = args.resume.absolute()
    record = _read(_RESUME, place)
    record["options"]["budget"] = args.budget
    sides = []
    done_in_all = 0
    for name in record["cells"]:
        earlier, done = earlier_side(name, place / name, _say)
        done_in_all += done
        sides.append(earlier)
    runs = sum(side.plan.run_count for side in sides)
    _say(f"{done_in_all} of {runs} runs are done, {runs - done_in_all} are left")
    return _run(place, record, sides)


def _read(flag: str, place: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((place / FILE).read_bytes())
        for values in found["cells"].values():
            for words in values.values():
                value_of([str(word) for word in words])
        found["options"] = dict(found["options"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UsageError(
            f"{flag} {place}: has no {FILE} that 'harness sweep' wrote: name its directory"
        ) from None
    return found


def _run(place: Path, record: Mapping[str, Any], sides: Sequence[Side]) -> int:
    budget, began = record["options"].get("budget"), time.monotonic()
    failure: MeasuredFailure | None = None
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(only_bench_of(side.directory.path, "--run-dir"))
        progress = stack.enter_context(
            Progress(sum(side.plan.run_count for side in sides), sys.stderr)
        )
        taking = benches(sides, progress.say, progress.done)

        def spent() -> bool:
            return budget is not None and time.monotonic() - began > budget * 60

        try:
            Turns(taking, sides[0].plan.workload.seed, spent).run()
        except MeasuredFailure as error:
            # What did go through can still be shown.
            failure = error
    for side in sides:
        with suppress(HarnessError, OSError):
            write_quality(side.directory)
    left = sum(
        side.plan.run_count - len(bench.done()) for side, bench in zip(sides, taking, strict=True)
    )
    if left:
        _say(f"{left} runs are left: harness sweep {_RESUME} {place}")
    _show(place, record)
    ownership.give_to_user(place, ownership.current_owner())
    if failure is not None:
        raise failure
    return 0


def _page_only(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness sweep")
    parser.add_argument(_PAGE_ONLY, dest="place", metavar="SWEEP_DIR", required=True, type=Path)
    parser.add_argument("--axis", metavar="NAME")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path)
    add_threshold(parser, "differences up to this are none")
    args = parser.parse_args(argv)
    record = _read(_PAGE_ONLY, args.place)
    record["options"] |= {"threshold": args.threshold}
    if args.axis is not None:
        if args.axis not in record["parameters"]:
            raise UsageError(f"--axis {args.axis}: choose from {', '.join(record['parameters'])}")
        record["options"]["axis"] = args.axis
    _show(args.place, record, args.output)
    return 0


def _show(place: Path, record: Mapping[str, Any], output: Path | None = None) -> None:
    points, skipped = [], {}
    for name, found in record["cells"].items():
        values = {key: value_of([str(word) for word in words]) for key, words in found.items()}
        session = None
        try:
            session = read_session(place / name)
            if not any(run.measured for run in session.runs):
                said = next((f": {run.reason}" for run in session.runs if run.reason), "")
                skipped[name] = f"no run went through{said}"
        except UsageError as error:
            skipped[name] = str(error)
        texts = {key: str(value) for key, value in values.items()}
        numbers = {key: value.number for key, value in values.items()}
        points.append(Point(name, texts, numbers, session))
    if all(point.session is None for point in points):
        raise UsageError(f"{place}: no run of any cell went through: see the logs in its folders")
    rules = Rules(record["options"].get("threshold") or Rules.threshold)
    axis = axis_of(points, record["options"].get("axis"))
    swept = Swept(panels_of(points, axis, rules), skipped)
    print(terminal(swept))
    print(f"\nDirectory: {place}\nPage: {write_sweep(output or place, swept)}")


def _say(line: str) -> None:
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
