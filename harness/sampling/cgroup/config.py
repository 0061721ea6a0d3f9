"""What the host sampler is told: one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.results.directory import RunDirectory

MS = 1_000_000
_FILES = RunDirectory(Path())


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
    """Everything the host sampler needs.

    ``service_parents`` maps services to the directories of the cgroups that hold all their
    containers, ``topology_parent`` holds those; both optional. ``run_dir`` is where the CSV files
    and the report go, ``marks`` the file that the runner writes, ``ack`` and ``settled`` the files
    that answer it. Intervals in nanoseconds. After ``marks_limit`` marks, somebody else writes
    them. Window, bound and time limit of the baseline are those of ``settling``.
    """

    run_dir: str
    containers: list[ContainerConfig]
    service_parents: dict[str, str] = field(default_factory=dict)
    topology_parent: str | None = None
    usage_interval_ns: int = 20 * MS
    stat_interval_ns: int = 200 * MS
    slow_interval_ns: int = 1000 * MS
    baseline_window_ns: int = 100 * MS
    baseline_bound_bytes: int = 1024 * 1024
    baseline_timeout_ns: int = 2000 * MS
    marks: str = ""
    ack: str = ""
    settled: str = ""
    marks_limit: int = 1_000_000
    samples_file: str = _FILES.memory("cgroup").name
    peaks_file: str = _FILES.peaks.name
    ledger_file: str = _FILES.ledger.name

    def __post_init__(self) -> None:
        """Take the run directory's own files for those that are not said."""
        directory = RunDirectory(Path(self.run_dir))
        for name, path in (
            ("marks", directory.marks),
            ("ack", directory.marks_ack),
            ("settled", directory.settled),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, str(path))

    def to_json(self) -> str:
        """Return the configuration as one line."""
        return json.dumps(asdict(self)) + "\n"


def config_from_json(line: str) -> SamplerConfig:
    """Read the line ``to_json`` wrote. Raises ValueError, KeyError or TypeError if it is not."""
    values = json.loads(line)
    values["containers"] = [ContainerConfig(**each) for each in values["containers"]]
    return SamplerConfig(**values)
