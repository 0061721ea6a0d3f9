"""Compare versions of a stack: their topologies take turns, with the same plan, and a verdict."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from harness.analysis.quality import write_quality
from harness.analysis.readers import read_session
from harness.analysis.stopping import Look, look
from harness.cli import compare, report, why
from harness.cli._parser import Parser
from harness.cli._traced import refuse, trace
from harness.core.errors import MeasuredFailure, UsageError
from harness.images.variant import Variant
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.options import LOOKS, MOST_UNTIL, Isolate, Order
from harness.report.progress import Progress
from harness.results.directory import create_named
from harness.results.documents import write_json
from harness.topology import ownership
from harness.topology.admission import admit
from harness.topology.bench import Bench, is_over
from harness.topology.launch import variant_of
from harness.topology.resume import only_bench_of
from harness.topology.sides import Side, benches, earlier_side, images_of, new_side
from harness.topology.turns import Turns

FILE = "ab.json"
_SIDES = "abcdef"
_RESUME = "--resume"
# The fewest runs of two sides that differ in all of them with a p of 0.1 %.
_REPEAT = 6


def main(argv: Sequence[str]) -> int:
    """Parse, run the sides in turns, compare; 1 if one became worse than the first."""
    if any(word.partition("=")[0] == _RESUME for word in argv):
        return _resume(argv)
    parser = ab_parser(argv)
    plan = parse_plan(parser, argv, containers=True)
    refuse(plan, "ab", only=False)
    args, _ = parser.parse_known_args(argv)
    words = sides_of(args)
    if len(words) < 2:
        raise UsageError(
            "--a and --b: both sides are needed, such as --a dask==2025.3.0 --b dask==2025.4.0; a"
            " side without words is this checkout's own stack"
        )
    assert plan.topology is not None
    if plan.topology.against is not None:
        raise UsageError("--against: the sides are compared with each other; leave it out")
    options = {
        "until": plan.topology.until,
        "budget": plan.topology.budget,
        "no_report": plan.topology.no_report,
        "compare": _words(compare.question_parser(), args),
    }
    plans = {side: _plan_of(plan, more) for side, more in words.items()}
    warnings = admit(plan, plan.general.run_dir)
    variants = {side: variant_of(each, _say) for side, each in plans.items()}
    images = {side: images_of(each, variants[side], _say) for side, each in plans.items()}
    place = create_named(plan.general.run_dir, "ab", first_file=FILE)
    named = {side: _called(variant) for side, variant in variants.items()}
    for line in [*warnings, *(f"side {side}: {name}" for side, name in named.items())]:
        _say(line)
    sides = [
        new_side(side, place / side, each, variants[side], images[side])
        for side, each in plans.items()
    ]
    # Last: where it is, all sides can be resumed.
    write_json(place / FILE, {"schema_version": 1, "sides": named, "options": options})
    return _run(place, sides, options)


def sides_of(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the sides' words, by name."""
    return {side: getattr(args, side) for side in _SIDES if getattr(args, side) is not None}


def ab_parser(argv: Sequence[str]) -> Parser:
    """Return the parser of a command line: its defaults are not a bench's.

    Each run has a topology of its own, so that sides can take turns run by run.
    """
    parser = Parser(
        prog="harness ab",
        usage="harness ab [PLAN.toml] --a WORD... --b WORD... [FLAG...]",
        description=__doc__,
        allow_abbrev=False,
        parents=[compare.question_parser()],
        example="harness ab plan.toml --a dask==2025.3.0 --b dask==2025.4.0 \\\n"
        "    --primary net_peak:runner",
        epilog="Exit codes are those of 'harness compare'.",
    )
    group = parser.add_argument_group("what is compared")
    for side in _SIDES:
        group.add_argument(
            f"--{side}",
            nargs="*",
            metavar="WORD",
            help="what --stack takes; none: this checkout's own versions"
            if side == "a"
            else "compared with --a",
        )
    group.add_argument(
        _RESUME,
        metavar="AB_DIR",
        help="do the runs that are left of an earlier one; no other flags",
    )
    add_plan_flags(parser, containers=True)
    until = any(word.partition("=")[0] == "--until" for word in argv)
    parser.set_defaults(
        repeat=MOST_UNTIL if until else _REPEAT, isolate=Isolate.RUN, order=Order.INTERLEAVED
    )
    return parser


def _words(parser: Parser, args: argparse.Namespace) -> list[str]:
    """Return the words of a parser's flags that were given."""
    words = []
    for action in parser._actions:
        value = getattr(args, action.dest)
        if value != action.default:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [action.option_strings[-1], *(str(each) for each in values)]
    return words


def _plan_of(plan: Plan, words: Sequence[str]) -> Plan:
    """Return a side's plan; when it is enough is asked of all sides together."""
    assert plan.topology is not None
    topology = {"stack": [*plan.topology.stack, *words], "until": None, "budget": None}
    return plan.model_copy(update={"topology": plan.topology.model_copy(update=topology)})


def _called(variant: Variant | None) -> str:
    return "this checkout's own versions" if variant is None else str(variant)


