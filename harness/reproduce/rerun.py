"""Run a bundle's plan again, on its images, and compare."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import InfrastructureError, UsageError
from harness.core.text import one_line
from harness.images import Image, docker_cli, ensure
from harness.images.base import load
from harness.images.oci import OciImage
from harness.images.recipe import REPOSITORY
from harness.images.variant import Variant, saved
from harness.plan import Plan
from harness.processes.bench import StepsBench
from harness.processes.machines import ThisMachine
from harness.processes.rooms import Rooms
from harness.processes.services import Places, refuse
from harness.processes.slurm import Allocation
from harness.report.comparison import comparison_json
from harness.reproduce import packed_images as bundled
from harness.reproduce.crate import read_manifest
from harness.reproduce.decides import readers_plan
from harness.reproduce.format import IMAGES, RUN, ImageEntry, Refused
from harness.reproduce.inspection import check
from harness.reproduce.reader import Bundle, opened_bundle
from harness.reproduce.verdict import Reproduction, judge
from harness.results.directory import RunDirectory, create
from harness.results.documents import write_json
from harness.topology.admission import admit
from harness.topology.bench import Bench
from harness.topology.compose import COMPOSE_DIR, image_stacks, plan_files

REPORT = "reproduction.json"
# Of a bundle's own words, which may be anybody's.
_SHOWN = 200


@dataclass(frozen=True)
class Rerun:
    """A plan that was run again.

    Attributes:
        directory: the new run directory.
        reproduction: the comparison.
        other_files: compose files that are not those the run was made with.
    """

    directory: RunDirectory
    reproduction: Reproduction
    other_files: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """Who is told what happens.

    Attributes:
        say: one line each.
        start: called with the number of runs before the first.
        done: called with the number of finished runs.
    """

    say: Callable[[str], None]
    done: Callable[[int], None]


def reproduce(
    path: Path,
    given: Mapping[str, Any],
    threshold: float,
    tell: Callable[[int], Progress],
    runtime: str = "",
) -> Rerun:
    """Check a bundle, load its images, run its plan again, compare.

    Args:
        path: the bundle.
        given: parsed flags: what the reader decides (:func:`readers_plan`).
        threshold: as :func:`harness.reproduce.verdict.judge`.
        tell: given the number of runs, returns who is told what happens.
        runtime: what starts processes in the images where there is no engine; empty for an engine.

    Raises:
        Refused: if something is wrong with the bundle; nothing was loaded then.
        UsageError: if its plan is not admitted here; nothing was loaded then either.
        InfrastructureError: if its images cannot be had, or engine or services fail.
        MeasuredFailure: if a run fails.
    """
    begin = time.monotonic()
    with opened_bundle(path, _needed) as bundle:
        bundled.required(bundle.index)
        published = bundle.file(RUN)
        manifest = read_manifest(published)
        plan = _plan(path, manifest, given)
        check(path, bundle)
        taken = bundled.check(bundle, manifest) if bundle.index.has_images else []
        if runtime:
            return _without_engine(
                path, bundle, plan, taken, threshold=threshold, tell=tell, runtime=runtime
            )
        warnings = admit(plan, plan.general.run_dir)
        variant = _variant(path, published)
        progress = tell(plan.run_count)
        for line in warnings:
            progress.say(line)
        progress.say(f"bundle {bundle.sha256[:12]}: every file is as its index says")
        images = load_images(bundle.index.images, taken, progress.say, variant)
        _expect_stacks(path, plan, images)
        progress.say(f"images are the published ones ({time.monotonic() - begin:.0f} s so far)")
        directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
        Bench(plan, directory, progress.say, progress.done, images=images, variant=variant).run()
        found = judge(published, directory.path, threshold)
        other = _other_compose_files(bundle, plan)
        _record(directory, bundle, found, threshold)
    return Rerun(directory, found, other)


def _without_engine(
    path: Path,
    bundle: Bundle,
    plan: Plan,
    taken: Sequence[OciImage],
    *,
    threshold: float,
    tell: Callable[[int], Progress],
    runtime: str,
) -> Rerun:
    """Run a plan in the images' directories: on this machine, or on the nodes of a job."""
    begin = time.monotonic()
    if not taken:
        raise Refused(f"{path}: has no images, which --runtime {runtime} needs")
    refuse(plan, rooms=True)
    progress = tell(plan.run_count)
    progress.say(f"bundle {bundle.sha256[:12]}: every file is as its index says")
    machines = Allocation.here(os.environ) if "SLURM_JOB_ID" in os.environ else ThisMachine()
    places = Places(machines.nodes[0], machines.nodes)
    entries = dict(zip([e.stack for e in bundle.index.images], taken, strict=True))
    directory = create(plan.general.run_dir, plan.general.csv_file, plan.general.log_file)
    with tempfile.TemporaryDirectory(
        dir=directory.path, prefix=".images-", ignore_cleanup_errors=True
    ) as work:
        rooms = Rooms.of(runtime, entries, Path(work))
        progress.say(
            f"images are the published ones, unpacked ({time.monotonic() - begin:.0f} s so far)"
        )
        images = {
            stack: {
                "stack": stack,
                "reference": image.reference,
                "id": image.id,
                "size_bytes": sum(layer.path.stat().st_size for layer in image.layers),
                "layers": list(image.layer_digests),
            }
            for stack, image in entries.items()
        }
        StepsBench(
            plan, directory, machines, places, progress.say, progress.done, rooms, images
        ).run()
    found = judge(bundle.file(RUN), directory.path, threshold)
    _record(directory, bundle, found, threshold)
    return Rerun(directory, found, ())


