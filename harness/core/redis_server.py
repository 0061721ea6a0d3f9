"""A topology's Redis server with a password of its own.

``python -m harness.core.redis_server PASSWORD_FILE option...`` makes a password, writes it
where clients of the topology find it, and becomes the server. The harness itself never knows it,
and it is in no command line, environment or image. It lies here because the server's image has
nothing that the connectors need.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.core.files import write_whole

_CONFIGURATION = Path("/tmp/redis.conf")  # noqa: S108  # a tmpfs of the container's own


SETTINGS_VARIABLE = "HARNESS_REDIS_SETTINGS"
"""Has a line ``KEY=VALUE`` for each setting that somebody has asked for."""

_SETTING = re.compile(r"([a-z][a-z0-9-]{0,60})=([ -~]{0,300})")
# Where clients find the server, what it may do beside serving them, and what ends up on a disk.
_OURS = re.compile(
    r"port|bind.*|unixsocket.*|protected-mode|requirepass|user|acl.*|tls-.*|include|loadmodule"
    r"|rename-command|dir|dbfilename|save|append.*|logfile|syslog.*|daemonize|supervised|pidfile"
    r"|replicaof|slaveof|master.*|cluster-.*|enable-.*"
)


def setting(word: str) -> tuple[str, str]:
    """Return name and value of a setting, ``KEY=VALUE``.

    Raises:
        ValueError: one line, if it is none, or not for others to set.
    """
    found = _SETTING.fullmatch(word)
    if found is None:
        raise ValueError(f"{word[:80]!r} is not KEY=VALUE, such as maxmemory=2gb")
    key, value = found.groups()
    if _OURS.fullmatch(key):
        raise ValueError(f"{key}: is the harness's to set")
    return key, value


def main(arguments: Sequence[str]) -> None:
    """Make the password and become the server."""
    password_file, *options = arguments
    password = secrets.token_urlsafe(32)
    asked = (setting(word) for word in os.environ.get(SETTINGS_VARIABLE, "").splitlines())
    lines = [*(f"{key} {value}" for key, value in asked), f"requirepass {password}"]
    _write(_CONFIGURATION, "\n".join(lines) + "\n")
    _write(Path(password_file), f"{password}\n")
    os.execvp("redis-server", ["redis-server", str(_CONFIGURATION), *options])  # noqa: S606


def _write(path: Path, text: str) -> None:
    """Write a file that nobody but this user can read, complete or not at all."""
    write_whole(path, text, mode=0o600)


if __name__ == "__main__":
    main(sys.argv[1:])
