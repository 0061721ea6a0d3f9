"""What a run directory says of itself: the claims of a bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.reproduce.format import Claims
from harness.results.directory import RunDirectory
from harness.results.documents import read_document
from harness.results.memory import MarkRow
from harness.results.rows import read_table


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return a run directory's manifest.

    Raises:
        UsageError: if there is none.
    """
    manifest, problems = read_document(RunDirectory(directory).manifest)
    if problems:
        raise UsageError(problems[0].replace("; ignored", "; nothing can be packed"))
    if "plan" not in manifest:
        raise UsageError(
            f"{directory}: has no manifest.json with a plan; name a run directory, such as"
            " runs/workflow-memory-..."
        )
    return manifest


def claims(name: str, directory: Path, manifest: dict[str, Any]) -> Claims:
    """Return the run's claims.

    Raises:
        UsageError: if the manifest is not one of this harness.
    """
    started, ended = times(directory)
    try:
        plan = manifest["plan"]
        return Claims(
            name=name,
            executor=plan["executor_name"],
            connector=plan["connector_name"],
            modes=list(plan["workload"]["modes"]),
            repeat=plan["general"]["repeat"],
            seed=plan["workload"]["seed"],
            harness_version=str(manifest["harness_version"]),
            git_revision=manifest.get("git_revision"),
            started=started,
            ended=ended,
        )
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{directory}/manifest.json: is not one of this harness") from None


def times(directory: Path) -> tuple[str, str]:
    """Return when a run directory's first and last mark were set, ISO 8601, UTC.

    Raises:
        UsageError: if it has no marks.
    """
    path = RunDirectory(directory).marks
    stamps = [row.t_unix_ns for row in read_table(path, MarkRow).rows]
    if not stamps:
        raise UsageError(f"{path}: has no times; did the bench get to its first run?")
    moments = [datetime.fromtimestamp(stamp // 10**9, UTC) for stamp in (min(stamps), max(stamps))]
    return moments[0].isoformat(), moments[1].isoformat()
