"""An engine of the tests' own, to be restarted, frozen and filled up: the machine's is shared.

It has a network namespace of its own (else it would rewrite the other's iptables chains), a mount
namespace, a data root on a small loop file system, and other directories for state and socket.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from docker import DockerClient
from docker.errors import DockerException

_START_S = 60.0
_STOP_S = 30.0


@dataclass
class OwnEngine:
    """A second dockerd.

    Args:
        place: an empty directory; short, because a socket's path may have 107 characters.
        size: of its data root, as truncate(1) takes it.
        pools: address pools, as dockerd takes them.
    """

    place: Path
    size: str = "1500M"
    pools: Sequence[str] = ()
    _daemon: subprocess.Popen[bytes] | None = None
    _netns: str = field(default="")

    @property
    def host(self) -> str:
        """Value of DOCKER_HOST."""
        return f"unix://{self.place}/docker.sock"

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host}

    @property
    def data(self) -> Path:
        return self.place / "data"

    def client(self) -> DockerClient:
        return DockerClient(base_url=self.host, timeout=30)

    def prepare(self) -> None:
        """Make its disk and its network namespace."""
        self.data.mkdir(parents=True)
        disk = self.place / "disk"
        _run("truncate", "-s", self.size, str(disk))
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(disk))
        _run("mount", "-o", "loop", str(disk), str(self.data))
        self._netns = f"wmhtest{os.getpid()}"
        _run("ip", "netns", "add", self._netns)
        _run("ip", "-n", self._netns, "link", "set", "lo", "up")

    def start(self) -> None:
        """Start it and wait until it answers."""
        flags = [
            *("--data-root", str(self.data), "--exec-root", str(self.place / "exec")),
            *("--pidfile", str(self.place / "pid"), "-H", self.host),
            *(word for pool in self.pools for word in ("--default-address-pool", pool)),
        ]
        # `ip netns exec` mounts a new /sys, which hides the cgroups; nsenter does not.
        log = (self.place / "log").open("ab")
        self._daemon = subprocess.Popen(
            ["nsenter", f"--net=/var/run/netns/{self._netns}", "dockerd", *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._daemon.poll() is None:
            with suppress(DockerException, OSError):
                client = self.client()
                client.ping()
                client.close()
                return
            time.sleep(0.1)
        raise AssertionError(f"no engine\n{(self.place / 'log').read_text()[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; containers go on after SIGKILL until the next start."""
        if self._daemon is None:
            return
        self._daemon.send_signal(number)
        try:
            self._daemon.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None
        # Its containerd ends with it, but not at once, and the next one would wait for it.
        self._end_processes(b"containerd --config")
        # Where nobody reaps it, it is a zombie, which the next engine takes for alive.
        (self.place / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def _end_processes(self, what: bytes) -> None:
        """End those of its processes whose command line holds ``what``."""
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            found = [pid for pid, line in self._processes() if what in line]
            if not found:
                return
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _processes(self) -> list[tuple[int, bytes]]:
        """Return number and command line of all processes that name its directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                if str(self.place).encode() in line and int(path.name) != os.getpid():
                    found.append((int(path.name), line))
        return found

    def load(self, references: Sequence[str]) -> None:
        """Copy images of the machine's engine into this one."""
        save = subprocess.Popen(["docker", "save", *references], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "load", "--quiet"],
            env=os.environ | self.env,
            stdin=save.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert save.wait() == 0

    def remove(self) -> None:
        """End it and remove everything of it."""
        with suppress(DockerException, OSError, AssertionError):
            if self._daemon is None:
                self.start()
            client = self.client()
            for container in client.containers.list(all=True):
                container.remove(force=True)
        self.stop()
        self._end_processes(b"containerd")  # shims of containers that nobody ended
        for _ in range(100):
            if subprocess.run(["umount", "-R", str(self.data)], check=False).returncode == 0:
                break
            time.sleep(0.1)
        _run("ip", "netns", "delete", self._netns)


def images_for(*stacks: str) -> list[str]:
    """Return the references of the base and these stacks in the machine's engine."""
    from harness.images import ensure  # noqa: PLC0415
    from harness.images.base import find_base  # noqa: PLC0415
    from harness.images.recipe import base_recipe, repository_root  # noqa: PLC0415

    images = ensure(stacks, print)
    base = find_base(base_recipe(repository_root()))
    assert base is not None
    return [base[0], *(image.reference for image in images.values())]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
