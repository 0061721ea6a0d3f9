"""What every process of a topology was doing, when it is going to be taken down anyway.

Every Python process gets SIGABRT, to which it answers with the stacks of all its threads on
standard error (PYTHONFAULTHANDLER), whatever it hangs in; Redis prints a report of its own. So
nothing need be prepared in a service, and nothing be traced from outside, which containers forbid.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from docker.errors import DockerException
from docker.models.containers import Container

from harness.topology.compose import ComposeProject, role

# Process 1 and the process itself are spared. A process that is stopped must go on to answer.
_ABORT = "import os, signal; os.kill(-1, signal.SIGABRT); os.kill(-1, signal.SIGCONT)"
_MARKERS = (b"Fatal Python error", b"REDIS BUG REPORT START", b"Current thread")
_END_TIMEOUT_S = 3
_TAIL_LINES = 2000


def collect(project: ComposeProject, containers: Sequence[Container], directory: Path) -> None:
    """Write ``<container>.txt`` for each container, and end its processes.

    Args:
        project: the topology.
        containers: those to look into.
        directory: where to; it is made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(8, max(1, len(containers)))) as pool:
        # Workers end by themselves when they lose a scheduler, and a runner when it does.
        for roles in (("worker",), ("runner",), ()):
            asked = [c for c in containers if _asked_with(c, roles)]
            for container, text in zip(asked, pool.map(_stacks, asked), strict=True):
                (directory / f"{project.short_name(container)}.txt").write_bytes(text)


def _asked_with(container: Container, roles: Sequence[str]) -> bool:
    """Tell whether a container has one of the roles; without roles, whether it has another."""
    return role(container) in roles if roles else role(container) not in ("worker", "runner")


def _stacks(container: Container) -> bytes:
    try:
        top = container.top(ps_args="-eo pid,stat,wchan:20,args")
        lines = [" ".join(top["Titles"]), *(" ".join(row) for row in top["Processes"])]
        head = "\n".join(lines).encode() + b"\n\n"
        container.exec_run(["python", "-c", _ABORT])
        return head + _said(container)
    except (DockerException, OSError, KeyError) as error:
        return f"not there: {' '.join(str(error).split())}\n".encode()


def _said(container: Container) -> bytes:
    with suppress(DockerException, OSError):  # its log says what there is to say
        container.wait(timeout=_END_TIMEOUT_S)
    return stacks_in(container.logs(tail=_TAIL_LINES))


def stacks_in(log: bytes) -> bytes:
    """Return a log from where its stacks begin; all of it if there are none."""
    starts = [log.find(marker) for marker in _MARKERS if marker in log]
    return log[min(starts) :] if starts else log