def _needed(name: str) -> bool:
    return name.startswith((f"{RUN}/", f"{IMAGES}/"))


def _variant(path: Path, published: Path) -> Variant | None:
    try:
        return saved(published)
    except UsageError as error:
        what = str(error).removeprefix(f"{published}/")
        raise Refused(f"{path}: {RUN}/{what}") from None


def _plan(path: Path, manifest: Mapping[str, Any], given: Mapping[str, Any]) -> Plan:
    try:
        plan = Plan.model_validate(manifest["plan"])
    except (ValidationError, KeyError, TypeError) as error:
        raise Refused(
            f"{path}: its plan is not one this harness can run ({_reason(error)}); it was made by"
            f" version {one_line(str(manifest.get('harness_version')))[:_SHOWN]}"
        ) from None
    if plan.topology is None:
        raise Refused(f"{path}: its plan is not one of containers")
    # What a flag would have been refused for: a plan file has not passed those checks.
    try:
        plan = readers_plan(plan, given)
        plan.check()
    except UsageError as error:
        raise Refused(f"{path}: {one_line(str(error))}") from None
    return plan


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return one_line(f"{where}: {first['msg'].removeprefix('Value error, ')}")[:_SHOWN]


def load_images(
    entries: Sequence[ImageEntry],
    taken: Sequence[OciImage],
    say: Callable[[str], None],
    variant: Variant | None = None,
) -> dict[str, Image]:
    """Return the images in the engine, with the ids they were published with.

    Those of a bundle get names of their own, so that no name of this machine's is taken over.
    """
    if not taken:
        return _built(entries, say, variant)
    named = [
        replace(image, reference=f"{REPOSITORY}/{entry.stack}:bundle-{image.id[7:19]}")
        for entry, image in zip(entries, taken, strict=True)
    ]
    there = {
        tag: found
        for found in docker_cli.inspect([i.reference for i in named])
        for tag in found.tags
    }
    missing = [image for image in named if image.reference not in there]
    if missing:
        say(f"loading {len(missing)} images")
        with tempfile.TemporaryDirectory(prefix="harness-load-") as work:
            load(missing, Path(work))
    found = {}
    for entry, image in zip(entries, named, strict=True):
        local = docker_cli.find(image.reference)
        if local is None or local.id not in entry.ids:
            docker_cli.remove([image.reference])
            raise InfrastructureError(
                f"image {entry.stack}: the engine loaded it as {local.id if local else 'nothing'},"
                f" not as {entry.ids[0]}; its name was removed again"
            )
        found[entry.stack] = Image(
            entry.stack, image.reference, local.id, local.size_bytes, local.layers
        )
    return found


def _built(
    entries: Sequence[ImageEntry], say: Callable[[str], None], variant: Variant | None
) -> dict[str, Image]:
    """Return this checkout's images, if they are the published ones."""
    say("the bundle has no images: using this checkout's, if they are the same")
    images = ensure([entry.stack for entry in entries], say, variant=variant)
    for entry in entries:
        image = images[entry.stack]
        if image.id not in entry.ids and list(image.layers) != entry.layers:
            raise InfrastructureError(
                f"image {entry.stack}: this checkout's is {image.id[:19]}, the published one"
                f" {entry.ids[0][:19]}: use a bundle with images, or the checkout it was made with"
            )
    return images


def _expect_stacks(path: Path, plan: Plan, images: Mapping[str, Image]) -> None:
    needed = set(image_stacks(plan_files(plan)).values())
    if needed - set(images):
        raise Refused(
            f"{path}: has no image {min(needed - set(images))}, which its plan needs here"
        )


def _other_compose_files(bundle: Bundle, plan: Plan) -> tuple[str, ...]:
    """Return which of this harness's compose files are not those of the run.

    This harness's are used in any case: a compose file can do anything to the machine.
    """
    other = []
    for path in [COMPOSE_DIR / "common.yaml", *plan_files(plan)]:
        name = path.relative_to(COMPOSE_DIR).as_posix()
        used = bundle.file(f"{RUN}/compose/sources/{name}")
        if not used.exists() or used.read_bytes() != path.read_bytes():
            other.append(f"compose/{name}")
    return tuple(other)


def _record(directory: RunDirectory, bundle: Bundle, found: Reproduction, threshold: float) -> None:
    """Write down, in the new run directory, what was compared and what came out."""
    document = {
        "bundle_sha256": bundle.sha256,
        "published_run": bundle.index.run.name,
        "threshold": threshold,
        "resolution_bytes": found.resolution_bytes,
        "verdict": found.verdict.value,
        "conclusion": found.conclusion,
        "conclusions": [asdict(each) for each in found.conclusions],
        "carries_over": sorted(found.carries),
        "rows": [comparison_json(row) for row in found.rows],
        "regressions": list(found.regressions),
        "environment": [
            {"what": d.what, "published": d.a, "again": d.b} for d in found.environment
        ],
    }
    write_json(directory.path / REPORT, document)
