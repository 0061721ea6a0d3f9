"""The agent of a node whose services are processes of its own user.

``python -m harness.processes.node`` is ``harness.sampling.agent`` and can do three things more:
keep a topology's files in a private folder of the node, find free ports, and find the services by
what their environment says.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from harness.core.files import write_whole
from harness.processes.service import NUMBER_VARIABLE, PROJECT_VARIABLE, own_name
from harness.results.manifest import machine
from harness.sampling.agent.__main__ import Agent, Home, serve
from harness.sampling.agent.folder import TopologyFolder
from harness.sampling.cgroup.paths import Unreachable, container_cgroup

_PROC = Path("/proc")


class NodeAgent(Agent):
    """Does what home asks for, on a node where all is one user's."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._root: Path | None = None

    def _do_root(self, path: str) -> None:
        """Make the folder that everything of this bench is in."""
        root = Path(path)
        root.mkdir(mode=0o700)
        self._root = root

    def _do_begin(self, name: str, files: list[list[str]], inputs: dict[str, str]) -> str:
        """Make a topology's folder, and return where it is."""
        assert self._root is not None
        folder = TopologyFolder(self._root, name, (0, 0), (files[0], files[1]), self._home.send)
        folder.shared.create()
        for file, text in inputs.items():
            write_whole(folder.shared.path / file, base64.b64decode(text), mode=0o600)
        self._folders[name] = folder
        return str(folder.shared.path)

    def _do_machine(self) -> dict[str, Any]:
        """Say what this machine is."""
        return machine()

    def _do_ports(self, count: int) -> list[int]:
        """Return ports that nobody listens on."""
        with ExitStack() as stack:
            found = [stack.enter_context(socket.socket()) for _ in range(count)]
            for each in found:
                each.bind(("", 0))
            return [int(each.getsockname()[1]) for each in found]

    def _do_listens(self, port: int) -> bool:
        """Say whether somebody listens on a port here."""
        with socket.socket() as asked:
            asked.settimeout(1)
            return asked.connect_ex(("127.0.0.1", port)) == 0

    def _do_address(self, host: str) -> str:
        """Return the number of a host, as it is known here."""
        return socket.gethostbyname(host)

    def _do_reads(self, path: str) -> str:
        """Return what is in a file that home wrote, empty if it is not there."""
        try:
            return Path(path).read_text(encoding="ascii")
        except OSError:
            return ""

    def _do_where(self, pid: int) -> tuple[str, str]:
        """Return the memory cgroup of a process, or why it is not known."""
        found = container_cgroup(pid)
        return ("", found.reason) if isinstance(found, Unreachable) else (found.directory, "")

    def _do_find(self, project: str) -> dict[str, dict[str, Any]]:
        """Return the services of a topology that run here: process and cgroup, by name."""
        return find(project)

    def _do_signal(self, project: str, names: list[str], number: int) -> None:
        """Send a signal to the first processes of services; of all if no names are given."""
        for name, said in find(project).items():
            if not names or name in names:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(said["pid"], number)

    def close(self) -> None:
        """Remove what was made here."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)


def find(project: str, proc: Path = _PROC) -> dict[str, dict[str, Any]]:
    """Return the first process of each service of a topology, by the service's name.

    What it starts has the same environment, and was started later; some servers write their title
    over theirs. Who starts steps has no number in one.
    """
    wanted = f"{PROJECT_VARIABLE}={project}"
    found: dict[str, tuple[int, int]] = {}
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError):
            text = (directory / "environ").read_bytes().decode("utf-8", "replace")
            variables = text.split("\0")
            if wanted not in variables:
                continue
            environment = dict(v.split("=", 1) for v in variables if "=" in v)
            stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
            started = int(stat.rpartition(")")[2].split()[19])
            name = own_name(environment) if NUMBER_VARIABLE in environment else ""
            if name:
                here = (started, int(directory.name))
                found[name] = min(found.get(name, here), here)
    said: dict[str, dict[str, Any]] = {}
    for name, (_, pid) in found.items():
        cgroup = container_cgroup(pid)
        where, reason = (
            ("", cgroup.reason) if isinstance(cgroup, Unreachable) else (cgroup.directory, "")
        )
        said[name] = {"pid": pid, "directory": where, "reason": reason}
    return said


def main() -> int:
    """Serve home, and leave nothing."""
    # Slurm ends a job that is cancelled so.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with ExitStack() as stack:

        def made(home: Home) -> Agent:
            agent = NodeAgent(home)
            stack.callback(agent.close)
            return agent

        return serve(made)


if __name__ == "__main__":
    sys.exit(main())
