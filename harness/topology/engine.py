"""The Docker engine: is there one, and what is it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docker import APIClient, DockerClient
from docker.errors import DockerException
from urllib3.exceptions import HTTPError

from harness.core.errors import InfrastructureError
from harness.images.address import Address, settle

RUN_LABEL = "org.workflow-memory-harness.run"
ROLE_LABEL = "org.workflow-memory-harness.role"
# By which a stream of the engine may break off; it is read below the layer that converts them.
STREAM_ERRORS: tuple[type[Exception], ...] = (DockerException, HTTPError, OSError, ValueError)
_PING_TIMEOUT_S = 5.0
HERE = Address()
"""The engine that the environment or the Docker context names."""
_AGAIN_S = 0.5
OWNER_LABEL = "org.workflow-memory-harness.owner"


@dataclass(frozen=True)
class Engine:
    """What the manifest and the cgroup parents need to know of an engine.

    Attributes:
        version: server version.
        api_version: the API's.
        cgroup_version: 1 or 2.
        cgroup_driver: ``cgroupfs`` or ``systemd``; ``none`` if it manages no cgroups.
        storage_driver: e.g. ``overlay2``.
        memory_bytes: memory the engine's machine has.
        cpus: CPUs it has.
        name: ``Docker`` or ``Podman``.
        rootless: whether it runs as an ordinary user.
    """

    version: str
    api_version: str
    cgroup_version: int
    cgroup_driver: str
    storage_driver: str
    memory_bytes: int
    cpus: int
    name: str = "Docker"
    rootless: bool = False

    @property
    def limits_and_counts(self) -> bool:
        """Whether it limits the memory of its containers, and tells of it."""
        return self.cgroup_driver != "none"

    def __str__(self) -> str:
        """Return it as a line for people."""
        who = ", without root" if self.rootless else ""
        return f"{self.name} {self.version}, {self.storage_driver}{who}"


class _API(APIClient):
    """A private CA for package indexes (REQUESTS_CA_BUNDLE) is not the engine's."""

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Take the engine's own CA before one that the environment names."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _Client(DockerClient):
    def __init__(self, *args: Any, **options: Any) -> None:
        self.api = _API(*args, **options)


def connect(
    timeout_s: float = 60,
    connections: int = 10,
    version: str | None = None,
    place: Address = HERE,
) -> DockerClient:
    """Connect to an engine, by default the one that the environment or the Docker context names.

    Args:
        timeout_s: for each answer.
        connections: how many may be in use at once.
        version: of the API; asked for by default, which takes a busy engine long.
        place: which engine.

    Raises:
        InfrastructureError: one line that names the engine, if it does not answer.
    """
    address = place.said or settle()
    try:
        return _Client.from_env(
            version=version,
            timeout=round(timeout_s),
            max_pool_size=connections,
            environment=place.environment() or None,
        )
    except (DockerException, OSError, ValueError) as error:
        if place.host or address.endswith(")"):
            remedy = "start that engine, or name another one"
        else:
            remedy = "start it, or let 'make engine' install and start one"
        why = " ".join(str(error).split())[:200]
        raise InfrastructureError(
            f"no Docker engine answers at {address}: {remedy} ({why})"
        ) from None


def close_answer(stream: Any) -> None:
    """Close the answer that a stream was read from: closing the stream closed its socket only.

    Left to the garbage collector, Python 3.13 prints that the answer cannot be flushed.
    """
    with suppress(AttributeError, ValueError, OSError):
        stream._response.close()


def answers_in_time(patience_s: float, version: str | None = None, place: Address = HERE) -> bool:
    """Say whether an engine answers, giving one that is being restarted some time.

    Args:
        patience_s: how long.
        version: of its API, if that is known.
        place: which engine.
    """
    deadline = time.monotonic() + patience_s
    while True:
        left = deadline - time.monotonic()
        try:
            client = connect(max(1, min(left, _PING_TIMEOUT_S)), version=version, place=place)
            try:
                client.ping()
            finally:
                client.close()
            return True
        except (InfrastructureError, DockerException, OSError):
            if left <= _AGAIN_S:
                return False
            time.sleep(_AGAIN_S)


def describe(client: DockerClient) -> Engine:
    """Ask an engine what it is."""
    info = client.info()
    version = client.version()
    return Engine(
        version=version["Version"],
        api_version=version["ApiVersion"],
        cgroup_version=int(info.get("CgroupVersion", "1")),
        cgroup_driver=info["CgroupDriver"],
        storage_driver=info["Driver"],
        memory_bytes=info["MemTotal"],
        cpus=info["NCPU"],
        name="Podman" if "podman" in str(version.get("Components", "")).lower() else "Docker",
        rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
    )
