"""Samplers keep their files open until their process ends; in tests that is a long time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nothing_stays_open(tmp_path: Path) -> Iterator[None]:
    """Close what a test has left open in its own directory."""
    yield
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            if str(link.readlink()).startswith(f"{tmp_path}/"):
                os.close(int(link.name))
