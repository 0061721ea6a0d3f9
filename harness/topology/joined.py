"""What joins the nodes of one topology: a network, and small files that all of them need.

The network is an overlay of the swarm that the engines are. On a node it is there once a container
has joined it, so one of ours does first: the *keeper*, which does nothing. It also holds the
topology's volumes: what a service on the first node writes there (a password, certificates), home
hands to the keepers of the other nodes while the services start. None of it gets to a disk that
was not there before, and home keeps nothing.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import Mount

from harness.core.errors import InfrastructureError
from harness.topology.engine import OWNER_LABEL, ROLE_LABEL, RUN_LABEL
from harness.topology.nodes import WORKER
from harness.topology.part import STORE, Part, share_of
from harness.topology.records import BenchProcess

KEEPER_ROLE = "keeper"
_KEEPS = ["-c", "import signal; signal.sigwait({signal.SIGTERM})"]
_MEMORY = "64m"
_HAND_EVERY_S = 0.1
_MOST_BYTES = 4 << 20
# A swarm notices a moment late that a network's last container has gone.
_REMOVE_TRIES = 50
_REMOVE_EVERY_S = 0.2


@dataclass
class Joined:
    """The network and volumes of one topology on several nodes.

    Args:
        parts: the shares of all nodes, prepared, the runner's first.
    """

    parts: Sequence[Part]
    _keepers: dict[str, Container] = field(default_factory=dict)
    _handed: dict[str, bytes] = field(default_factory=dict)
    _mounts: dict[str, str] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """The network's name."""
        return f"{self.parts[0].name}_default"

    def make(self, stack: ExitStack) -> None:
        """Make network, volumes and keepers; they go when the stack is left.

        Raises:
            InfrastructureError: if an engine cannot.
        """
        first = self.parts[0]
        whole = first.project.config("json")
        self._mounts = shared_volumes(_parsed(whole), first.node.placed.services)
        topology = first.common.plan.topology
        if topology is not None and topology.shared_dir is not None:
            self._mounts.pop(STORE, None)  # all nodes see it already
        labels = {RUN_LABEL: first.name, OWNER_LABEL: str(BenchProcess.current())}
        try:
            network = first.client.networks.create(
                self.network, driver="overlay", attachable=True, internal=True, labels=labels
            )
        except DockerException as error:
            said = " ".join(str(error).split())[:200]
            raise InfrastructureError(f"no network could be made between nodes: {said}") from None
        stack.callback(_remove_network, first.client, str(network.id))
        image = min(first.common.images.values())
        with ThreadPoolExecutor(len(self.parts)) as pool:
            options = _parsed(whole).get("volumes") or {}
            for part, keeper in zip(
                self.parts,
                pool.map(lambda part: self._keep(part, image, labels, options), self.parts),
                strict=True,
            ):
                self._keepers[part.node.name] = keeper
                stack.callback(_remove_keeper, keeper, list(self._names().values()), part.client)
        handed = self._names()
        with ThreadPoolExecutor(len(self.parts)) as pool:
            list(
                pool.map(
                    lambda part: part.take_share(share_of(part, self.network, handed)), self.parts
                )
            )

    def _names(self) -> dict[str, str]:
        """Return the volumes that are on all nodes -> their names there."""
        return {volume: f"{self.parts[0].name}_{volume}" for volume in self._mounts}

    def _keep(
        self,
        part: Part,
        image: str,
        labels: Mapping[str, str],
        options: Mapping[str, Mapping[str, Any]],
    ) -> Container:
        mounts = []
        for volume, name in self._names().items():
            found = options.get(volume) or {}
            part.client.volumes.create(
                name, driver_opts=found.get("driver_opts") or {}, labels=dict(labels)
            )
            # Where the services have it: an image says whose a new volume is.
            mounts.append(Mount(self._mounts[volume], name, type="volume"))
        return part.client.containers.run(
            image,
            _KEEPS,
            entrypoint=["python"],
            name=f"{part.name}-keeper",
            labels={**labels, ROLE_LABEL: KEEPER_ROLE},
            user=part.common.owner.compose_user,
            network=self.network,
            mounts=mounts,
            detach=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=_MEMORY,
            pids_limit=16,
        )

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Hand files on while in this context, and once more at its end.

        Raises:
            InfrastructureError: if that did not work.
        """
        done, failed = threading.Event(), []

        def hand() -> None:
            try:
                while not done.wait(_HAND_EVERY_S):
                    self._hand_over()
                self._hand_over()
            except (DockerException, OSError, tarfile.TarError) as error:
                failed.append(" ".join(str(error).split())[:200])

        thread = threading.Thread(target=hand, name="hand over")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if failed:
            raise InfrastructureError(f"a service's files could not be handed over: {failed[0]}")

    def _hand_over(self) -> None:
        """Copy what is new in the first node's volumes to all others."""
        first, *others = (self._keepers[part.node.name] for part in self.parts)
        for volume, path in self._mounts.items():
            found = _files(first, path)
            if found is None or found == self._handed.get(volume):
                continue
            for keeper in others:
                keeper.put_archive(path, found)
            self._handed[volume] = found


def shared_volumes(whole: Mapping[str, Any], on_first: frozenset[str]) -> dict[str, str]:
    """Return the named volumes that workers share with services -> where workers mount them.

    Args:
        whole: the resolved compose project.
        on_first: services of the first node.
    """

    def mounted(service: str) -> dict[str, str]:
        found = (whole["services"].get(service) or {}).get("volumes") or ()
        return {v["source"]: v["target"] for v in found if v.get("type") == "volume"}

    theirs = {source for service in on_first for source in mounted(service)}
    return {source: path for source, path in mounted(WORKER).items() if source in theirs}


def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def _files(keeper: Container, path: str) -> bytes | None:
    """Return a folder's files as an archive that can be unpacked there; None for no files."""
    try:
        chunks, _ = keeper.get_archive(path)
    except NotFound:
        return None
    data = io.BytesIO()
    for chunk in chunks:
        data.write(chunk)
        if data.tell() > _MOST_BYTES:
            return None  # objects of a workload, not what services tell each other
    data.seek(0)
    made, any_file = io.BytesIO(), False
    with tarfile.open(fileobj=data) as found, tarfile.open(fileobj=made, mode="w") as into:
        for member in found.getmembers():
            # The folder itself is there.
            _, _, member.name = member.name.partition("/")
            if not member.name or not (member.isfile() or member.isdir()):
                continue
            any_file = any_file or member.isfile()
            into.addfile(member, found.extractfile(member) if member.isfile() else None)
    return made.getvalue() if any_file else None


def _remove_keeper(keeper: Container, volumes: Sequence[str], client: DockerClient) -> None:
    with suppress(DockerException, OSError):
        keeper.remove(force=True)
    for volume in volumes:
        with suppress(DockerException, OSError):
            client.volumes.get(volume).remove(force=True)


def _remove_network(client: DockerClient, network: str) -> None:
    for _ in range(_REMOVE_TRIES):
        try:
            client.api.remove_network(network)
        except NotFound:
            return
        except APIError:
            time.sleep(_REMOVE_EVERY_S)
        except (DockerException, OSError):
            return
        else:
            return
