"""Going on with a bench that did not come to its end: same plan, same images, same directory."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import InfrastructureError, UsageError
from harness.images import Image, docker_cli
from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.results.documents import write_json
from harness.topology import leftovers, records
from harness.topology.records import State

_SCHEMA_VERSION = 1


def write_bench_file(path: Path, plan: Plan, images: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what a later ``--resume`` needs, before the first container is started."""
    document = {"schema_version": _SCHEMA_VERSION, "plan": plan.model_dump(mode="json")}
    write_json(path, document | {"images": dict(images)})


def read_bench_file(path: Path) -> tuple[Plan, dict[str, Image]]:
    """Return the plan and the images of an earlier bench.

    Raises:
        UsageError: one line that names the file, if it is not there or not one.
    """
    where = f"--resume {path.parent}"
    try:
        found = json.loads(path.read_bytes())
        plan = Plan.model_validate(found["plan"])
        images = {stack: Image(**image) for stack, image in found["images"].items()}
    except OSError as error:
        raise UsageError(
            f"{where}: {path.name}: {error.strerror}; name the run directory of a bench"
        ) from None
    except (ValueError, ValidationError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{where}: {path.name} is not what a bench writes") from None
    if plan.topology is None:
        raise UsageError(f"{where}: {path.name} holds a plan without containers")
    return plan, images


@contextmanager
def only_bench_of(path: Path, flag: str) -> Iterator[None]:
    """Hold the run directory for this process alone; the kernel lets go of it if it dies.

    Raises:
        UsageError: if another bench writes there, or the directory cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{flag} {path}: another bench writes there; wait for its end, or end it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def require_images(images: Mapping[str, Image]) -> None:
    """Make sure that the engine still has the very same images.

    Raises:
        InfrastructureError: if it has not.
    """
    here = docker_cli.inspect([image.reference for image in images.values()])
    ids = {tag: local.id for local in here for tag in local.tags}
    for image in images.values():
        if ids.get(image.reference) != image.id:
            has = "another" if image.reference in ids else "no"
            raise InfrastructureError(
                f"--resume: the engine has {has} image {image.reference} ({image.id[7:19]}) that"
                " the finished runs used; load it, or start a new bench"
            )


def clear_the_way(directory: RunDirectory, say: Callable[[str], None]) -> None:
    """Remove what the earlier bench left: its runner may still write to the directory.

    Raises:
        InfrastructureError: if something cannot be removed.
    """
    theirs = [record for record in records.all_records() if record.run_dir == str(directory.path)]
    ended = [record for record in theirs if record.state() != State.RUNNING]
    if not ended:
        return
    with leftovers.sites(say) as (sites, silent):
        for record in ended:
            say(f"Removing what the earlier bench left ({record.project})")
            keep_note = record.project in silent
            left = leftovers.remove_everywhere(sites, record.project, keep_note=keep_note)
            if left:
                raise InfrastructureError(f"--resume: {left[0]} could not be removed")
