"""Read WfFormat: a file of somebody else's, and what of it is run.

Versions 1.3 and 1.4 have the files with each task; from 1.5 on there is a specification of tasks
and files, and beside it what an execution took. All that is not needed is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from harness.plan.graph import levels_of
from harness.plan.workload import MOST_BYTES, MOST_SECONDS

MOST_FILE_BYTES = 64 * 2**20
_MOST_TASKS = 100_000
_MOST_EDGES = 5_000_000
_SHOWN = 100
PIECE = 8000
"""Characters of a piece of an instance in a plan."""


class NotMappedError(ValueError):
    """A file that is no instance, or one that cannot be run; its text is one line."""


_Name = Annotated[str, Field(min_length=1, max_length=1000)]
_Bytes = Annotated[float, Field(ge=0, le=MOST_BYTES)]
_Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]


class _Part(BaseModel):
    # Numbers are numbers, and not text that looks like one; and every one is finite.
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class _FileOfTask(_Part):
    name: _Name = Field(validation_alias=AliasChoices("id", "name"))
    link: str
    size: _Bytes = Field(validation_alias=AliasChoices("sizeInBytes", "size"))


class _File(_Part):
    name: _Name = Field(validation_alias="id")
    size: _Bytes = Field(validation_alias="sizeInBytes")


class _Task(_Part):
    name: _Name
    id: _Name | None = None
    parents: list[_Name] = []
    children: list[_Name] = []
    runtime: _Seconds | None = Field(
        default=None, validation_alias=AliasChoices("runtimeInSeconds", "runtime")
    )
    files: list[_FileOfTask] = []
    reads: list[_Name] = Field(default=[], validation_alias="inputFiles")
    writes: list[_Name] = Field(default=[], validation_alias="outputFiles")


class _Specification(_Part):
    tasks: list[_Task]
    files: list[_File] = []


class _Executed(_Part):
    id: _Name
    runtime: _Seconds = Field(validation_alias="runtimeInSeconds")


class _Execution(_Part):
    tasks: list[_Executed] = []


class _Workflow(_Part):
    tasks: list[_Task] | None = Field(default=None, validation_alias=AliasChoices("tasks", "jobs"))
    specification: _Specification | None = None
    execution: _Execution | None = None


class _Document(_Part):
    version: str = Field(validation_alias="schemaVersion")
    workflow: _Workflow


class InstanceTask(NamedTuple):
    """A task that is run: objects by number, as in a graph; bytes and seconds unscaled."""

    name: Annotated[str, Field(max_length=1000)]
    inputs: tuple[int, ...]
    size: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)]
    after: tuple[int, ...] = ()


class Instance(NamedTuple):
    """What of an instance is run: start data (name, bytes), and tasks by level."""

    start: tuple[tuple[Annotated[str, Field(max_length=1000)], Annotated[int, Field(ge=0)]], ...]
    levels: tuple[tuple[InstanceTask, ...], ...]

    @classmethod
    def of_pieces(cls, pieces: Iterable[str]) -> Instance:
        """Read what :meth:`pieces` gave.

        Raises:
            ValueError: one line, if it is something else.
        """
        try:
            found = _ADAPTER.validate_json("".join(pieces))
        except ValidationError as error:
            raise ValueError(f"not the tasks of a workflow: {_first(error)}") from None
        number = len(found.start)
        for level in found.levels:
            if not level:
                raise ValueError("not the tasks of a workflow: a level has none")
            for task in level:
                needed = {*task.inputs, *task.after}
                if not all(0 <= item < number for item in needed) or not task.inputs:
                    raise ValueError(
                        f"not the tasks of a workflow: {task.name[:_SHOWN]!r} reads what is not"
                        " made before it"
                    )
            number += len(level)
        if not found.levels or number > 2 * _MOST_TASKS:
            raise ValueError(f"not the tasks of a workflow: from 1 to {_MOST_TASKS} tasks")
        return found

    def pieces(self) -> list[str]:
        """Return it as JSON, in pieces that every reader of a manifest takes as they are.

        They are plain characters, and none of them is long.
        """
        text = json.dumps(_ADAPTER.dump_python(self, mode="json"), separators=(",", ":"))
        return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


_ADAPTER: TypeAdapter[Instance] = TypeAdapter(Instance)
NOTHING = ""
"""The start data, of no bytes, of tasks that read no file: a task knows its store by its data."""


@dataclass
class _Job:
    """A task as any version tells it: names of files, and of tasks by their keys."""

    key: str
    name: str
    seconds: float
    parents: list[str]
    children: list[str]
    reads: list[str]
    writes: list[str]
    needs: dict[str, None] = field(default_factory=dict)


def read_instance(data: bytes) -> Instance:
    """Read a file of WfFormat.

    Raises:
        NotMappedError: one line that says what is wrong with it, or cannot be run.
    """
    if len(data) > MOST_FILE_BYTES:
        raise NotMappedError(f"larger than {MOST_FILE_BYTES >> 20} MiB: this is no instance")
    try:
        document = _Document.model_validate_json(data)
    except ValidationError as error:
        raise NotMappedError(f"not WfFormat: {_first(error)}") from None
    if document.version not in _VERSIONS:
        raise NotMappedError(
            f"schemaVersion {document.version[:_SHOWN]!r}: WfFormat {', '.join(_VERSIONS)} can be"
            " run"
        )
    workflow = document.workflow
    if workflow.specification is not None:
        sizes = _unique(((f.name, f.size) for f in workflow.specification.files), "file")
        jobs = list(_specified(workflow.specification, workflow.execution))
    elif workflow.tasks is not None:
        sizes = _sizes_of(workflow.tasks)
        jobs = list(_with_files(workflow.tasks))
    else:
        raise NotMappedError("not WfFormat: workflow has neither a specification nor tasks")
    if not 1 <= len(jobs) <= _MOST_TASKS:
        raise NotMappedError(f"{len(jobs)} tasks: from 1 to {_MOST_TASKS} can be run")
    return _instance(jobs, sizes)


_VERSIONS = ("1.3", "1.4", "1.5", "1.6")


def _first(error: ValidationError) -> str:
    """Return where the first fault is, and what it is."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part)[:_SHOWN] for part in first["loc"])
    said = first["msg"][:200]
    return f"{where}: {said}" if where else said


