"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm


class Progress:
    """Shows how many of a plan's runs are done.

    Args:
        total: number of runs.
        stream: where to; a bar is drawn only if it is a terminal.
    """

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._started = time.monotonic()
        self._done = 0
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._bar = tqdm(total=self._total, unit="run", file=self._stream, leave=False)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def say(self, line: str) -> None:
        """Show one line about what is being done."""
        # Whoever read this may be gone (a pipe, a terminal); the topology must be taken down all
        # the same.
        with suppress(OSError):
            if self._bar is not None:
                self._bar.write(line, file=self._stream)
            else:
                print(line, file=self._stream, flush=True)

    def done(self, runs: int) -> None:
        """Show that ``runs`` of the runs are done."""
        if runs <= self._done:
            return
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(runs - self._done)
        else:
            elapsed_s = time.monotonic() - self._started
            self.say(f"[{elapsed_s:6.1f} s] {runs}/{self._total} runs done")
        self._done = runs
