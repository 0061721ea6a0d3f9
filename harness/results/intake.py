"""Taking a topology's rows out of its shared folder into the run directory's own files.

Containers write into their shared folder, nothing else; the files beside it are the host's alone.
A row is taken in if it is one of its schema: as many cells, whole and finite numbers, a run of the
plan, a container of the topology, a mode of the plan. Text is made safe. What is refused is
counted, never guessed at.

Rows are taken in while runs go on, in the order that the runner writes them: the outcome of a run
last. So a run whose outcome is in the run directory is there whole, whatever happens next.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.text import one_line
from harness.results.directory import RunDirectory
from harness.results.documents import SHAPES, clean, misfit, read_document, read_json, write_json
from harness.results.joining import Window, join, windows
from harness.results.outcomes import Outcome
from harness.results.rows import (
    ObjectsRow,
    OutcomeRow,
    ResultRow,
    columns,
    csv_line,
    parse_row,
    read_table,
    split_line,
)
from harness.results.schema import (
    CompletionRow,
    HostRow,
    InsideRow,
    MarkRow,
    ObjectStoreRow,
    PhaseRow,
    PredictionRow,
    ServerRow,
    StorageRow,
    TaskRow,
    TruthRow,
)
from harness.results.shared import SharedFolder
from harness.results.traces import take_traces

_CHUNK_BYTES = 1 << 20
_LINE_BYTES = 16 * 1024
# What no bench writes: a day of 64 containers at ten readings a second is 7 GB.
_MOST_BYTES = 16 << 30
_LOG_BYTES = 64 << 20
_JSON_BYTES = 4 << 20
_WARM_UP = re.compile(r"warm-up-\d{1,6}-of-")
# As Python writes them; neither is ever infinite.
_NUMBERS = {"int": r"-?\d{1,19}", "float": r"-?\d{1,19}(?:\.\d{1,30})?(?:e[+-]?\d{1,2})?"}
# Of the runner's manifest; the rest the host knows better.
_MANIFEST_KEYS = ("machine", "runner", "executor", "notes")

KNOWN = "known.json"

# Topologies are taken down while the next one's rows come in.
_appending = threading.Lock()


@dataclass(frozen=True)
class Known:
    """What the host knows, so that containers cannot make it up.

    Attributes:
        runs: ids of the runs that the topology is for.
        modes: of the plan.
        containers: names of the topology's containers.
        runner: whether the runner is one of them; else they write samples and nothing of runs.
    """

    runs: Collection[str]
    modes: Collection[str]
    containers: Collection[str]
    runner: bool = True

    def allows(self, row: dict[str, Any]) -> bool:
        """Say whether a row's names are known."""
        run = _measured(row)
        return (
            (not run or run in self.runs)
            and row.get("data_management") in (None, *self.modes)
            and (row.get("container") or None) in (None, *self.containers)
            and row.get("outcome") in (None, *Outcome)
        )


def _measured(row: dict[str, Any]) -> str:
    """Return the run of a row: a warm-up belongs to the run it precedes."""
    run = row.get("run_id") or ""
    warm_up = _WARM_UP.match(run)
    return str(run[warm_up.end() :] if warm_up else run)


def _plain_name(document: Mapping[str, Any] | None, key: str) -> str:
    """Return a file's name; nothing if it leads elsewhere: anybody may have made it up."""
    name = (document or {}).get(key)
    return name if isinstance(name, str) and name == Path(name).name else ""


@functools.lru_cache
def _cells(row_type: Any) -> list[tuple[str, str, bool]]:
    """Return name, type and whether it may be empty of each of a schema's columns."""
    found = []
    for each in dataclasses.fields(row_type):
        kind, _, optional = str(each.type).partition(" | ")
        found.append((each.name, kind, bool(optional)))
    return found


@functools.lru_cache
def _plain(row_type: Any) -> re.Pattern[str]:
    """Return what matches a line without quotes whose cells have their columns' types."""
    parts = [
        f"(?:{_NUMBERS[kind]}){'?' if optional else ''}"
        if kind in _NUMBERS
        else r"[ -!#-+\--~]{0,999}"
        for _, kind, optional in _cells(row_type)
    ]
    return re.compile(",".join(parts), re.ASCII)


def accept(line: str, row_type: Any, known: Known) -> str | None:
    """Return a line of a schema as the host writes it; None if it is not one.

    Args:
        line: without its line end.
        row_type: dataclass of the schema.
        known: names that may be in it.
    """
    names = columns(row_type)
    plain = _plain(row_type).fullmatch(line) is not None
    try:
        cells = line.split(",") if plain else next(csv.reader([line], strict=True), [])
    except csv.Error:
        return None
    if len(cells) != len(names) or not known.allows(dict(zip(names, cells, strict=True))):
        return None
    if plain:
        return f"{line}\n"
    for cell, (_, kind, optional) in zip(cells, _cells(row_type), strict=True):
        if kind in ("int", "float") and not (optional and not cell) and not _number(cell, kind):
            return None
    return csv_line([one_line(cell)[:999] for cell in cells])


