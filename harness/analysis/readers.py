"""From a directory to a session: our own files or psbench's two.

Nothing that can still be used is refused: each file that is missing, empty, cut short or somebody
else's costs its own figures and one line in the session's problems.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.analysis import own_files, psbench_files
from harness.analysis.figures import uncovered
from harness.analysis.session import Session
from harness.core.errors import UsageError
from harness.results.directory import RunDirectory
from harness.results.manifest import read_json

_DOCUMENTS = ("manifest", "sampling", "quality", "calibration")


def read_session(path: Path, *, series: bool = True) -> Session:
    """Read one run directory.

    Args:
        path: a run directory of ours, or a directory of psbench's.
        series: whether to read memory over time too; without, figures that need it are missing.

    Raises:
        UsageError: if there is no such directory or nothing in it can be used.
    """
    if not path.is_dir():
        raise UsageError(
            f"{path}: not a directory; name a run directory, such as runs/workflow-memory-..."
        )
    directory = _names(path)
    if directory is None:
        raise UsageError(
            f"{path}: has no results.csv, marks.csv or outcomes.csv; name a run directory, such as"
            " runs/workflow-memory-..."
        )
    results = psbench_files.read_results(directory.results)
    if directory.marks.exists() or directory.outcomes.exists():
        session = own_files.read(directory, results, series=series)
    else:
        session = psbench_files.read(directory, results, series=series)
    if not session.runs:
        raise UsageError(
            "; ".join(session.problems) or f"{path}: holds no runs; nothing can be reported"
        )
    problems = (*session.problems, *uncovered(session))
    return dataclasses.replace(session, documents=_documents(path), problems=problems)


def _names(path: Path) -> RunDirectory | None:
    """Return the names of the directory's files; None if it is nothing we know."""
    manifest = read_json(path / "manifest.json") or {}
    general: dict[str, Any] = manifest.get("plan", {}).get("general", {})
    names = RunDirectory(path, general.get("csv_file", "results.csv"))
    if names.results.exists() or names.marks.exists() or names.outcomes.exists():
        return names
    for memory in sorted(path.glob("*-memory.csv")):
        results = memory.name.replace("-memory.csv", ".csv")
        if (path / results).exists():
            return RunDirectory(path, results)
    return None


def _documents(path: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON files that are there; a calibration may lie beside the run directories."""
    places = {name: [path / f"{name}.json"] for name in _DOCUMENTS}
    places["calibration"].append(path.parent / "calibration.json")
    found = {}
    for name, candidates in places.items():
        for candidate in candidates:
            document = read_json(candidate)
            if document is not None:
                found[name] = document
                break
    return found
