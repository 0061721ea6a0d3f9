"""A second engine on this machine that is as good as another machine: see scripts/second-engine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from harness.images import ensure

ROOT = Path(__file__).parents[2]
STATE = "/var/lib/workflow-memory-harness/engine-{}"


class Elsewhere:
    """An engine with files, process numbers, cgroups and a clock (5,000 s ahead) of its own.

    Attributes:
        name: of the engine; its network's addresses follow from it.
        variables: by which it is reached.
        client: a connection to it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.variables = dict(re.findall(r"(DOCKER_\w+)=(\S+)", self.call("env")))
        self.socket = f"unix://{STATE.format(name)}/docker.sock"
        self.client = docker.DockerClient(base_url=self.socket)

    def call(self, *words: str) -> str:
        """Call the script and return what it printed."""
        return _call(self.name, *words)

    @property
    def address(self) -> str:
        """Its end of the cable."""
        found = re.search(r"tcp://([\d.]+):", self.variables["DOCKER_HOST"])
        assert found is not None
        return found[1]

    def load(self, *stacks: str) -> None:
        """Bring this checkout's images there."""
        images = ensure(list(stacks), print).values()
        subprocess.run(
            [
                *("bash", "-c", 'docker save "$@" | DOCKER_HOST="$HOST" docker load', "copy"),
                *(image.reference for image in images),
            ],
            env=os.environ | {"HOST": self.socket},
            check=True,
            capture_output=True,
        )


def _call(name: str, *words: str) -> str:
    done = subprocess.run(
        [str(ROOT / "scripts" / "second-engine"), *words],
        env=os.environ | {"SECOND_ENGINE": name},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def engine_elsewhere(name: str) -> Iterator[Elsewhere]:
    """Provide such an engine; nothing of it is left afterwards."""
    _call(name, "up", "overlay2", "elsewhere")
    try:
        yield Elsewhere(name)
    finally:
        _call(name, "down")
