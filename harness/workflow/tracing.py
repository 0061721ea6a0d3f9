"""Tracing the allocations of one run, in every Python process of the topology.

Those that attend are asked by themselves; workers elsewhere are reached as they are for trimming.
What they write is turned into small files by
programs of their own, here and after the run, so that nobody else has to read memray's.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from harness.core import trace
from harness.core.attend import VARIABLE, ask_start, ask_stop
from harness.plan import Plan
from harness.results.directory import RunDirectory
from harness.results.traces import NOT_TRACED, trace_name

_READERS = 2
_READER_S = 120.0
# All of them together, well within what a run's limit has for it (plan/estimate.py): the run has
# gone well, and must not be given up for what is only read.
_READING_S = 180.0

logger = logging.getLogger("run.workflow-memory")


class Tracing:
    """Traces runs.

    Args:
        plan: whose executor has the processes.
        directory: gets the traces.
        container: names the containers of host names; None outside of ours.
    """

    def __init__(
        self, plan: Plan, directory: RunDirectory, container: Callable[[str], str | None]
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._container = container
        self._raw = directory.path / ".tracing"

    @contextmanager
    def of_run(self, run_id: str, executor: Executor) -> Iterator[None]:
        """Trace what is done here."""
        self._directory.traces.mkdir(exist_ok=True)
        self._raw.mkdir(exist_ok=True)
        folder, native = str(self._raw.absolute()), self._plan.general.native
        start = partial(trace.start, folder, native=native)
        place = os.environ.get(VARIABLE)
        attendants = Path(place) if place else None
        lacks = [*self._plan.executor.call_in_each(executor, start)]
        if attendants is not None:
            lacks += self._said(ask_start(attendants, folder, native=native))
        start()
        try:
            yield
        finally:
            # First: what the others' stopping takes here is not the run's.
            begin = time.monotonic()
            trace.stop()
            if attendants is not None:
                lacks += self._said(ask_stop(attendants))
            lacks += self._plan.executor.call_in_each(executor, trace.stop)
            stopped = time.monotonic()
            lacks += self._convert(run_id)
            took = (stopped - begin, time.monotonic() - stopped)
            logger.info("%s: traces stopped in %.1f s, read in %.1f s", run_id, *took)
            self._write(NOT_TRACED.format(run_id), sorted(set(lacks)))
            shutil.rmtree(self._raw, ignore_errors=True)

    def _said(self, answers: Mapping[str, str]) -> list[str]:
        """Return in words who could not be asked."""
        hosts = {name: name.rpartition("-")[0] for name, said in answers.items() if said}
        return [
            f"{self._container(host) or host}: a process {answers[name]}"
            for name, host in hosts.items()
        ]

    def _convert(self, run_id: str) -> list[str]:
        """Make the small files; return in words what could not be traced, or read."""
        lacks = []
        for path in sorted(self._raw.glob(f"*{trace.FAILED}")):
            host, _, _pid = path.stem.rpartition("-")
            said = path.read_text(encoding="utf-8", errors="replace")
            lacks.append(f"{self._container(host) or host}: {said}")
        # The smallest first: as many as can be are read in time.
        files = sorted(self._raw.glob(f"*{trace.SUFFIX}*"), key=lambda path: path.stat().st_size)
        read = partial(self._read, run_id, time.monotonic() + _READING_S)
        with ThreadPoolExecutor(_READERS) as pool:
            for path, said in zip(files, pool.map(read, files), strict=True):
                if said:
                    host = path.name.partition(trace.SUFFIX)[0].rpartition("-")[0]
                    lacks.append(f"{self._container(host) or host}: {said}")
        return lacks

    def _read(self, run_id: str, until: float, path: Path) -> str:
        left_s = min(_READER_S, until - time.monotonic())
        if left_s <= 0:
            return f"its trace was left out: all of them took longer than {_READING_S:g} s to read"
        # A child that forked has its own number behind its parent's.
        name, _, child = path.name.partition(trace.SUFFIX)
        host, _, pid = name.rpartition("-")
        place = self._container(host) or ("runner-1" if host == os.uname().nodename else host)
        target = self._directory.traces / trace_name(run_id, place, child.lstrip(".") or pid)
        command = [sys.executable, "-m", "harness.workflow.trace_reader", str(path), str(target)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=left_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"its trace took longer than {left_s:.0f} s to be read"
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return "" if done.returncode == 0 else f"its trace cannot be read ({said[:200]})"

    def _write(self, name: str, content: Any) -> None:
        path = self._directory.traces / name
        path.write_text(json.dumps(content), encoding="utf-8")
