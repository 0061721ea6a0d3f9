"""Which Docker engine is meant: asked once, and then the same for SDK, client and compose.

The client follows contexts (``docker context use``, DOCKER_CONTEXT), the SDK does not. So the
context's engine is put where both look, into DOCKER_HOST. An engine behind ssh gets a socket here,
which ssh forwards: then it is for all of them what any other engine is.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.core.command import run_command
from harness.core.errors import InfrastructureError
from harness.core.text import one_line

_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT_S = 20.0
_LOOK_S = 0.02
_REMOTE = "/var/run/docker.sock"
# Where the address of an engine behind ssh is remembered, for commands that a command starts.
_FORWARDED = "HARNESS_ENGINE_BEHIND_SSH"


@dataclass(frozen=True)
class Address:
    """One engine, where several are talked to.

    Attributes:
        host: as DOCKER_HOST has it; empty for the one that :func:`settle` found.
        certificates: the folder of its TLS files; empty without TLS.
        said: the same for messages.
    """

    host: str = ""
    certificates: str = ""
    said: str = ""

    def named(self) -> tuple[str, str]:
        """Return what :func:`at` takes for the same engine in another process."""
        return self.said if self.said.startswith("ssh://") else self.host, self.certificates

    def environment(self) -> dict[str, str]:
        """Return the variables by which SDK, client and compose find it."""
        if not self.host:
            return {}
        tls = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.certificates}
        return {"DOCKER_HOST": self.host} | (tls if self.certificates else {})


def at(host: str, certificates: str = "") -> Address:
    """Return the engine at an address as DOCKER_HOST has it; one behind ssh gets a socket here.

    Raises:
        InfrastructureError: if ssh does not lead there.
    """
    if host.startswith("ssh://"):
        return Address(f"unix://{_forward(host)}", said=host)
    return Address(host, certificates, host)


def of_context(name: str, how: str) -> Address:
    """Return the engine of a Docker context.

    Args:
        name: of the context.
        how: where it is named, for messages.

    Raises:
        InfrastructureError: if there is no such context.
    """
    if name in ("", "default"):
        return Address()
    found = _inspect(name, how)
    try:
        host = str(found["Endpoints"]["docker"]["Host"])
        tls = Path(found["Storage"]["TLSPath"]) / "docker"
    except (KeyError, TypeError):
        raise InfrastructureError(f"{how}: the context {name} names no engine") from None
    said = f"{host} (context {name}, {how})"
    return Address(host, str(tls) if tls.is_dir() else "", said)


@cache
def settle() -> str:
    """Make every later call of this process and its children go to one engine.

    Returns:
        The engine's address and how it was found, for messages.

    Raises:
        InfrastructureError: if a context is named that does not exist.
    """
    # A command that this one's parent started inherits its socket, which may be gone.
    host = os.environ.pop(_FORWARDED, "") or os.environ.get("DOCKER_HOST", "")
    if host:
        # Not every client of these years lets the same one of the two win.
        os.environ.pop("DOCKER_CONTEXT", None)
        _use(host)
        return f"{host} (DOCKER_HOST)"
    os.environ.pop("DOCKER_HOST", None)
    found = of_context(*_context())
    if not found.host:
        return _DEFAULT
    _use(found.host)
    os.environ.pop("DOCKER_CONTEXT", None)
    if found.certificates:
        os.environ |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": found.certificates}
    return found.said


def _use(host: str) -> None:
    """Name an engine to everybody; one behind ssh by the socket that leads there."""
    if not host.startswith("ssh://"):
        os.environ["DOCKER_HOST"] = host
        return
    os.environ[_FORWARDED] = host
    os.environ["DOCKER_HOST"] = f"unix://{_forward(host)}"


def _forward(host: str) -> Path:
    """Have ssh forward a socket of this machine to an engine's; it ends with this process.

    Raises:
        InfrastructureError: if that does not work, with what ssh says.
    """
    url = urlsplit(host)
    folder = Path(tempfile.mkdtemp(prefix="harness-ssh-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    here, there = folder / "docker.sock", url.path or _REMOTE
    port = ["-p", str(url.port)] if url.port else []
    whom = f"{url.username}@{url.hostname}" if url.username else f"{url.hostname}"
    # Nobody could answer a question: it has no terminal.
    options = ["-T", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", *port]
    said = folder / "said.txt"
    try:
        with said.open("wb") as output:
            # What runs there ends with its standard input, and so with this process, however that
            # ends.
            process = subprocess.Popen(
                ["ssh", *options, "-L", f"{here}:{there}", "--", whom, "cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )
    except FileNotFoundError:
        raise InfrastructureError(
            f"{host}: ssh: command not found: install an ssh client"
        ) from None
    atexit.register(process.kill)
    deadline = time.monotonic() + _TIMEOUT_S
    while not here.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = one_line(lines[-1])[:200] if lines else f"no answer in {_TIMEOUT_S:.0f} s"
            raise InfrastructureError(
                f"{host}: ssh forwards no socket to {there} there ({why}):"
                f" 'ssh {' '.join([*port, whom])}' must work without a question"
            )
        time.sleep(_LOOK_S)
    return here


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