def _resume(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness ab", allow_abbrev=False)
    parser.add_argument(_RESUME, metavar="AB_DIR", required=True)
    args, others = parser.parse_known_args(argv)
    if others:
        raise UsageError(f"{_RESUME}: takes the plan of the earlier one: leave out {others[0]}")
    place = Path(args.resume).absolute()
    try:
        found = json.loads((place / FILE).read_bytes())
        names, options = list(found["sides"]), dict(found["options"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{_RESUME} {place}: has no {FILE} that 'harness ab' wrote: name its directory"
        ) from None
    sides = []
    for side in names:
        earlier, done = earlier_side(side, place / side, _say)
        _say(f"side {side}: {done} of {earlier.plan.run_count} runs are done")
        sides.append(earlier)
    return _run(place, sides, options)


def _run(place: Path, sides: Sequence[Side], options: Mapping[str, Any]) -> int:
    began = time.monotonic()
    failure: MeasuredFailure | None = None
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(only_bench_of(side.directory.path, "--run-dir"))
        total = sum(side.plan.run_count for side in sides)
        progress = stack.enter_context(Progress(total, sys.stderr))
        taking = benches(sides, progress.say, progress.done)

        def enough() -> bool:
            return _is_enough(taking, options, began, progress.say)

        turns = Turns(taking, sides[0].plan.workload.seed, enough)
        try:
            turns.run()
        except MeasuredFailure as error:
            # What did go through can still be compared.
            failure = error
    if failure is None:
        # Asked for, and nothing that comparing costs.
        began += _trace(sides)
    ownership.give_to_user(place, ownership.current_owner())
    for side in sides:
        write_quality(side.directory)
    drawn = time.monotonic()
    if not options["no_report"]:
        with suppress(UsageError):
            paths = [str(side.directory.path) for side in sides]
            report.main([*paths, "--output", str(place)])
    page_s = time.monotonic() - drawn
    code = _compare(place, sides, options)
    _note_cost(place, time.monotonic() - began, turns.topologies_s, page_s)
    if failure is not None:
        raise failure
    return code


def _note_cost(place: Path, whole_s: float, topologies_s: float, page_s: float) -> None:
    """Say what this command took beside what a bench of each side takes, too."""
    own_s = whole_s - topologies_s - page_s
    found = json.loads((place / FILE).read_bytes())
    seconds = {"topologies": topologies_s, "page": page_s, "turns and comparison": own_s}
    rounded = {what: round(each, 1) for what, each in seconds.items()}
    write_json(place / FILE, found | {"seconds": rounded})
    if topologies_s:
        _say(
            f"Topologies took {topologies_s:.0f} s, the page {page_s:.0f} s, taking turns and"
            f" comparing {own_s:.0f} s ({own_s / topologies_s * 100:.1f} % of the topologies)"
        )


def _trace(sides: Sequence[Side]) -> float:
    """Trace the sides whose plans ask for it; return how many seconds that took."""
    started = time.monotonic()
    for side in sides:
        if side.plan.general.why is not None:
            trace(side.plan, side.directory, side.images, side.variant, _say)
    return time.monotonic() - started


def _is_enough(
    taking: Sequence[Bench], options: Mapping[str, Any], began: float, say: Callable[[str], None]
) -> bool:
    """Return whether the runs so far answer ``--until``, or its budget is spent."""
    until = options["until"]
    done = {len(bench.done()) for bench in taking}
    of_each, more = divmod(min(done), len(taking[0].plan.workload.modes))
    if until is None or len(done) > 1 or more or of_each not in LOOKS:
        return False
    # What the last topology left is read only now that nothing is measured.
    taking[0].last.wait()
    base, *others = [read_session(bench.directory.path) for bench in taking]
    found = [look(other, until, base) for other in others]
    said = "; ".join(f"{o.path.name}: {each.said}" for o, each in zip(others, found, strict=True))
    enough = all(each.enough for each in found)
    following = next((n for n in LOOKS if n > of_each), of_each)
    over = is_over(options["budget"], began, of_each, following)
    spent = "; the --budget is spent" if over and not enough else ""
    say(f"--until {until * 100:.4g}%: after {of_each} runs of each mode: {said}{spent}")
    if enough or over:
        for bench in taking:
            bench.stop_after(of_each, Look(enough, said))
    return enough or over


def _compare(place: Path, sides: Sequence[Side], options: Mapping[str, Any]) -> int:
    """Print the verdict of each side beside the first, return the worst code."""
    first, *others = (str(side.directory.path) for side in sides)
    words = list(options["compare"])
    output = None
    if "--output" in words:
        # compare would write one file for each of several sides.
        at = words.index("--output")
        output = Path(words[at + 1])
        del words[at : at + 2]
    codes = []
    text = io.StringIO()
    for other in others:
        with redirect_stdout(text) if output is not None else nullcontext():
            codes.append(compare.main([first, other, *words]))
            print()
    if output is not None:
        compare.write(text.getvalue().rstrip(), output)
    if all(side.directory.why.exists() for side in sides):
        for each in others:
            why.main([first, each])
            print()
    print(f"Directory: {place}")
    return 1 if 1 in codes else max(codes)


def _say(line: str) -> None:
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
