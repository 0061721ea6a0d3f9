"""A gallery: many results as a static site that opens from disk and from any web server."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.analysis.compare import METRICS, Metric, sample_of
from harness.analysis.digits import seconds
from harness.analysis.figures import Group, group_runs
from harness.analysis.identity import leading_packages, version_of
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.analysis.statistics import spread
from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.core.sizes import format_size
from harness.core.text import one_line
from harness.report.page import TYPICAL, charting_library, page_file, rendered, write_page
from harness.report.palette import MODES, look, mode_looks
from harness.report.story import story
from harness.results.documents import find_directory, write_json

INDEX = "index.html"
DATA = "results.json"
SCHEMA_VERSION = 1
_LIBRARY = "plotly.js"
_RESULTS, _BUNDLES, _PAGES = "results", "bundles", "pages"
# What commands write that hold many run directories: their document, and their page.
_COLLECTIONS = {
    "sweep.json": "sweep.html",
    "history.json": "history.html",
    "ab.json": "report.html",
}
_BUNDLE = ".tar.zst"
_SHOWN = ("net_peak", "makespan", "net_mean", "baseline", "leftover")
_BLOCK = 2**20


@dataclass(frozen=True)
class Source:
    """Something to show: a run directory or a bundle.

    Attributes:
        path: where it is.
        name: that of its page, without an ending; different for each source.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Found:
    """What some paths hold.

    Attributes:
        sources: results.
        pages: pages over many results, by name.
    """

    sources: tuple[Source, ...]
    pages: Mapping[str, Path]


def find(paths: Sequence[Path]) -> Found:
    """Return the results in directories and bundles, also in those of sweeps and histories.

    Raises:
        UsageError: if a path is none of these and holds none.
    """
    results: list[Path] = []
    pages: dict[str, Path] = {}
    for path in paths:
        before = len(results)
        for each in _results_in(path, pages):
            if each not in results:
                results.append(each)
        if len(results) == before and path not in results:
            raise UsageError(f"{path}: holds no result: name run directories, bundles, or folders")
    return Found(tuple(Source(path, name) for path, name in _named(results)), pages)


def _results_in(path: Path, pages: dict[str, Path], depth: int = 3) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or directory")
    if find_directory(path)[0] is not None:
        yield path
        return
    for document, page in _COLLECTIONS.items():
        if (path / document).is_file() and (path / page).is_file():
            pages[_slug(path.name)] = path / page
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() or child.name.endswith(_BUNDLE):
                yield from _results_in(child, pages, depth - 1)


