"""Who the containers run as, and whose the files in the run directory are."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Nobody's: containers started by root must not run as root.
NONROOT = 65532


@dataclass(frozen=True)
class Owner:
    """The user who ran the command, and the user id of the containers.

    Attributes:
        uid, gid: of the user; with sudo, of the one who typed it.
        container_uid, container_gid: never 0.
    """

    uid: int
    gid: int
    container_uid: int
    container_gid: int

    def of_containers(self) -> tuple[int, int] | tuple[None, None]:
        """Return whom to give what containers write; nobody needs to, but root."""
        if os.geteuid() != 0:
            return None, None
        return self.container_uid, self.container_gid

    @property
    def compose_user(self) -> str:
        """The value of a compose file's ``user``."""
        return f"{self.container_uid}:{self.container_gid}"


def current_owner() -> Owner:
    """Return the owner for this invocation."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and os.environ.get("SUDO_UID", "").isdigit():
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "0"))
    return Owner(uid, gid, uid or NONROOT, gid or NONROOT)


def give_to_user(directory: Path, owner: Owner) -> None:
    """Make everything in the run directory the user's."""
    if os.geteuid() == 0:
        _chown(directory, owner.uid, owner.gid)


def _chown(directory: Path, uid: int, gid: int) -> None:
    # By descriptors: containers that still run may put a link in a folder's place meanwhile.
    for _, folders, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        os.chown(descriptor, uid, gid)
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # a temporary file, gone meanwhile
                os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
