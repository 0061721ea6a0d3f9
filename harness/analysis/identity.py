"""What two sessions do not have in common, beside their figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.analysis.session import Session
from harness.core.errors import InfrastructureError
from harness.core.text import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.core.flags import Flag


class Severity(StrEnum):
    """What a difference means for a comparison."""

    REFUSE = "refuse"
    """Other work was done, or in another way: the figures answer different questions."""
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


@dataclass(frozen=True)
class Package:
    """A package of which some sessions have another version than others.

    Attributes:
        name: its name; Python itself is one of them.
        versions: one for each session; ``none`` where it is not installed, ``not recorded`` where
            nobody knows.
    """

    name: str
    versions: tuple[str, ...]


_ABSENT = "not recorded"
_NOT_INSTALLED = "none"

MAY_DIFFER: Mapping[tuple[str, str], str] = {
    ("general", "repeat"): "how many runs there are does not change what one of them does",
    ("topology", "stack"): "packages are compared as what they came to",
    ("topology", "python"): "as --stack",
    ("topology", "until"): "as --repeat",
    ("topology", "budget"): "as --repeat",
    ("topology", "against"): "as --repeat",
    ("general", "why"): "traced runs come after those that are compared",
    ("general", "run_dir"): "a name",
    ("general", "csv_file"): "a name",
    ("general", "log_file"): "a name",
    ("general", "log_level"): "what is shown is not what is done",
    ("general", "log_file_level"): "what is written to the log is not what is done",
    ("general", "start_timeout"): "it ends only what did not go through",
    ("general", "run_timeout"): "it ends only what did not go through",
    ("topology", "fail_fast"): "it comes after a run that did not go through",
    ("topology", "keep"): "it comes after a run that did not go through",
    ("topology", "force"): "it starts what may not fit, and changes nothing about it",
    ("workload", "workflow"): "its hash tells the file",
    ("workload", "instance"): "its hash tells the file",
    ("workload", "source"): "its hash tells the module",
    ("topology", "no_report"): "the report comes after the runs",
}
"""What of a plan may differ between two sessions that are compared, and why; nothing else may, but
where an executor or connector finds what it needs, which its own options say (``Flag.place``)."""

KNOBS = frozenset(
    {
        ("workload", "no_populate_target"),
        ("topology", "env"),
        ("executor", "config"),
        *(("connector", f"{within}server_config") for within in ("", "small ", "large ")),
    }
)
"""What changes how the same work is done: named where it differs, and what is then compared."""

_SHARED = (
    ("general", "repeat"),
    ("topology", "stack"),
    ("topology", "python"),
    ("workload", "modes"),
)

_FLAGS = {
    ("workload", "modes"): "--data-management",
    ("executor_name", ""): "--executor",
    ("connector_name", ""): "--ps-connector",
    ("workload_name", ""): "--workload",
    ("workload", "sha256"): "--workflow: SHA-256",
    ("workload", "with_barriers"): "--barriers",
}
# What results.csv says, too.
_TOLD = frozenset(
    {
        ("executor_name", ""),
        ("connector_name", ""),
        ("workload", "stage_task_counts"),
        ("workload", "stage_bytes_sizes"),
        ("workload", "stage_repeat"),
        ("workload", "task_sleep"),
    }
)
# Path in the manifest to what people call it.
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
    ("runner", "environment"): "environment of the runner",
    ("harness_version",): "harness version",
}


def differences(a: Session, b: Session) -> Iterator[Difference]:
    """Yield what differs, the work first, then surroundings; but for :func:`packages`."""
    first, second = a.documents.get("manifest") or {}, b.documents.get("manifest") or {}
    told = bool(a.workload and b.workload)
    if a.workload and b.workload:
        for what, (x, y) in a.workload.differences(b.workload).items():
            yield Difference(what, x, y, Severity.REFUSE)
    plans = first.get("plan"), second.get("plan")
    if isinstance(plans[0], dict) and isinstance(plans[1], dict):
        yield from _plans(plans[0], plans[1], _TOLD if told else frozenset())
    if first and second:
        yield from _images(first, second)
        yield from _compared(first, second)
        recorded = [bool(_packages(side)) for side in (a, b)]
        if recorded[0] is not recorded[1]:
            x, y = ("recorded" if there else _ABSENT for there in recorded)
            yield Difference("packages", x, y, Severity.WARN)
    elif first or second:
        had, had_not = (a, b) if first else (b, a)
        sides = ("recorded", _ABSENT) if had is a else (_ABSENT, "recorded")
        what = f"images, engine and machine ({had_not.name} has no manifest)"
        yield Difference(what, *sides, Severity.WARN)
    if a.memory and b.memory and a.memory.view != b.memory.view:
        yield Difference("memory is of the view", a.memory.view, b.memory.view, Severity.WARN)


def packages(sessions: Sequence[Session]) -> list[Package]:
    """Return the packages of the runner that differ, those that say most first.

    These are the executor's own, ProxyStore and Python; all others follow by name.
    """
    found = [_packages(session) for session in sessions]
    differing = []
    for name in sorted({name for versions in found for name in versions}):
        versions = tuple(_version(name, each) for each in found)
        if len({*versions} - {_ABSENT}) > 1:
            differing.append(Package(name, versions))
    if not differing:
        return []
    first = [name for session in sessions for name in leading_packages(session)]
    return sorted(differing, key=lambda p: first.index(p.name) if p.name in first else len(first))


def leading_packages(session: Session) -> tuple[str, ...]:
    """Return the packages that say most of what a session ran."""
    # Executors need pydantic, which takes a quarter of a second to import.
    from harness.executors import executors  # noqa: PLC0415

    name = _at(session.documents.get("manifest") or {}, ("plan", "executor_name"))
    own: tuple[str, ...] = ()
    # A plug-in that is not installed here, or is broken, is no reason not to read its results.
    with suppress(InfrastructureError):
        own = executors.get(name).packages if name in executors.names() else ()
    return (*own, "proxystore", "python")


def _packages(session: Session) -> dict[str, str]:
    """Return versions by name; of Python as ``python``. Empty where none are recorded."""
    runner = (session.documents.get("manifest") or {}).get("runner") or {}
    installed = runner.get("packages")
    found = {}
    if isinstance(installed, dict):
        found = {name.lower().replace("_", "-"): str(each) for name, each in installed.items()}
    for name, build in _builds(session).items():
        if name in found:
            found[name] += f" ({build})"
    return found | ({"python": str(runner["python"])} if runner.get("python") else {})


def _builds(session: Session) -> dict[str, str]:
    """Return what tells wheels of one version apart that no index has: commit, or hash."""
    variant = (session.documents.get("manifest") or {}).get("variant")
    wheels = variant.get("wheels") if isinstance(variant, dict) else None
    found = {}
    for wheel in wheels if isinstance(wheels, list) else []:
        if isinstance(wheel, dict):
            name = str(wheel.get("file")).partition("-")[0].lower().replace("_", "-")
            changed = ", with changes" if wheel.get("dirty") else ""
            build = str(wheel.get("commit") or "")[:10] or f"wheel {str(wheel.get('sha256'))[:8]}"
            found[name] = one_line(build + changed)
    return found


def version_of(session: Session, package: str) -> str | None:
    """Return the version of a package that a session's runner had; None if it is not recorded."""
    return _packages(session).get(package.lower().replace("_", "-"))