def _number(cell: str, kind: str) -> bool:
    return re.fullmatch(_NUMBERS[kind], cell, re.ASCII) is not None


@dataclass
class _Source:
    """A file of the shared folder and where its rows go."""

    name: str
    target: Path
    row_type: type[Any]
    offset: int = 0
    rest: bytes = b""
    closed: bool = False
    header: bool = True
    most: int = _MOST_BYTES


@dataclass
class Intake:
    """Takes one topology's rows in.

    Args:
        shared: the topology's folder.
        directory: the run directory.
        known: names that may be in rows.

    Attributes:
        refused: number of rows that were none, by file.
    """

    shared: SharedFolder
    directory: RunDirectory
    known: Known
    refused: Counter[str] = field(default_factory=Counter)
    _there: frozenset[str] = frozenset()
    _windows: Mapping[str, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        directory = self.directory
        # The outcome of a run is last, here as in the runner.
        self._runner = [
            _Source(directory.marks.name, directory.marks, MarkRow),
            _Source(directory.tasks.name, directory.tasks, TaskRow),
            _Source(directory.phases.name, directory.phases, PhaseRow),
            _Source(directory.storage.name, directory.storage, StorageRow),
            _Source(directory.completions.name, directory.completions, CompletionRow),
            _Source(directory.server.name, directory.server, ServerRow),
            _Source(directory.object_stores.name, directory.object_stores, ObjectStoreRow),
            _Source(directory.results.name, directory.results, ResultRow),
            _Source(directory.objects.name, directory.objects, ObjectsRow),
            _Source(directory.outcomes.name, directory.outcomes, OutcomeRow),
        ]
        self._samples = [
            _Source(directory.memory("inside").name, directory.memory("inside"), InsideRow),
            _Source(directory.host_memory.name, directory.host_memory, HostRow),
            _Source(directory.truth.name, directory.truth, TruthRow),
        ]
        if not self.known.runner:
            self._runner = []
        elif not (directory.predictions.exists() and directory.predictions.stat().st_size):
            # Every topology of a plan predicts the same.
            predictions = _Source(directory.predictions.name, directory.predictions, PredictionRow)
            self._runner.insert(0, predictions)

    @classmethod
    def of_topology(cls, directory: RunDirectory, name: str) -> Intake | None:
        """Return the intake of a topology that an earlier process started, None if there is none.

        Args:
            directory: the run directory.
            name: of the topology's folder.
        """
        found = read_json(directory.replies / name / KNOWN)
        names = [(found or {}).get(key) for key in ("runs", "modes", "containers")]
        if not all(isinstance(each, list) for each in names):
            return None
        runs, modes, containers = (frozenset(map(str, each or [])) for each in names)
        known = Known(runs, modes, containers, (found or {}).get("runner") is not False)
        csv_name, log_name = (_plain_name(found, key) for key in ("csv_name", "log_name"))
        directory = RunDirectory(
            directory.path, csv_name or directory.csv_name, log_name or directory.log_name
        )
        return cls(SharedFolder(directory.shared / name), directory, known)

    def targets(self) -> list[Path]:
        """Return the files that the runner's rows go to."""
        return [source.target for source in self._runner]

    def keep_known(self) -> None:
        """Write down what is known, for whoever takes rows in after a crash of this process."""
        known: dict[str, Any] = {
            key: sorted(getattr(self.known, key)) for key in ("runs", "modes", "containers")
        }
        known |= {"runner": self.known.runner}
        known |= {"csv_name": self.directory.csv_name, "log_name": self.directory.log_name}
        write_json(self.directory.replies / self.shared.path.name / KNOWN, known)

    def keep_folder(self) -> None:
        """Leave the folder to containers that are kept: everything is taken in, and once."""
        (self.directory.replies / self.shared.path.name / KNOWN).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the topology's folders: everything is taken in."""
        self.shared.remove()
        shutil.rmtree(self.directory.replies / self.shared.path.name, ignore_errors=True)
        with suppress(OSError):  # another topology's is there
            self.directory.replies.rmdir()

    def take(self) -> None:
        """Take in the runner's new rows. Raises OSError if the run directory cannot be written."""
        # Outcomes only as far as they are now: what is read of the other files after this holds
        # all rows of their runs.
        for outcomes in self._runner[-1:]:
            outcomes.most = self.shared.size(outcomes.name)
        for source in self._runner:
            self._take(source)

    def end_of_runs(self) -> None:
        """Take in the runner's last rows: from now on the host says how runs ended."""
        self.take()
        for source in self._runner:
            source.closed = source.target != self.directory.marks

    def end(self, topology: str) -> None:
        """Take in what else is there, when all containers have ended.

        Args:
            topology: its number in the bench, from 1.

        Raises:
            OSError: if the run directory cannot be written.
        """
        for source in (*self._runner, *self._samples):
            if source.name == self.directory.marks.name or source in self._samples:
                self._take(source)
        if self.known.runner:
            self._take_log()
        take_traces(self.shared, self.directory, self.known.runs, self.known.containers)
        self._take_reports(topology)
        if not self.known.runner:
            return
        manifest = self._json(self.directory.manifest.name)
        kept = {
            key: manifest[key]
            for key in _MANIFEST_KEYS
            if key in manifest and not misfit({key: manifest[key]}, SHAPES["manifest"])
        }
        if kept:
            write_json(self.directory.manifest, kept)

    def _take_reports(self, topology: str) -> None:
        """Put the samplers' reports into ``sampling.json``; a later topology's names end in @N."""
        wanted = [("inside", name) for name in self.known.containers]
        wanted.append(("host", self.directory.host_memory.stem))
        suffix = "" if topology == "1" else f"@{topology}"
        found, _ = read_document(self.directory.sampling, "sampling")
        for view, name in wanted:
            report = self._json(f"{self.directory.fragments.name}/{view}-{name}.json")
            if report and not misfit(report, SHAPES["sampling"]["*"]["*"]):
                of_view = found.setdefault(view, {})
                of_view[f"{name}{suffix}"] = report | {"view": view, "name": name}
        write_json(self.directory.sampling, found)

    def warnings(self) -> list[str]:
        """Return a line for each file with rows that were refused."""
        return [
            f"warning: {name}: {count} row{'s' if count > 1 else ''} of the containers left out:"
            " not rows of this bench"
            for name, count in self.refused.items()
        ]

    def _json(self, name: str) -> dict[str, Any]:
        data = self.shared.read(name, _JSON_BYTES)
        try:
            found = clean(json.loads(data)) if data else {}
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _take(self, source: _Source) -> None:
        lines: list[str] = []
        skipped = source in self._runner and self._there
        for line in self._new_lines(source):
            if skipped and self._is_there(source, line):
                continue
            kept = accept(line, source.row_type, self.known)
            if kept is None:
                self.refused[source.name] += 1
                continue
            lines.append(kept)
            if len(lines) >= 10_000:
                _append(source.target, lines, source.row_type)
                lines = []
        if lines:
            _append(source.target, lines, source.row_type)

    def _new_lines(self, source: _Source) -> Iterator[str]:
        """Yield the whole lines that came since the last time, without the header."""
        for chunk in self._new_chunks(source):
            *whole, source.rest = (source.rest + chunk).split(b"\n")
            for line in whole:
                if source.header:
                    source.header = False
                elif line.strip():
                    yield line.decode("utf-8", "replace").rstrip("\r")
            if len(source.rest) > _LINE_BYTES:
                self._close(source)
                return

    def _new_chunks(self, source: _Source) -> Iterator[bytes]:
        """Yield what came since the last time; a file that is none or shrinks is read no more."""
        if source.closed:
            return
        try:
            descriptor = self.shared.open(source.name)
        except FileNotFoundError:
            return
        except OSError:
            self._close(source)
            return
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if not source.offset <= size <= _MOST_BYTES:
                self._close(source)
                return
            size = min(size, source.most)
            file.seek(source.offset)
            while source.offset < size:
                chunk = file.read(min(_CHUNK_BYTES, size - source.offset))
                if not chunk:
                    return
                source.offset += len(chunk)
                yield chunk

    def skip(self, there: frozenset[str]) -> None:
        """Leave out rows of runs whose outcome is in the run directory already.

        Results have no run in them: a row is of the run within whose marks it began.
        """
        self._there = there
        marks = self.directory.marks
        kept = read_table(marks, MarkRow).rows if marks.exists() else ()
        self._windows = {run: when for run, when in windows(kept).items() if run in there}

    def _is_there(self, source: _Source, line: str) -> bool:
        if source.row_type is ResultRow:
            row = parse_row(ResultRow, columns(ResultRow), split_line(line))
            return row is not None and bool(join([row], self._windows))
        return _measured({"run_id": line.partition(",")[0]}) in self._there

    def _close(self, source: _Source) -> None:
        """Read no more of what is no file of rows."""
        source.closed = True
        self.refused[source.name] += 1

    def _take_log(self) -> None:
        text = self.shared.read(self.directory.log.name, _LOG_BYTES)
        if text:
            lines = text.decode("utf-8", "replace").splitlines()
            _append_text(self.directory.log, [f"{one_line(line)}\n" for line in lines])


def shared_files(directory: RunDirectory) -> tuple[list[str], list[str]]:
    """Return names of the files that containers write into their shared folder.

    Returns:
        Those that only grow, the outcomes first, and those that are written anew.
    """
    grow = [
        directory.outcomes,
        directory.marks,
        directory.predictions,
        directory.tasks,
        directory.phases,
        directory.storage,
        directory.completions,
        directory.server,
        directory.object_stores,
        directory.results,
        directory.objects,
        directory.memory("inside"),
        directory.host_memory,
        directory.truth,
        directory.log,
    ]
    return [path.name for path in grow], [directory.ending.name, directory.manifest.name]


def _append(path: Path, lines: list[str], row_type: type[Any]) -> None:
    header = csv_line(list(columns(row_type)))
    _append_text(path, lines, header)


def _append_text(path: Path, lines: list[str], header: str = "") -> None:
    with _appending:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            data = ((header if not size else "") + "".join(lines)).encode()
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
            except OSError:
                # A full disk takes a part: rows are there or they are not.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
