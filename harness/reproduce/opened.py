"""A run directory, or a bundle of one: commands that read either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.reproduce.format import RUN
from harness.reproduce.reader import opened_bundle


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the run directory behind a path: itself, or unpacked from a bundle while it is used.

    The bundle is checked as a whole; its images are not written to disk.

    Raises:
        UsageError: if a file is no bundle, or something is wrong with it.
    """
    if not path.is_file():
        yield path
        return
    with opened_bundle(path, lambda name: name.startswith(f"{RUN}/")) as bundle:
        directory = bundle.file(RUN)
        # Reports call a session by its directory; a name that anybody may have made up is no path.
        name = re.sub(r"[^A-Za-z0-9_-]", "_", bundle.index.run.name)[:100]
        yield directory.rename(directory.with_name(name or RUN))