def _version(name: str, found: dict[str, str]) -> str:
    listed = found.keys() - {"python"} and name != "python"
    return found.get(name, _NOT_INSTALLED if listed else _ABSENT)


def other_work(a: Session, b: Session) -> list[Difference]:
    """Return why figures of two sessions answer different questions; nothing where they do not."""
    return [d for d in differences(a, b) if d.severity is Severity.REFUSE]


def other_plan(plan: dict[str, Any], session: Session) -> list[Difference]:
    """Return why runs of a plan would answer another question than a session's runs."""
    there = (session.documents.get("manifest") or {}).get("plan")
    if not isinstance(there, dict):
        return [Difference("plan", "recorded", _ABSENT, Severity.REFUSE)]
    found = _plans(plan, there, frozenset())
    return [difference for difference in found if difference.severity is Severity.REFUSE]


def plan_differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """Return what of two plans differs that runs beside each other must share: numbers, too."""
    found = {}
    for key in _SHARED:
        x, y = _at(a, key), _at(b, key)
        if x != y:
            found[_flag(key)] = Difference(_flag(key), _text(x), _text(y), Severity.REFUSE)
    others = (d for d in _plans(a, b, frozenset()) if d.what not in found)
    return [*found.values(), *others]


def share_topologies(session: Session) -> bool:
    """Return whether runs of several modes were done in the same processes, one after the other."""
    plan = (session.documents.get("manifest") or {}).get("plan")
    topology = plan.get("topology") if isinstance(plan, dict) else None
    return not isinstance(topology, dict) or topology.get("isolate", "mode") == "none"


def stopped_by_verdict(a: Session, b: Session) -> bool:
    """Return whether runs were repeated until these two, or modes of one, had a verdict.

    Each look at them could have been the one at which chance spoke.
    """
    plans = [(s.documents.get("manifest") or {}).get("plan") for s in (a, b)]
    until = [_at(plan, ("topology", "until")) for plan in plans if isinstance(plan, dict)]
    against = [_at(plan, ("topology", "against")) for plan in plans if isinstance(plan, dict)]
    return any(until) and (a is b or any(against))


