"""A topology's Redis server with a password of its own.

``python -m harness.core.redis_server PASSWORD_FILE option...`` makes a password, writes it
where clients of the topology find it, and becomes the server. The harness itself never knows it,
and it is in no command line, environment or image. It lies here because the server's image has
nothing that the connectors need.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.core.files import write_whole

_CONFIGURATION = Path("/tmp/redis.conf")  # noqa: S108  # a tmpfs of the container's own


def main(arguments: Sequence[str]) -> None:
    """Make the password and become the server."""
    password_file, *options = arguments
    password = secrets.token_urlsafe(32)
    _write(_CONFIGURATION, f"requirepass {password}\n")
    _write(Path(password_file), f"{password}\n")
    os.execvp("redis-server", ["redis-server", str(_CONFIGURATION), *options])  # noqa: S606


def _write(path: Path, text: str) -> None:
    """Write a file that nobody but this user can read, complete or not at all."""
    write_whole(path, text, mode=0o600)


if __name__ == "__main__":
    main(sys.argv[1:])
