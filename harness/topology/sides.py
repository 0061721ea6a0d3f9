"""Sides of a comparison: versions of a stack that do the same runs, each in a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.images import Image, ensure
from harness.images.variant import Variant, saved
from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.results.repair import finished_runs
from harness.topology.bench import Bench, LastTopology
from harness.topology.compose import image_stacks, plan_files
from harness.topology.resume import (
    clear_the_way,
    read_bench_file,
    require_images,
    write_bench_file,
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Side:
    """One version, and where its runs go.

    Attributes:
        name: what lines about it begin with.
        plan: of all of its runs.
        directory: its run directory, which is there.
        variant: what replaces the locks of some images.
        images: by stack.
    """

    name: str
    plan: Plan
    directory: RunDirectory
    variant: Variant | None
    images: Mapping[str, Image]

    def say_to(self, say: Say) -> Say:
        """Return what says a line with the side's name before it."""
        return lambda line: say(f"{self.name}: {line}")


def images_of(plan: Plan, variant: Variant | None, say: Say) -> dict[str, Image]:
    """Return the images of a plan by stack; those that do not exist are built first.

    Raises:
        InfrastructureError: if the engine does not answer or a build fails.
    """
    return ensure(sorted(set(image_stacks(plan_files(plan)).values())), say, variant=variant)


def new_side(
    name: str, path: Path, plan: Plan, variant: Variant | None, images: Mapping[str, Image]
) -> Side:
    """Return a side whose run directory is made now, if it is not there.

    From then on :func:`earlier_side` finds it: it may be killed long before its turn.
    """
    directory = RunDirectory(path, plan.general.csv_file, plan.general.log_file)
    path.mkdir(exist_ok=True)
    directory.log.touch()
    if variant is not None:
        variant.save(path)
    write_bench_file(directory.bench, plan, {s: asdict(image) for s, image in images.items()})
    return Side(name, plan, directory, variant, images)


def earlier_side(name: str, path: Path, say: Say) -> tuple[Side, int]:
    """Return a side of an earlier bench, and how many of its runs are done.

    What that bench left behind is removed. Images that are gone are built again.

    Raises:
        UsageError: if the directory is not one of a bench.
        InfrastructureError: if its images cannot be had as they were.
    """
    plan, images = read_bench_file(RunDirectory(path).bench)
    variant = saved(path)
    try:
        require_images(images)
    except InfrastructureError:
        images_of(plan, variant, say)
        require_images(images)
    directory = RunDirectory(path, plan.general.csv_file, plan.general.log_file)
    clear_the_way(directory, say)
    done = finished_runs(directory, say)
    return Side(name, plan, directory, variant, images), len(done)


def benches(sides: Sequence[Side], say: Say, done: Callable[[int], None]) -> list[Bench]:
    """Return a bench for each side, which can take turns.

    Args:
        sides: of one plan.
        say: told, one line each, what is being done.
        done: told the number of finished runs of all sides as it grows.
    """
    last = LastTopology()
    finished = dict.fromkeys((side.name for side in sides), 0)

    def counted(side: Side) -> Callable[[int], None]:
        def count(runs: int) -> None:
            finished[side.name] = max(runs, finished[side.name])
            done(sum(finished.values()))

        return count

    return [
        Bench(
            side.plan,
            side.directory,
            side.say_to(say),
            counted(side),
            side.images,
            side.variant,
            last,
        )
        for side in sides
    ]