def _plans(
    a: dict[str, Any], b: dict[str, Any], told: frozenset[tuple[str, str]]
) -> Iterator[Difference]:
    """Yield what of two plans differs and may not, but for what was ``told`` already."""
    first, second = _fields(a), _fields(b)
    # A topology for each mode tells the modes apart, so that it does not matter which others ran.
    shared = any(_at(plan, ("topology", "isolate")) in (None, "none") for plan in (a, b))
    for key in dict.fromkeys((*first, *second)):
        if key in MAY_DIFFER or key in told or (key == ("workload", "modes") and not shared):
            continue
        sides = ((first, a), (second, b))
        x, y = (side[key] if key in side else _default(plan, key) for side, plan in sides)
        if x != y and not _are_places(key, (a, x), (b, y)):
            severity = Severity.WARN if key in KNOBS else Severity.REFUSE
            yield Difference(_flag(key), _text(x), _text(y), severity)


def _are_places(key: tuple[str, str], *sides: tuple[dict[str, Any], Any]) -> bool:
    """Return whether two values of an option only say where something is: as many on both sides."""
    flags = [_option(plan, key) for plan, _ in sides]
    if all(flag is not None and flag.secret for flag in flags):
        return True
    there = [len(v) if isinstance(v, list | tuple) else int(v is not None) for _, v in sides]
    return all(flag is not None and flag.place for flag in flags) and there[0] == there[1]


def _option(plan: dict[str, Any], key: tuple[str, str]) -> Flag | None:
    """Return what an option of a plug-in says of itself; None where it is not known here."""
    from harness.core.flags import flags_of  # noqa: PLC0415  # with pydantic

    model = _plug_in(plan, key)
    return None if model is None else flags_of(model).get(key[1].rpartition(" ")[2])


def _plug_in(plan: dict[str, Any], key: tuple[str, str]) -> type[BaseModel] | None:
    """Return the options of the plug-in that an option is of; None where it is not known here."""
    # As expensive as a plan's own models below.
    from harness.connectors import connectors  # noqa: PLC0415
    from harness.executors import executors  # noqa: PLC0415

    section, path = key
    within = path.rpartition(" ")[0]
    # A plug-in that is not installed here, and anybody's manifest: nothing is known of them.
    with suppress(InfrastructureError, KeyError, TypeError):
        chosen = plan[section][f"{within}_name"] if within else plan[f"{section}_name"]
        if section == "executor":
            return executors.get(chosen)
        if section == "connector":
            return connectors.get(chosen)
    return None


def _default(plan: dict[str, Any], key: tuple[str, str]) -> Any:
    """Return what a plan does that was written before a field was there: what a new one does."""
    # It takes a quarter of a second to import, and is needed for old directories alone.
    from harness.plan import General, Topology, Workload  # noqa: PLC0415
    from harness.plan.workload import FlagModel  # noqa: PLC0415

    section, name = key
    if section in ("executor", "connector"):
        model = _plug_in(plan, key)
        field = None if model is None else model.model_fields.get(name.rpartition(" ")[2])
        return None if field is None or field.is_required() else field.get_default()
    models: dict[str, type[FlagModel]] = {
        "general": General,
        "topology": Topology,
        "workload": Workload,
    }
    known = models[section].model_fields.get(name) if section in models else None
    return None if known is None or known.is_required() else known.get_default()


def _fields(plan: dict[str, Any]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for section, value in plan.items():
        if section == "topology":
            found["containers", ""] = "yes" if isinstance(value, dict) else "no"
        if isinstance(value, dict):
            found |= {(section, name): each for name, each in _options(value)}
        elif section != "topology":
            found[section, ""] = value
    # Without a connector its options say nothing.
    if _at(plan, ("workload", "modes")) == ["none"]:
        found = {key: value for key, value in found.items() if not key[0].startswith("connector")}
    return found


def _options(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield options by name, those of connectors within a connector as ``small host``."""
    for name, value in values.items():
        if isinstance(value, dict) and f"{name}_name" in values:
            yield from ((f"{name} {inner}", each) for inner, each in value.items())
        else:
            yield name, value


def _flag(key: tuple[str, str]) -> str:
    section, name = key
    if key in _FLAGS:
        return _FLAGS[key]
    if section in ("executor", "connector"):
        return f"{section} option {name}"
    return f"--{name.replace('_', '-')}" if name else section


def _compared(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for path, name in _SURROUNDINGS.items():
        x, y = _at(a, path), _at(b, path)
        if isinstance(x, dict) and isinstance(y, dict):
            for key in sorted(x.keys() | y.keys()):
                if x.get(key) != y.get(key):
                    sides = _text(x.get(key)), _text(y.get(key))
                    yield Difference(f"{name} {key}", *sides, Severity.WARN)
        elif isinstance(x, dict) or isinstance(y, dict):
            x, y = ("recorded" if isinstance(side, dict) else _ABSENT for side in (x, y))
            yield Difference(name, x, y, Severity.WARN)
        elif x != y:
            yield Difference(name, _text(x), _text(y), Severity.WARN)


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


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return _ABSENT if value is None else str(value)
