"""Draw one figure from a run directory."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from harness.analysis.curves import typical_run
from harness.analysis.figures import Group, RunFigures, group_runs
from harness.analysis.grades import warning
from harness.analysis.readers import read_session
from harness.analysis.session import Session
from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.report import captions, plots
from harness.report.palette import mode_looks
from harness.report.terminal import paragraph, screen_of
from harness.reproduce.reader import opened

_SUFFIXES = plots.SUFFIXES
# Inches: below, axes have no room; above, a picture no longer fits in memory.
_SMALLEST, _LARGEST = 1.0, 100.0


def main(argv: Sequence[str]) -> int:
    """Parse, read, draw."""
    args = _parser().parse_args(argv)
    if args.output.suffix not in _SUFFIXES:
        raise UsageError(f"--output {args.output}: name a file that ends with {_or(_SUFFIXES)}")
    with opened(args.directory) as path:
        session = read_session(path)
    for line in session.problems:
        print(warning(line), file=sys.stderr)
    groups = _chosen(group_runs([session]), args)
    try:
        figure = plots.new_figure(_drawing(groups, args), _place(args))
        caption = _caption(groups, args)
        plots.save(figure, args.output, _source(args.directory, session), caption)
    except OSError as error:
        raise UsageError(f"--output {args.output}: cannot be written ({error.strerror})") from None
    print(f"{args.output}\n{paragraph(f'Caption: {caption}', screen_of(sys.stdout))}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="harness plot",
        description=__doc__,
        example="harness plot runs/demo --for ieee-column -o memory.pdf",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="a run directory, or bundle")
    parser.add_argument(
        "--figure",
        choices=("memory", "services", "peaks", "makespans"),
        default="memory",
        help="memory over time; one run stacked by service; net peaks; makespans (default: memory)",
    )
    parser.add_argument("--mode", nargs="+", metavar="MODE", help="only these modes")
    parser.add_argument("--service", metavar="SERVICE", help="memory of this service only")
    parser.add_argument("--run", metavar="RUN_ID", help="services: this run (default: the median)")
    parser.add_argument(
        "--absolute", action="store_true", help="memory: with the baseline (default: net of it)"
    )
    parser.add_argument(
        "--for",
        dest="place",
        choices=tuple(plots.PLACES),
        default="ieee-page",
        metavar="PLACE",
        help=f"width and letters of what the figure is for: {', '.join(plots.PLACES)}; the legend"
        " stands above and is never cut (default: ieee-page)",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=_inches,
        metavar=("WIDTH", "HEIGHT"),
        help=f"another size of the drawing, in inches, {_SMALLEST:g} to {_LARGEST:g} each",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help=f"a file that ends with {_or(_SUFFIXES)}",
    )
    return parser


def _source(given: Path, session: Session) -> str:
    """Return what a figure is of: the run directory, and the identity of the bundle it is from."""
    if not given.is_file():
        return session.name
    with given.open("rb") as file:
        return f"{session.name}, bundle sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _place(args: argparse.Namespace) -> plots.Place:
    place = plots.PLACES[args.place]
    width, height = args.size or (place.width, place.height)
    return plots.Place(width, height, place.font_pt)


def _inches(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not _SMALLEST <= value <= _LARGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: write inches from {_SMALLEST:g} to {_LARGEST:g}"
        )
    return value


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _chosen(groups: Sequence[Group], args: argparse.Namespace) -> list[Group]:
    """Return the groups asked for."""
    modes = [group.mode for group in groups]
    for mode in args.mode or []:
        if mode not in modes:
            raise UsageError(f"--mode {mode}: there is no run of it; there is {', '.join(modes)}")
    chosen = [group for group in groups if not args.mode or group.mode in args.mode]
    runs = [figures for group in chosen for figures in group.runs]
    if args.figure != "makespans" and not any(figures.scopes for figures in runs):
        raise UsageError(
            f"--figure {args.figure}: no figures of memory ({runs[0].absent}); draw makespans"
        )
    services = list(dict.fromkeys(scope for figures in runs for scope in figures.scopes))
    if args.service and args.service not in services:
        raise UsageError(f"--service {args.service}: not one of {', '.join(services)}")
    return chosen


def _drawing(groups: Sequence[Group], args: argparse.Namespace) -> Callable[[Axes], None]:
    looks = mode_looks([(group.label, group.mode) for group in groups])
    if args.figure == "services":
        return _services(groups, args.run)
    if args.figure == "peaks":
        return lambda axes: plots.draw_peaks(axes, groups, looks)
    if args.figure == "makespans":
        return lambda axes: plots.draw_makespans(axes, groups, looks)
    return lambda axes: plots.draw_memory(
        axes, groups, looks, net=not args.absolute, scope=args.service
    )


def _caption(groups: Sequence[Group], args: argparse.Namespace) -> str:
    if args.figure == "services":
        return captions.of_services(*_shown(groups, args.run))
    if args.figure == "peaks":
        return captions.of_peaks(groups)
    if args.figure == "makespans":
        return captions.of_makespans(groups)
    return captions.of_memory(groups, net=not args.absolute, service=args.service or "")


def _services(groups: Sequence[Group], run_id: str | None) -> Callable[[Axes], None]:
    group, run = _shown(groups, run_id)
    if not run.scopes:
        raise UsageError(f"--figure services: none of {run.run.run_id}: {run.absent}")
    return lambda axes: plots.draw_services(axes, group, run)


def _shown(groups: Sequence[Group], run_id: str | None) -> tuple[Group, RunFigures]:
    """Return the one run that is drawn stacked by service, and its group."""
    if run_id is None:
        if len(groups) > 1:
            raise UsageError("--figure services: shows one run: name a --mode, or a --run")
        return groups[0], typical_run(groups[0])
    for group in groups:
        for run in group.runs:
            if run.run.run_id == run_id:
                return group, run
    known = ", ".join(run.run.run_id for group in groups for run in group.runs)
    raise UsageError(f"--run {run_id}: no such run; there is {known}")
