"""The user's login for the real Globus Compute: is there one, and lending it to a container."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core.environment import home_directory
from harness.core.errors import InfrastructureError
from harness.globus_service.endpoint import (
    ClientLogin,
    login_environment,
    wait_for_login,
    write_login,
)

# Where a container finds its login (compose/globus.yaml, compose/globus-cloud.yaml).
_VARIABLE = "HARNESS_GLOBUS_LOGIN"
_STORAGE = "storage.db"
_CONTAINER_HOME = "/tmp/globus_compute"  # noqa: S108  # a tmpfs of the container's own


def in_topology() -> bool:
    """Whether this process is given a login by its topology."""
    return _VARIABLE in os.environ


def require_login() -> None:
    """Make sure that the SDK has something to log in with: without, it asks for a code and waits.

    Raises:
        InfrastructureError: one line with both ways to log in.
    """
    if not in_topology() and _client() is None and not _storage().exists():
        raise InfrastructureError(
            "--executor globus: nobody is logged in to Globus Compute: set"
            " GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, or run"
            " 'globus-compute-endpoint login'"
        )


def _client() -> ClientLogin | None:
    """Return the client identity in the SDK's variables; both or none count."""
    given = [os.environ.get(f"GLOBUS_COMPUTE_CLIENT_{part}") for part in ("ID", "SECRET")]
    return ClientLogin(*map(str, given)) if all(given) else None


def _storage() -> Path:
    """Return where the SDK keeps the tokens of a user who has logged in."""
    home = os.environ.get("GLOBUS_COMPUTE_USER_DIR")
    return Path(home or Path(home_directory(), ".globus_compute"), _STORAGE)


@contextmanager
def lent_login(uid: int, gid: int) -> Iterator[dict[str, str]]:
    """Copy the user's login to a directory that a container may read, in memory if possible.

    Args:
        uid, gid: whose the copy is.

    Yields:
        The variable of ``compose/globus-cloud.yaml`` that names it.
    """
    memory = "/dev/shm"  # noqa: S108  # ours alone: mkdtemp makes it so
    with tempfile.TemporaryDirectory(
        prefix="harness-", dir=memory if os.access(memory, os.W_OK) else None
    ) as name:
        directory = Path(name)
        client = _client()
        if client is not None:
            write_login(directory, client)
        else:
            shutil.copyfile(_storage(), directory / _STORAGE)
            (directory / _STORAGE).chmod(0o600)
        if os.geteuid() == 0:
            for path in (directory, *directory.iterdir()):
                os.chown(path, uid, gid)
        yield {"HARNESS_GLOBUS_LOGIN_DIR": name}


def use_topology_login(timeout_s: float) -> None:
    """Let the SDK find the login that the topology gave this process, if it gave one.

    Token storage is copied: the SDK writes renewed tokens into it, and the directory is read-only.

    Raises:
        TimeoutError: if it is not there after ``timeout_s`` seconds.
    """
    if not in_topology():
        return
    directory = Path(os.environ[_VARIABLE])
    home = Path(os.environ.setdefault("GLOBUS_COMPUTE_USER_DIR", _CONTAINER_HOME))
    home.mkdir(mode=0o700, exist_ok=True)
    if (directory / _STORAGE).exists():
        shutil.copyfile(directory / _STORAGE, home / _STORAGE)
        return
    wait_for_login(directory, timeout_s)
    os.environ.update(login_environment(directory))
