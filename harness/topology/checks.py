"""What a machine must have and be for a bench: one check each, with the remedy.

The checks that need neither an engine nor root are pure functions of what was read; reading is in
``doctor``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.sizes import format_size

_OLDEST_API = (1, 41)
_OLDEST_COMPOSE = (2, 20)
_CLOCK_OFF_S = 2.0
_FAST_CLOCKS = frozenset({"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"})
_LITTLE_DISK_BYTES = 2_000_000_000


class Verdict(StrEnum):
    """What a check says."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One check's answer.

    Attributes:
        name: what was looked at.
        verdict: whether a bench works (FAIL: it does not), and measures well (WARN: less so).
        found: what was found, one line.
        remedy: what to do about it; empty if OK.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``v2.26.1-4`` is (2, 26, 1)."""
    numbers: list[int] = []
    for part in text.strip().removeprefix("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def api(version: str) -> Check:
    """Check the engine's API version."""
    if version_tuple(version) >= _OLDEST_API:
        return Check("API", Verdict.OK, version)
    return Check("API", Verdict.FAIL, version, "install Docker 20.10 or newer ('make engine')")


def compose(version: str) -> Check:
    """Check the version of ``docker compose``; empty if there is none."""
    if version_tuple(version) >= _OLDEST_COMPOSE:
        return Check("compose", Verdict.OK, version)
    found = version or "no 'docker compose'"
    return Check("compose", Verdict.FAIL, found, "install the compose plug-in ('make engine')")


def memory(available_bytes: int, needed_bytes: int | None) -> Check:
    """Check what is available against what a plan is predicted to need."""
    found = f"{format_size(available_bytes)} available"
    if needed_bytes is None:
        return Check("memory", Verdict.OK, found)
    found += f", the plan needs about {format_size(needed_bytes)}"
    if needed_bytes > available_bytes:
        return Check("memory", Verdict.FAIL, found, "a smaller plan, or --force")
    if 2 * needed_bytes > available_bytes:
        return Check("memory", Verdict.WARN, found, "end other programs: the prediction is rough")
    return Check("memory", Verdict.OK, found)


def disk(name: str, free_bytes: int, needed_bytes: int | None) -> Check:
    """Check free space against what a plan is predicted to write."""
    found = f"{format_size(free_bytes)} free"
    needed = needed_bytes or 0
    if needed:
        found += f", the plan writes about {format_size(needed)}"
    if free_bytes <= needed:
        return Check(name, Verdict.FAIL, found, "free space, or name another --run-dir")
    if free_bytes < needed + _LITTLE_DISK_BYTES:
        return Check(name, Verdict.WARN, found, "free space: images alone need 1 GB")
    return Check(name, Verdict.OK, found)


def descriptors(limit: int, needed: int | None) -> Check:
    """Check how many files a process may open against what the sampler of a plan needs."""
    found = f"a process may open {limit} files"
    if needed is not None:
        found += f", the plan's memory sampler needs {needed}"
        if limit < needed:
            remedy = f"raise the hard limit (ulimit -Hn {needed}, as root), or start fewer workers"
            return Check("descriptors", Verdict.FAIL, found, remedy)
    return Check("descriptors", Verdict.OK, found)


def clock(offset_s: float, source: str) -> Check:
    """Check the engine's clock against this one's, and the clock itself."""
    found = f"{source or 'unknown'}, the engine's is {offset_s:+.1f} s off"
    if abs(offset_s) > _CLOCK_OFF_S:
        return Check("clock", Verdict.WARN, found, "synchronise both clocks (NTP)")
    if source and source not in _FAST_CLOCKS:
        return Check("clock", Verdict.WARN, found, "reading it is slow: samples are fewer")
    return Check("clock", Verdict.OK, found)


def swap(total_bytes: int, free_bytes: int) -> Check:
    """Check whether memory may leave the containers' figures."""
    used = total_bytes - free_bytes
    found = f"{format_size(used)} of {format_size(total_bytes)} used"
    if used > 0:
        return Check("swap", Verdict.WARN, found, "'swapoff -a': swapped memory is in no figure")
    return Check("swap", Verdict.OK, found if total_bytes else "none")


def huge_pages(text: str) -> Check:
    """Check ``/sys/kernel/mm/transparent_hugepage/enabled``."""
    chosen = text.partition("[")[2].partition("]")[0] or "not there"
    if chosen == "always":
        remedy = "'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled': usage jumps by 2 MB"
        return Check("huge pages", Verdict.WARN, chosen, remedy)
    return Check("huge pages", Verdict.OK, chosen)


def load(average: float, cpus: int) -> Check:
    """Check what else the machine does."""
    found = f"{average:.1f} on {cpus} CPUs"
    if average > cpus / 2:
        return Check("other load", Verdict.WARN, found, "wait, or end other programs")
    return Check("other load", Verdict.OK, found)


def peaks(version: int, driver: str, form: str, obstacle: str) -> Check:
    """Say which peaks an agent can read, and what would give more.

    Args:
        version, driver: of the engine's cgroups.
        form: of the agent: child or container.
        obstacle: why it can make no parent cgroups; empty if it can.
    """
    found = f"cgroup v{version}, driver {driver}, agent is a {form}"
    if not obstacle:
        kinds = "of containers, services and the topology"
        return Check("peaks", Verdict.OK, f"{found}: the kernel's, {kinds}")
    remedy = "see docs/engines.md for what gives the exact peak of each service"
    return Check("peaks", Verdict.WARN, f"{found}: sampled for services: {obstacle}", remedy)
