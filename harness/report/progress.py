"""How far a plan is, on a terminal as a bar, elsewhere as plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from harness.report.terminal import is_dumb

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Shows how many of a plan's runs are done, which one is next, and about how long is left.

    Args:
        total: number of runs.
        stream: where to; a bar is drawn only if it is a terminal that can move its cursor.
        names: of the runs, in their order.
    """

    def __init__(self, total: int, stream: TextIO, names: Sequence[str] = ()) -> None:
        self._total = total
        self._stream = stream
        self._names = names
        self._started = time.monotonic()
        self._done = 0
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty() and not is_dumb():
            self._bar = _bar(self._stream)
            self._bar.add_task(self._name(0), total=self._total, left="")
            with suppress(OSError):
                self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()

    def say(self, line: str) -> None:
        """Show one line about what is being done."""
        # Whoever read this may be gone (a pipe, a terminal); the topology must be taken down all
        # the same.
        with suppress(OSError):
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False, emoji=False)
            else:
                print(line, file=self._stream, flush=True)

    def done(self, runs: int) -> None:
        """Show that ``runs`` of the runs are done."""
        if runs <= self._done:
            return
        left = self._left(runs)
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(
                    self._bar.task_ids[0],
                    completed=runs,
                    description=self._name(runs),
                    left=left,
                )
        else:
            elapsed_s = time.monotonic() - self._started
            then = ", ".join(filter(None, (left, self._name(runs))))
            more = f"; {then}" if then else ""
            self.say(f"[{elapsed_s:6.1f} s] {runs}/{self._total} runs done{more}")
        self._done = runs

    def _name(self, place: int) -> str:
        """Return which run is next."""
        return f"next: {self._names[place]}" if place < min(len(self._names), self._total) else ""

    def _left(self, runs: int) -> str:
        """Return about how long the rest takes, by the runs so far."""
        if runs >= self._total:
            return ""
        left_s = (time.monotonic() - self._started) / runs * (self._total - runs)
        return f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs,"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(file=stream, highlight=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
