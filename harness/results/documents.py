"""JSON documents of a run directory: written whole, read as somebody else's.

A document may be of another version, another program or a stranger. What is read of it is safe
text and finite numbers, and has the shape that its readers rely on; else it is ignored, and one
line says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core.files import write_whole
from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.rows import (
    ResultRow,
    missing_columns,
    open_regular,
    parse_header,
    required_columns,
)

_TEXT_CHARACTERS = 10_000
_JSON_DEPTH = 12
_MOST_BYTES = 64 << 20

Shape = Any
"""What a value must be: a type, a test, a list of one shape, or a mapping of keys to shapes.

The key ``*`` stands for all others. A key that ends in ``!`` must be there; the others may be
missing or null.
"""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


_PLAN: Shape = {
    "executor_name": str,
    "connector_name": str,
    "executor": dict,
    "general": {"csv_file": str, "log_file": str},
    "workload": {"stage_task_counts": [_number], "stage_repeat": _number},
    "topology": dict,
}
_DEVIATION: Shape = {
    "readings": _number,
    "p95_bytes": _number,
    "bound_bytes": _number,
    "largest_bytes": _number,
    "largest_at": str,
    "agrees": bool,
}
SHAPES: Mapping[str, Shape] = {
    "manifest": {
        "plan": _PLAN,
        "command": [str],
        "notes": list,
        "engine": dict,
        "agent": dict,
        "machine": {"cpus": _positive},
        "host": {"cpus": _positive},
        "runner": {"packages": {"*": str}, "environment": dict},
        "images": {"*": {"size_bytes": _number}},
        "cgroup_view_lacks": {"*": str},
        "topologies": [{"project!": str}],
    },
    "plan": _PLAN,
    "sampling": {
        "*": {
            "*": {
                "grid": {
                    "interval_ns!": _positive,
                    "kept!": _number,
                    "missed!": _number,
                    "ticks": _number,
                    "*": _number,
                },
                "cpu_ns": _number,
                "elapsed_ns": _number,
                "rss_max_bytes": _number,
                "absent": {"*": str},
                "details": dict,
            }
        }
    },
    "quality": {
        "identity": _DEVIATION,
        "inside_against_cgroup": _DEVIATION,
        "docker_against_cgroup": _DEVIATION,
        "longest_gap_ns": {"*": _number},
        "clocks": {
            "*": {
                "kept": _number,
                "interval_ns": _number,
                "missed": _number,
                "late_p99_ns": _number,
            }
        },
        "baseline": {
            "verdicts": {"*": _number},
            "timed_out": [str],
            "not_trimmed": [str],
            "bound_bytes": _number,
            "window_ns": _number,
        },
    },
    "calibration": {"agreement": {"*": _number}},
    "history": {
        "package!": str,
        "plan": dict,
        "with": [str],
        "skipped": {"*": str},
    },
    "summary": {
        "modes": [{"mode": str, "metrics": {"*": {"median!": _number}}}],
    },
}
"""The documents that are read, by name without suffix, as far as their readers rely on them."""


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all. JSON has no infinity: it is null. Raises OSError."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), indent=2)
    write_whole(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, made safe; None if there is none or it is not whole."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        found = clean(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_document(path: Path, kind: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a document and what is wrong with it; an empty one if it cannot be used.

    Args:
        path: the file. That there is none is no fault.
        kind: which of :data:`SHAPES`; the file's name if empty.
    """
    found = read_json(path)
    if found is None:
        if not path.exists():
            return {}, ()
        return {}, (f"{path}: not a JSON object; ignored",)
    wrong = misfit(found, SHAPES[kind or path.stem])
    if wrong:
        return {}, (f"{path}: {wrong} is not what the harness writes there; ignored",)
    return found, ()


def misfit(value: Any, shape: Shape, at: str = "") -> str:
    """Return where a value has not the shape it must have; empty if it has."""
    if isinstance(shape, dict):
        return _dict_misfit(value, shape, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return at or "the whole"
        found = (misfit(each, shape[0], f"{at}[{place}]") for place, each in enumerate(value))
        return next(filter(None, found), "")
    test: Callable[[Any], bool] = shape
    fits = isinstance(value, shape) if isinstance(shape, type) else test(value)
    return "" if fits else at or "the whole"


def _dict_misfit(value: Any, shape: Mapping[str, Shape], at: str) -> str:
    if not isinstance(value, dict):
        return at or "the whole"
    for name, wanted in shape.items():
        key = name.removesuffix("!")
        if key != name and misfit(value.get(key), wanted):
            return f"{at}.{key}".lstrip(".")
    for key, each in value.items():
        wanted = shape.get(key, shape.get("*"))
        # Null is "not recorded", of a name that is known; of names that are data it is nothing.
        null = each is None and not (key not in shape and isinstance(wanted, dict))
        if wanted is not None and not null:
            found = misfit(each, wanted, f"{at}.{key}".lstrip("."))
            if found:
                return found
    return ""


def clean(value: Any, depth: int = _JSON_DEPTH) -> Any:
    """Return what JSON from elsewhere says: safe text, finite numbers, no deeper than ``depth``.

    Whatever is none of these becomes None.
    """
    if isinstance(value, str):
        return one_line(value[:_TEXT_CHARACTERS])
    if isinstance(value, int | float):  # True and False are integers here
        return value if math.isfinite(value) and abs(value) < 2**63 else None
    if depth > 0 and isinstance(value, list):
        return [clean(each, depth - 1) for each in value]
    if depth > 0 and isinstance(value, dict):
        return {clean(str(key)): clean(each, depth - 1) for key, each in value.items()}
    return None


def find_directory(path: Path) -> tuple[RunDirectory | None, list[str]]:
    """Return the names of a directory's files and what is wrong; None if it is nothing we know.

    The manifest or the plan says what the results file is called; else it is known by its columns.
    """
    problems: list[str] = []
    names = RunDirectory(path)
    for place in (names.manifest, names.plan):
        document, wrong = read_document(place)
        problems += wrong
        plan = (document.get("plan") or {}) if place == names.manifest else document
        chosen = str((plan.get("general") or {}).get("csv_file") or "")
        # A name that anybody may have made up: it must not lead out of the directory.
        if chosen and chosen == Path(chosen).name and (path / chosen).is_file():
            return RunDirectory(path, chosen), problems
    if names.results.is_file() or names.marks.is_file() or names.outcomes.is_file():
        return names, problems
    found = [each.name for each in sorted(path.glob("*.csv")) if _holds_results(each)]
    if not found:
        return None, problems
    if len(found) > 1:
        problems.append(
            f"{path}: holds the results of several sessions ({', '.join(found)}); {found[0]} is"
            " read, move the others into directories of their own"
        )
    return RunDirectory(path, found[0]), problems


def _holds_results(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            header = parse_header(file.readline(10_000).decode("utf-8", "replace").rstrip("\r\n"))
    except OSError:
        return False
    return not missing_columns(header, required_columns(ResultRow))
