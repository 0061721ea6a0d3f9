"""The folder that a topology's containers may write, read by the host as hostile text.

Each topology has a folder of its own, ``shared/N`` of the run directory, and its containers can
write nothing else there. Whatever lies in it may have been put there by a task: a link to a file
of the host, a pipe that blocks its reader, a file that grows for ever. So the host opens files by
names of its own only, follows no link, reads only plain files with one name, and bounds what it
reads.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

# A container needs only its own user's rights here; the umask of whoever starts a bench is not
# asked, so that its files are the same on every machine.
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


class NotPlainError(OSError):
    """What is there is no plain file of one name: a link, a pipe, a device, a folder."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "is not a plain file", path)


def open_plain(path: str | Path, flags: int = os.O_RDONLY, folder: int | None = None) -> int:
    """Open a file that somebody else may replace at any time; never follow, never block.

    Args:
        path: the file; only its last part is protected against links.
        flags: as for ``os.open``.
        folder: descriptor of the folder that the path is relative to.

    Raises:
        NotPlainError: if it is a link, pipe, socket, device or folder, or has a second name.
        OSError: as ``os.open`` does.
    """
    try:
        # Opening a device may do something by itself, so it is looked at first.
        if not stat.S_ISREG(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotPlainError(str(path))
        descriptor = os.open(
            path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPlainError(str(path)) from None
        raise
    # It may have been replaced since.
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise NotPlainError(str(path))
    return descriptor


class SharedFolder:
    """A topology's shared folder.

    Args:
        path: the folder. Everything above it is the host's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, uid: int | None = None, gid: int | None = None) -> None:
        """Make it, and make it that user's. Raises OSError."""
        self.path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        self.path.parent.chmod(_FOLDER_MODE)
        self.path.mkdir(mode=_FOLDER_MODE)
        self.path.chmod(_FOLDER_MODE)
        if uid is not None and gid is not None:
            os.chown(self.path, uid, gid, follow_symlinks=False)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Return a descriptor of a file, as :func:`open_plain` does.

        Args:
            name: of the file; below a folder of the folder, with one slash.
            flags: as for ``os.open``.
        """
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            inner, _, last = name.rpartition("/")
            if inner:
                outer, wanted = folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                folder = os.open(inner, wanted, dir_fd=outer)
                os.close(outer)
            return open_plain(last, flags, folder)
        finally:
            os.close(folder)

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """Return the beginning of a file; None if there is no plain file of that name."""
        try:
            descriptor = self.open(name)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most_bytes)

    def read_end(self, name: str, most_bytes: int) -> bytes:
        """Return the end of a file; nothing if there is no plain file of that name."""
        try:
            descriptor = self.open(name)
        except OSError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - most_bytes))
            return file.read(most_bytes)

    def size(self, name: str) -> int:
        """Return a file's size in bytes; 0 if there is no plain file of that name."""
        try:
            descriptor = self.open(name)
        except OSError:
            return 0
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def append(self, name: str, data: bytes, *, create: bool = False) -> None:
        """Write to the end of a file that is there, or is to be created. Raises OSError."""
        if create:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with suppress(FileExistsError):
                os.close(os.open(self.path / name, flags, _FILE_MODE))
        descriptor = self.open(name, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove it with all that is in it, following no link."""
        assert shutil.rmtree.avoids_symlink_attacks
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # another topology's is there
            self.path.parent.rmdir()
