"""Directories that look like cgroups, and a host sampler's configuration for them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.results.directory import RunDirectory
from harness.results.rows import columns, csv_line
from harness.results.schema import CgroupRow, LedgerRow, MarkRow, PeakRow
from harness.sampling.agent.messages import RowSender
from harness.sampling.agent.relay import Watch, child_agent
from harness.sampling.cgroup.config import MS, ContainerConfig, SamplerConfig
from harness.sampling.cgroup.sampler import HostSampler

TIMEOUT_S = 30
V1_STAT = (
    "total_cache 30\ntotal_rss {anon}\ntotal_shmem 10\ntotal_swap 3\ntotal_inactive_file 5\n"
    "total_active_file 15\n"
)
V2_STAT = "anon {anon}\nfile 30\nkernel 7\nshmem 10\ninactive_file 5\n"


def v1(path: Path, usage: int, *, anon: int = 50, peak: int = 8) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (path / "memory.stat").write_text("cache 0\n" + V1_STAT.format(anon=anon))
    (path / "memory.kmem.usage_in_bytes").write_text("7\n")
    # One digit, so that the reset, a write of "0\n", replaces the whole content as in the kernel.
    (path / "memory.max_usage_in_bytes").write_text(f"{peak}\n")
    (path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    return path


def v2(path: Path, usage: int, *, anon: int = 50, peak: int | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.current").write_text(f"{usage}\n")
    (path / "memory.stat").write_text(V2_STAT.format(anon=anon))
    (path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    (path / "memory.pressure").write_text("some avg10=0 total=11\nfull avg10=0 total=12\n")
    if peak is not None:
        (path / "memory.peak").write_text(f"{peak}\n")
    return path


def config(run_dir: Path, *containers: ContainerConfig, **values: Any) -> SamplerConfig:
    run_dir.mkdir(exist_ok=True)
    return SamplerConfig(
        shared=str(run_dir),
        replies=str(run_dir),
        containers=list(containers),
        usage_interval_ns=10 * MS,
        stat_interval_ns=20 * MS,
        slow_interval_ns=40 * MS,
        **values,
    )


def container(path: Path, name: str, service: str = "worker") -> ContainerConfig:
    return ContainerConfig(name, service, directory=str(path))


@contextmanager
def sampling(configuration: SamplerConfig) -> Iterator[Watch]:
    """Have an agent of its own sample; rows and report go to where the marks are."""
    directory = RunDirectory(Path(configuration.shared))
    with child_agent() as relay, relay.watch(configuration, directory) as watch:
        yield watch


def host_sampler(configuration: SamplerConfig) -> HostSampler:
    """Return a sampler in this process, whose rows are written as home writes them."""
    directory = RunDirectory(Path(configuration.shared))
    files = {
        "samples": (directory.memory("cgroup"), CgroupRow),
        "peaks": (directory.peaks, PeakRow),
        "ledger": (directory.ledger, LedgerRow),
    }

    def arrive(message: dict[str, Any], data: bytes) -> None:
        path, row_type = files[message["rows"]]
        header = b"" if path.exists() else csv_line(columns(row_type)).encode()
        with path.open("ab") as file:
            file.write(header + data)

    tables = {name: RowSender(name, arrive, time.monotonic_ns) for name in files}

    def handled(_mark: MarkRow) -> None:
        sampler.confirm()

    sampler = HostSampler(configuration, tables, handled, lambda _run, _found: None)
    return sampler


def read(path: Path, row_type: type) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == columns(row_type)
    return rows


def wait_until(what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
