"""Tracing the allocations of one run, in every Python process of the topology.

Those that attend are asked by themselves; workers elsewhere are reached as they are for trimming.
What they write is turned into small files by
programs of their own, here and after the run, so that nobody else has to read memray's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
            trace.stop()
            if attendants is not None:
                lacks += self._said(ask_stop(attendants))
            lacks += self._plan.executor.call_in_each(executor, trace.stop)
            lacks += self._convert(run_id)
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
        files = sorted(self._raw.glob(f"*{trace.SUFFIX}*"))
        with ThreadPoolExecutor(_READERS) as pool:
            for path, said in zip(files, pool.map(partial(self._read, run_id), files), strict=True):
                if said:
                    host = path.name.partition(trace.SUFFIX)[0].rpartition("-")[0]
                    lacks.append(f"{self._container(host) or host}: {said}")
        return lacks

    def _read(self, run_id: str, path: Path) -> str:
        # A child that forked has its own number behind its parent's.
        name, _, child = path.name.partition(trace.SUFFIX)
        host, _, pid = name.rpartition("-")
        place = self._container(host) or ("runner-1" if host == os.uname().nodename else host)
        target = self._directory.traces / trace_name(run_id, place, child.lstrip(".") or pid)
        command = [sys.executable, "-m", "harness.workflow.trace_reader", str(path), str(target)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_READER_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"its trace took longer than {_READER_S:g} s to be read"
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return "" if done.returncode == 0 else f"its trace cannot be read ({said[:200]})"

    def _write(self, name: str, content: Any) -> None:
        path = self._directory.traces / name
        path.write_text(json.dumps(content), encoding="utf-8")
