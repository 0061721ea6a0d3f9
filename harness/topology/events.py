"""What the engine tells of a project's containers while it happens.

The engine is listened to, not asked: asking it ten times a second for the state of a few
containers costs a sixth of a core, next to what is being measured.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from harness.core.errors import InfrastructureError
from harness.topology.compose import ComposeProject
from harness.topology.engine import (
    ROLE_LABEL,
    RUN_LABEL,
    STREAM_ERRORS,
    close_answer,
    connect,
)

# A plan may go on for a day without any event.
_STREAM_TIMEOUT_S = 7 * 24 * 3600
_LISTENER_END_S = 2.0


class Kind(StrEnum):
    """What happened."""

    DIED = "died"
    MEMORY = "memory"
    CUT = "cut"
    LOST = "lost"


@dataclass(frozen=True)
class Event:
    """Something that happened to a container, or to the engine (``lost``: no more is heard of it).

    Attributes:
        kind: what.
        container: the container's id, empty where there is none.
        name: its full name, where the engine said it.
        service: its service, where the engine said it.
        exit_code: of one that died.
        node: of the engine that told it; empty where there is one.
    """

    kind: Kind
    container: str = ""
    name: str = ""
    service: str = ""
    exit_code: int = 0
    node: str = ""


def parse_event(message: Mapping[str, Any], network: str = "") -> Event | None:
    """Return what a message of the engine says; None if it is none of ours.

    Args:
        message: as the API sends it, decoded.
        network: the project's network: the engine's messages about networks carry no labels.
    """
    actor = message.get("Actor")
    if not isinstance(actor, Mapping) or not isinstance(actor.get("Attributes"), Mapping):
        return None
    attributes: Mapping[str, Any] = actor["Attributes"]
    action = message.get("Action")
    if action == "disconnect" and attributes.get("name") == network:
        return Event(Kind.CUT, str(attributes.get("container", "")))
    kind = {"die": Kind.DIED, "oom": Kind.MEMORY}.get(str(action))
    if kind is None:
        return None
    code = str(attributes.get("exitCode", ""))
    return Event(
        kind,
        str(actor.get("ID", "")),
        str(attributes.get("name", "")),
        str(attributes.get(ROLE_LABEL, "")),
        int(code) if code.isascii() and code.isdigit() else -1,
    )


@contextmanager
def events(
    project: ComposeProject, found: queue.SimpleQueue[Event], node: str = ""
) -> Iterator[None]:
    """Tell a queue of everything that happens to the project's containers on a node."""
    client = connect(_STREAM_TIMEOUT_S, place=project.place)
    of_project = {"label": f"{RUN_LABEL}={project.name}", "type": "container"}
    try:
        containers = client.events(decode=True, filters={**of_project, "event": ["die", "oom"]})
        networks = client.events(decode=True, filters={"type": "network", "event": "disconnect"})
    except STREAM_ERRORS as error:
        why = " ".join(str(error).split())[:200]
        raise InfrastructureError(f"the engine stopped answering: {why}") from None
    network = f"{project.name}_default"

    def listen(stream: Iterable[Mapping[str, Any]]) -> None:
        try:
            for message in stream:
                event = parse_event(message, network)
                if event is not None:
                    found.put(replace(event, node=node))
        except STREAM_ERRORS:
            pass  # closed below, or the engine is gone
        # Here, where nobody reads from it any more, however late that is.
        close_answer(stream)
        found.put(Event(Kind.LOST, node=node))

    streams = (containers, networks)
    listeners = [
        threading.Thread(target=listen, args=(stream,), name="engine events", daemon=True)
        for stream in streams
    ]
    for listener in listeners:
        listener.start()
    try:
        yield
    finally:
        for stream in streams:
            stream.close()
        for listener in listeners:
            listener.join(_LISTENER_END_S)
        client.close()
