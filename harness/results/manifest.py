"""The manifest: what was run, with which versions, on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from harness import __version__
from harness.results.documents import read_document

SCHEMA_VERSION = 1


def git_revision(directory: Path) -> str | None:
    """Return the commit a checkout is at, with ``-dirty`` where files differ from it."""
    # An environment may lie in somebody else's checkout.
    if not (directory / ".git").exists():
        return None
    command = ["git", "-C", str(directory), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no checkout: an image has neither
    return done.stdout.strip() or None


def software() -> dict[str, Any]:
    """Return this process's Python, packages, and allocator settings."""
    packages = {d.metadata["Name"]: d.version for d in distributions()}
    return {
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "environment": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("MALLOC_", "PYTHON", "DASK_"))
        },
    }


def cpu_model() -> str | None:
    """Return what the processor is called; None where the kernel does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, None)


def machine() -> dict[str, Any]:
    """Return kernel, CPUs and memory of the machine."""
    facts: dict[str, Any] = {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_model": cpu_model(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cgroup_version": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
    }
    for key, path in {
        "boot_id": "/proc/sys/kernel/random/boot_id",
        "transparent_hugepages": "/sys/kernel/mm/transparent_hugepage/enabled",
        "clocksource": "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    }.items():
        try:
            facts[key] = Path(path).read_text(encoding="utf-8").strip()
        except OSError:
            facts[key] = None
    return facts


def base_manifest(plan: dict[str, Any]) -> dict[str, Any]:
    """Return what every manifest holds.

    Args:
        plan: the validated plan as plain data.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "harness_version": __version__,
        "command": sys.argv[1:],
        "plan": plan,
    }


def notes(path: Path) -> list[str]:
    """Return the sentences that every report of a run must show.

    Args:
        path: of the run's manifest.
    """
    found, _ = read_document(path, "manifest")
    return [str(note) for note in found.get("notes") or []]
