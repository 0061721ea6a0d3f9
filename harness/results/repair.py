"""A run directory after a bench that did not come to its end: rows complete or absent.

A run counts as finished when its outcome is on disk, which is written last. Whatever else is there
of a run without an outcome, or of one that is to be done again, is removed, so that no reader
mixes two attempts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from harness.core.errors import UsageError
from harness.results.directory import RunDirectory
from harness.results.intake import Intake
from harness.results.joining import join, windows
from harness.results.outcomes import FINISHED, REPEATED
from harness.results.rows import OutcomeRow, ResultRow, read_table
from harness.results.schema import MarkRow
from harness.results.shared import SharedFolder

_RUN_ID = b"run_id"
_WARM_UP_OF = b"-of-"


def finished_runs(
    directory: RunDirectory, say: Callable[[str], None] = lambda _line: None
) -> frozenset[str]:
    """Make the directory whole; return the runs that are not to be done again.

    Args:
        directory: what an earlier bench left.
        say: called with a line for each file with rows that are none.

    Raises:
        UsageError: if a file is not what it should be.
    """
    try:
        _cut(directory)
        for line in take_leftovers(directory):
            say(line)
        for path, row_type in ((directory.outcomes, OutcomeRow), (directory.results, ResultRow)):
            for line in read_table(path, row_type).problems if path.exists() else ():
                say(f"warning: {line}; the run is done again")
        return _repair(directory)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _cut(directory: RunDirectory) -> None:
    for path in sorted(directory.path.glob("*.csv")):
        cut_partial_line(path)


def take_leftovers(directory: RunDirectory) -> list[str]:
    """Take in the rows that containers wrote and a bench that was killed did not.

    Returns:
        A line for each file with rows that were refused.

    Raises:
        OSError: if the run directory cannot be written.
    """
    warnings = []
    for folder in sorted(directory.shared.glob("topology-*")):
        intake = Intake.of_topology(directory, folder.name)
        if intake is not None:
            done = frozenset(row.run_id for row in _outcomes(directory))
            # A run without an outcome may be here in part; it comes again, whole.
            _keep_results(directory, done)
            for path in intake.targets():
                if path.exists() and path != directory.results:
                    keep_runs(path, {run_id.encode() for run_id in done})
            intake.skip(done)
            intake.take()
            intake.end(folder.name.rpartition("-")[2])
            warnings += intake.warnings()
            intake.remove()
    return warnings


def take_if_left(path: Path) -> list[str]:
    """Take in what a bench that was killed left, if no bench writes there; see take_leftovers.

    Args:
        path: a run directory, or any other.

    Returns:
        A line for each thing that is wrong.
    """
    directory = RunDirectory(path)
    if not directory.shared.is_dir():
        return []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []  # whoever reads it says so
    try:
        # Held by the bench that writes there; the kernel lets go of it when that dies.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _cut(directory)
        return take_leftovers(directory)
    except BlockingIOError:
        return [f"{path}: a bench writes there; what it has not done yet is missing"]
    except OSError as error:
        where = error.filename or path
        return [f"{where}: {error.strerror}; rows that a killed bench left are missing"]
    finally:
        os.close(descriptor)


def remove_folders(directory: RunDirectory) -> None:
    """Remove what the containers of a bench that is gone have shared, following no link."""
    for folder in directory.shared.glob("topology-*"):
        SharedFolder(folder).remove()
    shutil.rmtree(directory.replies, ignore_errors=True)


def _repair(directory: RunDirectory) -> frozenset[str]:
    # Without an outcome nothing finished, so nothing is worth keeping apart. A row that is none
    # says nothing of its run, which is done again.
    final = [row for row in _outcomes(directory) if row.outcome not in REPEATED]
    done = frozenset(row.run_id for row in final)
    # A run that went through has a row there; without it, it is as good as not done.
    results = _keep_results(directory, done)
    done -= {row.run_id for row in final if row.outcome in FINISHED} - results
    keep = {run_id.encode() for run_id in done}
    for path in sorted(directory.path.glob("*.csv")):
        if path not in (directory.results, directory.host_memory):
            keep_runs(path, keep)
    return done


def _outcomes(directory: RunDirectory) -> Sequence[OutcomeRow]:
    if not directory.outcomes.exists():
        return ()
    return read_table(directory.outcomes, OutcomeRow).rows


def _keep_results(directory: RunDirectory, done: Set[str]) -> frozenset[str]:
    """Keep the rows of ``results.csv`` of some runs; return the runs that have one.

    psbench's columns have no run in them: a row is of the run within whose marks it began.
    """
    if not directory.results.exists():
        return frozenset()
    results = read_table(directory.results, ResultRow)
    marks = read_table(directory.marks, MarkRow).rows if directory.marks.exists() else ()
    runs = {run: when for run, when in windows(marks).items() if run in done}
    joined = join(results.rows, runs)
    lines = {results.numbers[place] for place in joined}
    _rewrite(directory.results, lambda number, _line: number + 1 in lines)
    return frozenset(joined.values())


def cut_partial_line(path: Path) -> None:
    """Remove what follows a file's last line end."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                position = start + found + 1
                break
            position = start
        if position < end:
            file.truncate(position)


def keep_runs(path: Path, keep: Set[bytes]) -> None:
    """Remove the rows of all runs but these from a file whose first column is the run.

    Rows of no run stay, rows of a warm-up with the run it precedes.
    """
    with path.open("rb") as file:
        if file.readline().split(b",", 1)[0].strip() != _RUN_ID:
            return

    def stays(_number: int, line: bytes) -> bool:
        run = line.split(b",", 1)[0].strip()
        return not run or run in keep or run.partition(_WARM_UP_OF)[2] in keep

    _rewrite(path, stays)


def _rewrite(path: Path, stays: Callable[[int, bytes], bool]) -> None:
    """Rewrite a file with its header and those lines that stay, in one step."""
    new = path.with_suffix(".csv-new")
    removed = False
    with path.open("rb") as old, new.open("wb") as into:
        for number, line in enumerate(old):
            if number == 0 or stays(number, line):
                into.write(line)
            else:
                removed = True
        into.flush()
        os.fsync(into.fileno())
    if removed:
        shutil.copystat(path, new)
        new.replace(path)
    else:
        new.unlink()
