"""Reading what ``checks`` judges."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError

from harness.core.command import run_command
from harness.core.errors import InfrastructureError
from harness.images.address import settle
from harness.plan import Plan
from harness.plan.estimate import Estimate
from harness.results.directory import absolute
from harness.sampling.cgroup.reader import descriptors_needed
from harness.sampling.meminfo import proc_size
from harness.topology import checks, leftovers, ownership
from harness.topology.agent import (
    Agent,
    sees_files_here,
    some_image,
    started,
    wants_container,
)
from harness.topology.ahead import Ahead, available_bytes, look_ahead
from harness.topology.checks import Check, Verdict
from harness.topology.compose import new_project_name
from harness.topology.engine import OWNER_LABEL, RUN_LABEL, Engine, connect, describe
from harness.topology.records import BenchProcess, State

_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MEMINFO = Path("/proc/meminfo")
_CLIENT_S = 20
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def examine(plan: Plan | None, run_dir: str) -> Iterator[Check]:
    """Yield every check's answer, the most basic first.

    Args:
        plan: whose needs are compared with what is there.
        run_dir: where run directories go.
    """
    ahead = None if plan is None else look_ahead(plan)
    needs = None if ahead is None else ahead.estimate
    try:
        client = connect()
    except InfrastructureError as error:
        yield Check("engine", Verdict.FAIL, *str(error).partition(": ")[::2])
        client = None
    if client is not None:
        yield from _of_the_engine(client, needs, existing(run_dir))
        yield from watcher(client, existing(run_dir))
    yield checks.compose(compose_version())
    yield _run_directory(run_dir, needs)
    yield descriptors(ahead)
    yield from of_this_machine()


def existing(run_dir: Path | str) -> Path:
    """Return where run directories go, or the nearest folder above it that is there."""
    place = absolute(run_dir)
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def watcher(client: DockerClient, place: Path) -> Iterator[Check]:
    """Start an agent as a bench would, and say what it will be able to read.

    Args:
        client: the engine.
        place: a folder of this machine.
    """
    engine = describe(client)
    container = wants_container(client, engine, place)
    here = "this machine" if not container or sees_files_here(client, place) else "another machine"
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "root"
    yield Check("place", Verdict.OK, f"{settle()}, on {here}, as {user}")
    image = some_image() if container else ""
    if container and not image:
        found = "no image of ours is there to start the agent from"
        yield Check("peaks", Verdict.WARN, found, "'make images'")
        return
    form = "container" if container else "child"
    agent = Agent(client, engine, ownership.current_owner(), form, image)
    try:
        with started(agent):
            obstacle = agent.obstacle()
            offset_s = agent.clock_shift_ns() / 1e9
    except (InfrastructureError, OSError) as error:
        yield Check("peaks", Verdict.FAIL, str(error), "see docs/engines.md")
        return
    yield checks.peaks(engine.cgroup_version, engine.cgroup_driver, form, obstacle)
    if offset_s:
        yield Check("agent's clock", Verdict.OK, f"{offset_s:+.3f} s from this machine's, measured")


def descriptors(ahead: Ahead | None) -> Check:
    """Check how many files the sampler of a plan needs against how many it may open."""
    # The sampler raises its own limit as far as it may.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY:
        return Check("descriptors", Verdict.OK, "a process may open as many files as it likes")
    if ahead is None:
        return checks.descriptors(limit, None)
    services = ahead.services
    return checks.descriptors(limit, descriptors_needed(sum(services.values()), len(services) + 1))


def _of_the_engine(client: DockerClient, needs: Estimate | None, place: Path) -> Iterator[Check]:
    engine = describe(client)
    info = client.info()
    offset_s = _offset_s(str(info.get("SystemTime", "")))
    yield Check("engine", Verdict.OK, str(engine))
    yield checks.api(engine.api_version)
    yield _limits(info, engine)
    available = available_bytes(client, engine.memory_bytes, place)
    yield checks.memory(available, needs.peak_bytes if needs else None)
    root = Path(str(info.get("DockerRootDir", "")))
    if root.is_dir():
        yield checks.disk("engine's disk", free_bytes(root), needs.store_bytes if needs else None)
    yield _subnets(client)
    yield checks.clock(offset_s, _text(_CLOCK_SOURCE).strip())
    yield _leftovers(client)


def _limits(info: dict[str, Any], engine: Engine) -> Check:
    missing = [name for name in ("MemoryLimit", "SwapLimit", "PidsLimit") if not info.get(name)]
    if missing:
        remedy = "boot the kernel with cgroup_enable=memory swapaccount=1"
        if not engine.limits_and_counts:
            remedy = "boot with cgroup v2: on v1 an engine without root has no limits"
        return Check("limits", Verdict.WARN, f"the engine lacks {', '.join(missing)}", remedy)
    return Check("limits", Verdict.OK, "memory, swap, processes")


def _subnets(client: DockerClient) -> Check:
    """Ask for a network, the only way to know whether there is room for one."""
    name = new_project_name()
    labels = {RUN_LABEL: name, OWNER_LABEL: str(BenchProcess.current())}
    try:
        client.networks.create(name, driver="bridge", internal=True, labels=labels).remove()
    except APIError as error:
        remedy = "remove networks that nobody needs ('harness clean', 'docker network prune')"
        return Check("subnets", Verdict.FAIL, str(error.explanation), remedy)
    return Check("subnets", Verdict.OK, "at least one is free")


def _leftovers(client: DockerClient) -> Check:
    found = [entry for entry in leftovers.find(client) if entry.state == State.ENDED]
    if not found:
        return Check("leftovers", Verdict.OK, "none")
    names = ", ".join(entry.project for entry in found)
    return Check("leftovers", Verdict.WARN, f"of ended benches: {names}", "'harness clean'")


def _run_directory(run_dir: str, needs: Estimate | None) -> Check:
    place = existing(run_dir)
    name = "run directory"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check(name, Verdict.FAIL, f"cannot write in {place}", "name another --run-dir")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return Check(name, Verdict.FAIL, f"{place} is read-only", "name another --run-dir")
    return checks.disk(name, free_bytes(place), needs.disk_bytes if needs else None)


def of_this_machine() -> Iterator[Check]:
    """Yield what needs no engine to be known."""
    if _MEMINFO.exists():
        meminfo = _MEMINFO.read_bytes()
        total, free = (proc_size(meminfo, name) or 0 for name in (b"SwapTotal", b"SwapFree"))
        yield checks.swap(total, free)
    yield checks.huge_pages(_text(_HUGE_PAGES))
    yield checks.load(os.getloadavg()[0], os.cpu_count() or 1)
    yield _private_ca()


def _private_ca() -> Check:
    named = {name: os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)}
    missing = [f"{name}={path}" for name, path in named.items() if not Path(path).exists()]
    if missing:
        return Check("private CA", Verdict.FAIL, f"not there: {missing[0]}", "unset or correct it")
    if not named:
        return Check("private CA", Verdict.OK, "none")
    if "SSL_CERT_FILE" not in named:
        found = f"{next(iter(named))}, but image builds take SSL_CERT_FILE"
        return Check("private CA", Verdict.WARN, found, "set SSL_CERT_FILE to the same file")
    return Check("private CA", Verdict.OK, named["SSL_CERT_FILE"])


def compose_version() -> str:
    """Return the version of ``docker compose``; empty if there is none."""
    try:
        code, said = run_command(["docker", "compose", "version", "--short"], _CLIENT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.strip() if code == 0 else ""


def _offset_s(system_time: str) -> float:
    """Return how far an engine's clock is ahead of this one's, from what it said just now."""
    whole, _, rest = system_time.partition(".")
    zone = rest.lstrip("0123456789")
    try:
        return datetime.fromisoformat(f"{whole}{zone or '+00:00'}").timestamp() - time.time()
    except ValueError:
        return 0.0


def free_bytes(path: Path) -> int:
    """Return the free space where a path is."""
    return shutil.disk_usage(path).free


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
