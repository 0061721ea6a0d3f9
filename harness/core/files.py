"""Whole files or none: a reader, or a crash, never sees half of one."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: str | bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Write a file in one step: a draft beside it takes its name when all is written.

    Args:
        path: the file; one that is there is replaced. What is no plain file (a terminal, a pipe)
            is written to as it is.
        data: text is written in UTF-8, whatever the locale; what UTF-8 has no form for (parts of
            file names) is escaped.
        mode: permissions of the file, whatever the umask.
        durable: whether it must outlast a crash of the machine.

    Raises:
        OSError: if it cannot be written; what was there before is there still.
    """
    raw = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    if _is_special(path):
        with path.open("wb") as stream:
            stream.write(raw)
        return
    # A name that nobody can know beforehand: a link that waits there is not followed.
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(raw)
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.replace(draft, path)  # noqa: PTH105  # the draft's name is text
    except BaseException as error:
        with suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _is_special(path: Path) -> bool:
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