def _named(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    used: set[str] = set()
    for path in paths:
        name = stem = _slug(path.name.removesuffix(_BUNDLE))
        parent = _slug(path.absolute().parent.name)
        if name in used:
            name = stem = f"{parent}-{stem}"
        number = 2
        while name in used:
            name, number = f"{stem}-{number}", number + 1
        used.add(name)
        yield path, name


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "result"


def write_result(directory: Path, name: str, output: Path) -> dict[str, Any]:
    """Write the page of one result; return what the gallery shows of it.

    Args:
        directory: a run directory.
        name: of the page, without an ending.
        output: the site's directory.

    Raises:
        UsageError: one line that says why the result cannot be shown.
    """
    session = read_session(directory)
    groups = group_runs([session])
    if not groups:
        raise UsageError("no run was recorded")
    page = output / _RESULTS / f"{name}.html"
    looks = mode_looks([(group.label, group.mode) for group in groups])
    write_page(page, [session], groups, None, looks, library=f"../{_LIBRARY}", detail=TYPICAL)
    return {"name": name, "page": f"{_RESULTS}/{page.name}"} | _facts(session, groups)


def _facts(session: Session, groups: Sequence[Group]) -> dict[str, Any]:
    manifest: Mapping[str, Any] = session.documents.get("manifest") or {}
    plan: Mapping[str, Any] = manifest.get("plan") or {}
    machine: Mapping[str, Any] = manifest.get("machine") or {}
    workload = session.workload
    executor = str(plan.get("executor_name") or (workload.executor if workload else ""))
    connector = str(plan.get("connector_name") or (workload.connector if workload else ""))
    packages = {name: version_of(session, name) for name in leading_packages(session)}
    started = session.started_unix_s
    options = plan.get("executor") or {}
    return {
        "started": None if started is None else round(started),
        "executor": executor.removesuffix("Executor").lower(),
        "connector": connector.removesuffix("Connector").lower(),
        "versions": {name: version for name, version in packages.items() if version},
        "version": next((version for version in packages.values() if version), ""),
        "stages": "-".join(map(str, workload.task_counts)) if workload else "",
        "payload_bytes": workload.payload_bytes if workload else None,
        "largest_bytes": max(workload.bytes_sizes, default=None) if workload else None,
        "workers": options.get("workers") if isinstance(options, dict) else None,
        "machine": one_line(str(machine.get("cpu_model") or "")),
        "cpus": machine.get("cpus"),
        "memory_bytes": machine.get("memory_bytes"),
        "view": session.memory.view if session.memory else None,
        "story": story(groups),
        "modes": {group.mode: _mode(group) for group in groups if group.figures},
    }


def _mode(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {"runs": len(group.figures)}
    for metric in _metrics():
        values = sample_of(metric, TOPOLOGY, group).values
        if values:
            of_all = spread(values)
            found[metric.name] = [of_all.median, of_all.low, of_all.high]
    return found


def _metrics() -> list[Metric]:
    return [metric for name in _SHOWN for metric in METRICS if metric.name == name]


def put_bundle(source: Source, output: Path, *, copy: bool) -> dict[str, Any]:
    """Return name, size and hash of a bundle; put it into the site if it is to be there."""
    digest = hashlib.sha256()
    with source.path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found: dict[str, Any] = {
        "file": source.path.name,
        "bytes": source.path.stat().st_size,
        "sha256": digest.hexdigest(),
    }
    if copy:
        target = output / _BUNDLES / f"{source.name}{_BUNDLE}"
        target.unlink(missing_ok=True)
        try:
            os.link(source.path, target)
        except OSError:  # another file system
            shutil.copyfile(source.path, target)
        found["href"] = f"{_BUNDLES}/{target.name}"
    return found


def prepare(output: Path, found: Found) -> None:
    """Make a site's directory, and put into it what all pages share.

    Raises:
        UsageError: if it holds something else.
    """
    if output.exists() and not (output / DATA).is_file() and any(output.iterdir()):
        raise UsageError(f"--output {output}: holds something else: name a new directory")
    for folder in (_RESULTS, _BUNDLES, _PAGES):
        shutil.rmtree(output / folder, ignore_errors=True)
        (output / folder).mkdir(parents=True)
    write_whole(output / _LIBRARY, charting_library())
    for name, page in found.pages.items():
        shutil.copyfile(page, output / _PAGES / f"{name}.html")


def write_index(output: Path, results: Sequence[Mapping[str, Any]], pages: Sequence[str]) -> Path:
    """Write the first page and the facts of all results; return the page."""
    shown = [result for result in results if "problem" not in result]
    shown.sort(key=lambda result: (-(result["started"] or 0), result["name"]))
    document = {"schema_version": SCHEMA_VERSION, "results": list(results), "pages": list(pages)}
    write_json(output / DATA, document)
    seen = dict.fromkeys(mode for result in shown for mode in result["modes"])
    # The known ones first, in the order in which every report has them.
    modes = [
        *(mode for mode in MODES if mode in seen),
        *(mode for mode in seen if mode not in MODES),
    ]
    page = output / INDEX
    write_whole(
        page,
        rendered(
            "site.html.j2",
            {"curves": {"data": [], "layout": {"xaxis": {}, "yaxis": {}}}},
            library=_LIBRARY,
            title="Memory of task executors",
            story=_headline(shown),
            problems=[],
            contents=[("results", "Results"), ("curves-section", "Curves")],
            results=shown,
            left_out=[f"{r['name']}: {r['problem']}" for r in results if "problem" in r],
            pages=[(name, f"{_PAGES}/{name}.html") for name in pages],
            modes=modes,
            site_script=Markup(page_file("site.js")),  # noqa: S704
            site_data={
                "results": shown,
                "looks": {m: vars(x) for m, x in mode_looks([(m, m) for m in modes]).items()},
                "other": vars(look(5)),
            },
            size=format_size,
            seconds=seconds,
        ),
    )
    return page


def _headline(shown: Sequence[Mapping[str, Any]]) -> str:
    executors = dict.fromkeys(result["executor"] for result in shown)
    many = f"{len(shown)} result{'' if len(shown) == 1 else 's'}"
    return f"{many} of {', '.join(executors)}." if shown else "No results."
