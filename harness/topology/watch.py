"""Waiting for the runner, while looking after everything else that may end first.

The engine is listened to, not asked: asking it ten times a second for the state of a few
containers costs a sixth of a core, next to what is being measured.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker import DockerClient
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from harness.core import interrupt
from harness.core.errors import InfrastructureError
from harness.results.directory import RunDirectory
from harness.topology.compose import ComposeProject, role
from harness.topology.engine import ROLE_LABEL, RUN_LABEL

POLL_S = 0.1
# A connection that died without a word is noticed this late.
_LOOK_S = 10.0


@dataclass(frozen=True)
class Death:
    """The end of a container: its full name, its service, its exit code."""

    name: str
    service: str
    exit_code: int


@contextmanager
def deaths(project: ComposeProject) -> Iterator[queue.SimpleQueue[Death]]:
    """Provide a queue that is told of every container of the project that ends."""
    found: queue.SimpleQueue[Death] = queue.SimpleQueue()
    filters = {"label": f"{RUN_LABEL}={project.name}", "event": "die", "type": "container"}
    # A plan may go on for a day without any container ending.
    client = docker.from_env(timeout=7 * 24 * 3600)
    events = client.events(decode=True, filters=filters)

    def listen() -> None:
        try:
            for event in events:
                found.put(_death(event))
        except (DockerException, OSError, ValueError):
            return  # closed below, or the engine is gone: the watch looks for itself too

    thread = threading.Thread(target=listen, name="engine events", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        events.close()
        client.close()


def _death(event: dict[str, Any]) -> Death:
    attributes = event["Actor"]["Attributes"]
    return Death(
        attributes["name"], attributes.get(ROLE_LABEL, ""), int(attributes.get("exitCode", -1))
    )


def watch_runner(
    client: DockerClient,
    project: ComposeProject,
    directory: RunDirectory,
    ended: queue.SimpleQueue[Death],
    progress: Callable[[int], None],
) -> tuple[int, str]:
    """Wait until the runner ends; stop it when another service ends before it.

    Args:
        client: the engine.
        project: the topology, which is up.
        directory: where the runner writes its outcomes.
        ended: from :func:`deaths`, entered before the topology was up.
        progress: told the number of finished runs as it grows.

    Returns:
        The runner's exit code and, if it is not 0, a one-line reason.

    Raises:
        InfrastructureError: if the engine no longer knows the runner.
    """
    done = -1
    look_at = 0.0
    while True:
        interrupt.check()
        finished = _count_rows(directory.outcomes)
        if finished != done:
            done = finished
            progress(done)
        death = _next(ended)
        if death is None and time.monotonic() >= look_at:
            look_at = time.monotonic() + _LOOK_S
            death = _look(client, project)
        if death is not None:
            break
    if death.service != "runner":
        return 1, _stop_runner(client, project, directory, death, progress)
    progress(_count_rows(directory.outcomes))
    reason = "" if death.exit_code == 0 else _last_words(_runner(client, project), death.exit_code)
    return death.exit_code, reason


def _next(ended: queue.SimpleQueue[Death]) -> Death | None:
    try:
        return ended.get(timeout=POLL_S)
    except queue.Empty:
        return None


def _look(client: DockerClient, project: ComposeProject) -> Death | None:
    """Return a container that has ended, the runner last: others end because of it."""
    try:
        containers = project.containers(client)
    except (DockerException, OSError) as error:
        raise InfrastructureError(f"the engine stopped answering: {error}") from None
    over = [c for c in containers if c.status in ("exited", "dead")]
    for container in sorted(over, key=lambda c: role(c) == "runner"):
        code = int(container.attrs["State"]["ExitCode"])
        return Death(str(container.name), role(container), code)
    return None


def _runner(client: DockerClient, project: ComposeProject) -> Container:
    return next(c for c in project.containers(client) if role(c) == "runner")


def _stop_runner(
    client: DockerClient,
    project: ComposeProject,
    directory: RunDirectory,
    death: Death,
    progress: Callable[[int], None],
) -> str:
    """Stop the runner because of a death, letting it write its last row; return the reason."""
    how = "was killed for lack of memory" if _out_of_memory(client, death.name) else "ended"
    name = death.name.removeprefix(f"{project.name}-")
    reason = f"{name} {how} (exit code {death.exit_code})"
    directory.abort.write_text(reason + "\n")
    _runner(client, project).stop(timeout=5)
    directory.abort.unlink()
    progress(_count_rows(directory.outcomes))
    return reason


def _out_of_memory(client: DockerClient, name: str) -> bool:
    try:
        return bool(client.containers.get(name).attrs["State"].get("OOMKilled"))
    except (NotFound, APIError):
        return False


def _count_rows(path: Path) -> int:
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _last_words(runner: Container, code: int) -> str:
    """Return the runner's own error line, the last it wrote."""
    lines = runner.logs(tail=50).decode(errors="replace").splitlines()
    errors = [line.split("error: ", 1)[1] for line in lines if "error: " in line]
    said = errors[-1] if errors else next((line for line in reversed(lines) if line), "")
    return said or f"the runner ended with exit code {code}"
