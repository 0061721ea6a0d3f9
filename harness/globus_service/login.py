"""What a client of the topology needs to log in, as files in a directory.

The directory appears complete: the files are written elsewhere on the same file system and renamed.
Imported by runner, endpoint and service: the standard library only.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.files import write_whole

CA_FILE = "ca.pem"
_CLIENT_FILE = "client.json"
_POLL_S = 0.05


@dataclass(frozen=True)
class ClientLogin:
    """A client identity: the SDK's ``GLOBUS_COMPUTE_CLIENT_ID`` and ``_SECRET``."""

    client_id: str
    client_secret: str


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, whole or not at all."""
    write_whole(path, content, mode=0o600)


def write_login(directory: Path, login: ClientLogin, ca: bytes | None = None) -> None:
    """Write a login, its CA first: the client's file is what others wait for."""
    if ca is not None:
        write_private(directory / CA_FILE, ca)
    write_private(directory / _CLIENT_FILE, json.dumps(asdict(login)).encode())


def read_login(directory: Path) -> ClientLogin | None:
    """Return the client identity in a directory, None if there is none."""
    try:
        return ClientLogin(**json.loads((directory / _CLIENT_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def wait_for_file(path: Path, timeout_s: float) -> None:
    """Wait until a file is there.

    Raises:
        TimeoutError: if it is not after ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not appear within {timeout_s:g} s")
        time.sleep(_POLL_S)


def wait_for_login(directory: Path, timeout_s: float) -> None:
    """Wait until a login is written.

    Raises:
        TimeoutError: as :func:`wait_for_file`.
    """
    wait_for_file(directory / _CLIENT_FILE, timeout_s)


def login_environment(directory: Path) -> dict[str, str]:
    """Return the SDK's variables for a login directory; empty if it holds no client identity."""
    found = read_login(directory)
    environment = {}
    if found is not None:
        environment["GLOBUS_COMPUTE_CLIENT_ID"] = found.client_id
        environment["GLOBUS_COMPUTE_CLIENT_SECRET"] = found.client_secret
    if (directory / CA_FILE).exists():
        environment["GLOBUS_SDK_VERIFY_SSL"] = str(directory / CA_FILE)
    return environment