def _unique(pairs: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NotMappedError(f"{what} {name[:_SHOWN]!r} is there twice: each needs its own id")
        found[name] = value
    return found


def _specified(of: _Specification, execution: _Execution | None) -> Iterator[_Job]:
    took = _unique(
        ((task.id, task.runtime) for task in (execution.tasks if execution else ())),
        "execution of task",
    )
    for task in of.tasks:
        key = task.id or task.name
        seconds = took.get(key, task.runtime)
        if seconds is None:
            raise NotMappedError(f"task {key[:_SHOWN]!r} has no runtimeInSeconds in execution")
        lists = task.parents, task.children, task.reads, task.writes
        yield _Job(key, task.name, seconds, *lists)


def _with_files(tasks: Iterable[_Task]) -> Iterator[_Job]:
    for task in tasks:
        key = task.id or task.name
        if task.runtime is None:
            raise NotMappedError(f"task {key[:_SHOWN]!r} has no runtimeInSeconds")
        links: Mapping[str, list[str]] = {"input": [], "output": []}
        for file in task.files:
            if file.link not in links:
                raise NotMappedError(
                    f"file {file.name[:_SHOWN]!r} of task {key[:_SHOWN]!r}: link"
                    f" {file.link[:_SHOWN]!r} is neither input nor output"
                )
            links[file.link].append(file.name)
        yield _Job(
            key,
            task.name,
            task.runtime,
            task.parents,
            task.children,
            links["input"],
            links["output"],
        )


def _sizes_of(tasks: Iterable[_Task]) -> dict[str, float]:
    """Return each file's size: its writer's word, else the largest of its readers'."""
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    for file in (file for task in tasks for file in task.files):
        found = written if file.link == "output" else read
        found[file.name] = max(found.get(file.name, 0.0), file.size)
    return {**read, **written}


def _instance(jobs: list[_Job], sizes: Mapping[str, float]) -> Instance:
    by_key = _unique(((job.key, job) for job in jobs), "task")
    resolve = _resolver(jobs, by_key)
    writer = _writers(jobs)
    edges = 0
    for job in jobs:
        edges += len(job.reads) + len(job.parents) + len(job.children)
        for parent in map(resolve, job.parents):
            job.needs[parent] = None
        for child in map(resolve, job.children):
            by_key[child].needs[job.key] = None
        for name in job.reads:
            if writer.get(name, job.key) != job.key:
                job.needs[writer[name]] = None
    if edges > _MOST_EDGES:
        raise NotMappedError(f"{edges} dependencies: up to {_MOST_EDGES} can be run")
    try:
        levels = levels_of({job.key: job.needs for job in jobs})
    except CycleError as error:
        cycle = error.args[1]
        names = " -> ".join(name[:_SHOWN] for name in cycle[:5])
        more = "" if len(cycle) <= 5 else " -> ..."
        raise NotMappedError(f"tasks wait for each other: {names}{more}") from None
    return _numbered([[by_key[key] for key in level] for level in levels], writer, sizes)


def _writers(jobs: Iterable[_Job]) -> dict[str, str]:
    """Return which task writes each file."""
    found: dict[str, str] = {}
    for job in jobs:
        for name in job.writes:
            if found.setdefault(name, job.key) != job.key:
                raise NotMappedError(
                    f"file {name[:_SHOWN]!r} is written by the tasks {found[name][:_SHOWN]!r} and"
                    f" {job.key[:_SHOWN]!r}: which one a reader waits for cannot be said"
                )
    return found


def _resolver(jobs: Iterable[_Job], by_key: Mapping[str, _Job]) -> Callable[[str], str]:
    """Return what finds a task by its id, or by its name where that is one task's alone."""
    by_name: dict[str, list[str]] = {}
    for job in jobs:
        by_name.setdefault(job.name, []).append(job.key)

    def resolve(name: str) -> str:
        if name in by_key:
            return name
        found = by_name.get(name, [])
        if len(found) != 1:
            why = "is the name of several tasks" if found else "is no task"
            raise NotMappedError(f"{name[:_SHOWN]!r}, a parent or child, {why}")
        return found[0]

    return resolve


def _numbered(
    levels: list[list[_Job]], writer: Mapping[str, str], sizes: Mapping[str, float]
) -> Instance:
    def size(name: str, job: _Job) -> float:
        if name not in sizes:
            raise NotMappedError(
                f"file {name[:_SHOWN]!r} of task {job.key[:_SHOWN]!r} is not among the files: its"
                " size is not known"
            )
        return sizes[name]

    ordered = [job for level in levels for job in level]
    start: dict[str, int] = {}
    for job in ordered:
        for name in job.reads:
            if writer.get(name, job.key) == job.key:
                start[name] = round(size(name, job))
        if not any(_reads(job, writer)):
            start[NOTHING] = 0
    number = {name: place for place, name in enumerate(start)}
    made = {job.key: place for place, job in enumerate(ordered, len(start))}

    def task(job: _Job) -> InstanceTask:
        inputs = {number[n] if by is None else made[by]: None for n, by in _reads(job, writer)}
        if not inputs:
            inputs = {number[NOTHING]: None}
        written = sum(size(name, job) for name in dict.fromkeys(job.writes))
        if written > MOST_BYTES:
            raise NotMappedError(f"task {job.key[:_SHOWN]!r} writes more than {MOST_BYTES} bytes")
        after = tuple(made[key] for key in job.needs if made[key] not in inputs)
        return InstanceTask(job.key, tuple(inputs), round(written), job.seconds, after)

    return Instance(
        tuple(start.items()), tuple(tuple(task(job) for job in level) for level in levels)
    )


def _reads(job: _Job, writer: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield the files that a task reads, each with the task that writes it; None: nobody does."""
    for name in job.reads:
        by = writer.get(name)
        # What a task changes in place it reads as it was at the start.
        yield name, None if by is None or by == job.key else by
