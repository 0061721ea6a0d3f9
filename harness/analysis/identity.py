"""What two sessions do not have in common, beside their figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.analysis.session import Session


class Severity(StrEnum):
    """What a difference means for a comparison."""

    REFUSE = "refuse"
    """Other work was done: the figures answer different questions."""
    WARN = "warn"
    """The same work was done, on or with something else."""


@dataclass(frozen=True)
class Difference:
    """Something that is not the same on both sides.

    Attributes:
        what: its name: a flag, an image, a property of the machine.
        a, b: what either side has.
        severity: what it means.
    """

    what: str
    a: str
    b: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.what}: {self.a} and {self.b}"


_ABSENT = "not recorded"

# Path in the manifest to what people call it.
_WORK = {
    ("plan", "executor"): "executor option",
    ("plan", "workload", "seed"): "--seed",
    ("plan", "topology", "worker_memory_limit"): "--worker-memory-limit",
}
_SURROUNDINGS = {
    ("engine", "version"): "engine",
    ("engine", "cgroup_version"): "cgroup version",
    ("engine", "cgroup_driver"): "cgroup driver",
    ("engine", "storage_driver"): "storage driver",
    ("machine", "kernel"): "kernel",
    ("machine", "architecture"): "architecture",
    ("machine", "cpu_model"): "CPU",
    ("machine", "cpus"): "CPUs",
    ("machine", "memory_bytes"): "memory of the machine",
    ("machine", "transparent_hugepages"): "transparent huge pages",
    ("runner", "python"): "Python of the runner",
    ("runner", "environment"): "environment of the runner",
    ("harness_version",): "harness version",
    ("plan", "topology", "cgroup_interval"): "--cgroup-interval",
    ("plan", "general", "inside_interval"): "--inside-interval",
}


def differences(a: Session, b: Session) -> Iterator[Difference]:
    """Yield what differs, the work first, then surroundings."""
    if a.workload and b.workload:
        for what, (x, y) in a.workload.differences(b.workload).items():
            yield Difference(what, x, y, Severity.REFUSE)
    first, second = a.documents.get("manifest"), b.documents.get("manifest")
    if first and second:
        yield from _compared(first, second, _WORK, Severity.REFUSE)
        yield from _images(first, second)
        yield from _compared(first, second, _SURROUNDINGS, Severity.WARN)
    elif first or second:
        had, had_not = (a, b) if first else (b, a)
        sides = ("recorded", _ABSENT) if had is a else (_ABSENT, "recorded")
        what = f"images, engine and machine ({had_not.name} has no manifest)"
        yield Difference(what, *sides, Severity.WARN)
    if a.memory and b.memory and a.memory.view != b.memory.view:
        yield Difference("memory is of the view", a.memory.view, b.memory.view, Severity.WARN)


def _compared(
    a: dict[str, Any], b: dict[str, Any], paths: dict[tuple[str, ...], str], severity: Severity
) -> Iterator[Difference]:
    for path, name in paths.items():
        x, y = _at(a, path), _at(b, path)
        if isinstance(x, dict) and isinstance(y, dict):
            for key in sorted(x.keys() | y.keys()):
                if x.get(key) != y.get(key):
                    yield Difference(f"{name} {key}", _shown(x, key), _shown(y, key), severity)
        elif x != y:
            yield Difference(name, _text(x), _text(y), severity)


def _images(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    first, second = a.get("images") or {}, b.get("images") or {}
    for stack in sorted(first.keys() & second.keys()):
        x, y = (str(side[stack].get("id", "")) for side in (first, second))
        if x != y:
            yield Difference(f"image {stack}", x[:19], y[:19], Severity.WARN)


def _at(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _shown(values: dict[str, Any], key: str) -> str:
    return _text(values.get(key))


def _text(value: Any) -> str:
    return _ABSENT if value is None else str(value)
