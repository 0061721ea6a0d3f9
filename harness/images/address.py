"""Which Docker engine is meant: asked once, and then the same for SDK, client and compose.

The client follows contexts (``docker context use``, DOCKER_CONTEXT), the SDK does not. So the
context's engine is put where both look, into DOCKER_HOST.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from harness.core.command import run_command
from harness.core.errors import InfrastructureError

_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT_S = 20.0


@cache
def settle() -> str:
    """Make every later call of this process and its children go to one engine.

    Returns:
        The engine's address and how it was found, for messages.

    Raises:
        InfrastructureError: if a context is named that does not exist.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if host:
        # Not every client of these years lets the same one of the two win.
        os.environ.pop("DOCKER_CONTEXT", None)
        return f"{host} (DOCKER_HOST)"
    os.environ.pop("DOCKER_HOST", None)
    name, how = _context()
    if name in ("", "default"):
        return _DEFAULT
    found = _inspect(name, how)
    try:
        host = found["Endpoints"]["docker"]["Host"]
        tls = Path(found["Storage"]["TLSPath"]) / "docker"
    except (KeyError, TypeError):
        raise InfrastructureError(f"{how}: the context {name} names no engine") from None
    os.environ["DOCKER_HOST"] = host
    os.environ.pop("DOCKER_CONTEXT", None)
    if tls.is_dir():
        os.environ |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tls)}
    return f"{host} (context {name}, {how})"


def _context() -> tuple[str, str]:
    """Return the context's name and where it is named."""
    name = os.environ.get("DOCKER_CONTEXT", "")
    if name:
        return name, "DOCKER_CONTEXT"
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111  # no HOME is no error
    path = Path(folder, "config.json")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return "", ""
    current = found.get("currentContext") if isinstance(found, dict) else None
    return (current, "'docker context use'") if isinstance(current, str) else ("", "")


def _inspect(name: str, how: str) -> Any:
    try:
        code, said = run_command(["docker", "context", "inspect", name], _TIMEOUT_S)
        if code:
            raise ValueError(said)
        return json.loads(said)[0]
    except FileNotFoundError:
        raise InfrastructureError(
            "docker: command not found: 'make engine' installs a Docker engine"
        ) from None
    except (subprocess.SubprocessError, ValueError, LookupError):
        raise InfrastructureError(
            f"{how}: there is no Docker context {name}: 'docker context ls' lists them,"
            " 'docker context use default' takes this machine's engine"
        ) from None
