"""Traced runs beside measured ones, for all commands that bench."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict

from harness.analysis.grades import warning
from harness.core.errors import HarnessError, UsageError
from harness.images import Image
from harness.images.variant import Variant
from harness.plan import Plan
from harness.report.progress import Progress
from harness.results.directory import RunDirectory, traced_directory
from harness.topology.bench import Bench
from harness.topology.resume import clear_the_way, read_bench_file, write_bench_file
from harness.topology.sides import Side

Say = Callable[[str], None]


def refuse(plan: Plan, command: str, *, only: bool = True) -> None:
    """Refuse ``--why``, or its ``only``, where nothing would come of it.

    Args:
        plan: as given.
        command: its name.
        only: whether all of it is refused, and not ``only`` alone.

    Raises:
        UsageError: one line.
    """
    why = plan.general.why
    if why is None or (not only and not why.only):
        return
    if not only:
        instead = "native" if why.native else "after"
        raise UsageError(
            f"--why {why}: 'harness {command}' needs measured runs, too: use --why {instead}"
        )
    raise UsageError(
        f"--why: not with 'harness {command}': use 'harness bench', 'harness ab' or 'harness"
        " bisect'"
    )


def trace(
    plan: Plan,
    directory: RunDirectory,
    images: Mapping[str, Image] | None,
    variant: Variant | None,
    say: Say,
) -> None:
    """Run each mode of a plan once more under a trace, in a run directory of its own.

    Args:
        plan: of the measured runs.
        directory: theirs.
        images, variant: as for :class:`Bench`.
        say: told what is done.

    Raises:
        as :meth:`Bench.run`.
    """
    traced, within = plan.traced(), traced_directory(directory)
    within.path.mkdir(exist_ok=True)
    if plan.general.why is not None and plan.general.why.only:
        # The runs within are all there are, but it is this directory that is resumed.
        write_bench_file(directory.bench, plan, {s: asdict(i) for s, i in (images or {}).items()})
    elif images is None:
        # Those that the measured runs used, whatever this checkout describes by now.
        _, images = read_bench_file(directory.bench)
    say(f"--why: each mode once more, traced, in {within.path}")
    with Progress(traced.run_count, sys.stderr) as progress:
        Bench(traced, within, progress.say, progress.done, images, variant).run()


def explain(a: Side, b: Side, say: Say) -> list[str]:
    """Trace two sides, those of them that are not traced yet; return in sentences what changed.

    What has been found holds without it: if it fails, the one sentence says why.

    Raises:
        KeyboardInterrupt: if a signal came.
    """
    # As long to import as figures are.
    from harness.analysis.why import read_why  # noqa: PLC0415
    from harness.report.why import difference_sentences  # noqa: PLC0415

    try:
        for side in (a, b):
            clear_the_way(traced_directory(side.directory), say)
            trace(side.plan, side.directory, side.images, side.variant, side.say_to(say))
        before, after = (read_why(side.directory.path) for side in (a, b))
    except (HarnessError, OSError) as error:
        return [f"What holds the difference could not be traced: {error}"]
    found = difference_sentences(before, after)
    return [
        *before.problems,
        *after.problems,
        *(found or ["No service's peak differs in a trace."]),
    ]


def say_why(directory: RunDirectory) -> None:
    """Print who holds what, and where more of it is; a bench is not at fault if that fails."""
    if not (directory.why.exists() or directory.traces.exists()):
        return
    # As long to import as figures are.
    from harness.analysis.why import read_why  # noqa: PLC0415
    from harness.report.why import CSV, sentences, write_csv  # noqa: PLC0415
    from harness.report.why_cost import cost_sentences  # noqa: PLC0415

    try:
        why = read_why(directory.path)
        write_csv(why, why.session.path / CSV)
    except (HarnessError, OSError) as error:
        print(f"Why: {error}")
        return
    print("\n" + "\n".join([*map(warning, why.problems), *sentences(why)]))
    print("\n" + "\n".join(cost_sentences(why.session)))
    print(f"\nWhy: 'harness why {directory.path}' prints who holds how much")
