"""Waiting for the runner, while looking after everything else that may end first."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from harness.core import interrupt
from harness.results.directory import RunDirectory
from harness.topology.compose import ComposeProject, role

POLL_S = 0.1
# How often the engine is asked for the other containers; a dead worker is noticed this late.
SERVICES_POLL_S = 1.0


def watch_runner(
    client: DockerClient,
    project: ComposeProject,
    runner: Container,
    directory: RunDirectory,
    progress: Callable[[int], None],
) -> tuple[int, str]:
    """Wait until the runner ends; stop it when another service ends before it.

    Returns:
        The runner's exit code and, if it is not 0, a one-line reason.
    """
    done = -1
    next_look = time.monotonic() + SERVICES_POLL_S
    while True:
        interrupt.check()
        finished = _count_rows(directory.outcomes)
        if finished != done:
            done = finished
            progress(done)
        runner.reload()
        if runner.status in ("exited", "dead"):
            break
        if time.monotonic() > next_look:
            next_look = time.monotonic() + SERVICES_POLL_S
            death = _first_death(client, project)
            if death:
                directory.abort.write_text(death + "\n")
                runner.stop(timeout=5)
                directory.abort.unlink()
                progress(_count_rows(directory.outcomes))
                return 1, death
        time.sleep(POLL_S)
    progress(_count_rows(directory.outcomes))
    code = int(runner.attrs["State"]["ExitCode"])
    return code, "" if code == 0 else _last_words(runner, code)


def _count_rows(path: Path) -> int:
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _first_death(client: DockerClient, project: ComposeProject) -> str:
    """Return why a service other than the runner has ended, or an empty string."""
    for container in project.containers(client):
        if role(container) == "runner" or container.status not in ("exited", "dead"):
            continue
        state = container.attrs["State"]
        how = "was killed for lack of memory" if state.get("OOMKilled") else "ended"
        return f"{project.short_name(container)} {how} (exit code {state['ExitCode']})"
    return ""


def _last_words(runner: Container, code: int) -> str:
    """Return the runner's own error line, the last it wrote."""
    lines = runner.logs(tail=50).decode(errors="replace").splitlines()
    errors = [line.split("error: ", 1)[1] for line in lines if "error: " in line]
    said = errors[-1] if errors else next((line for line in reversed(lines) if line), "")
    return said or f"the runner ended with exit code {code}"
