"""What is to be sampled, as the agent is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.core.clock import Reference
from harness.results.directory import RunDirectory

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container to sample.

    Its cgroup is found by ``pid``, its first process's number as this machine sees it, and
    checked by ``id``; or it is ``directory``, where that is known.
    """

    name: str
    service: str
    pid: int = 0
    id: str = ""
    directory: str = ""


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """Everything the host sampler needs; paths are those of the engine's machine.

    ``shared`` is the folder with the marks that the runner writes, ``replies`` that of the files
    that answer it. ``service_parents`` maps services to the directories of the cgroups that hold
    all their containers, ``topology_parent`` holds those; both optional. Intervals in nanoseconds.
    After ``marks_limit`` marks, somebody else writes them. Window, bound and time limit of the
    baseline are those of ``settling``. ``user`` is whom the containers run as.

    Of a topology on several nodes, ``clock`` is the one that times are on, ``names`` has what the
    scopes are called of which only a part is here, and home says whether memory was flat
    (``home_settles``).
    """

    shared: str
    replies: str
    containers: list[ContainerConfig]
    service_parents: dict[str, str] = field(default_factory=dict)
    topology_parent: str | None = None
    usage_interval_ns: int = 20 * MS
    stat_interval_ns: int = 200 * MS
    slow_interval_ns: int = 1000 * MS
    baseline_window_ns: int = 100 * MS
    baseline_bound_bytes: int = 1024 * 1024
    baseline_timeout_ns: int = 2000 * MS
    marks_limit: int = 1_000_000
    user: tuple[int, int] = (0, 0)
    clock: Reference = field(default_factory=Reference)
    names: dict[str, str] = field(default_factory=dict)
    home_settles: bool = False

    @property
    def marks(self) -> str:
        """The file that the runner writes."""
        return str(RunDirectory(Path(self.shared)).marks)

    @property
    def ack(self) -> str:
        """The file that confirms marks."""
        return str(RunDirectory(Path(self.replies)).marks_ack)

    @property
    def settled(self) -> str:
        """The file that says whether memory was flat."""
        return str(RunDirectory(Path(self.replies)).settled)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration for a message."""
        return asdict(self)


def config_from(values: dict[str, Any]) -> SamplerConfig:
    """Read what ``to_dict`` made. Raises KeyError or TypeError if it is not."""
    containers = [ContainerConfig(**each) for each in values["containers"]]
    uid, gid = values["user"]
    clock = Reference(**values["clock"])
    values = values | {"containers": containers, "user": (uid, gid), "clock": clock}
    return SamplerConfig(**values)
