"""A little space in the run directory for the last rows, given back when the disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RESERVE_BYTES = 2**20


@contextmanager
def keep_reserve(path: Path) -> Iterator[None]:
    """Hold the space while in this context."""
    with suppress(OSError), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
    try:
        yield
    finally:
        release_reserve(path)


def release_reserve(path: Path) -> None:
    """Give the space back."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
