"""Parent cgroups: one for the topology and one in it for each service.

They outlive the containers, so the kernel's high-water mark of a service can still be read when
its container is gone, and the topology's is the simultaneous peak of all. Compose passes them as
``cgroup_parent``. The engine creates the missing ones but removes none, under no controller: all
of that is done here, by the agent, as root of the engine's cgroup tree. Where that is not granted
there are no parents, for a stated reason, and sampling reads each container's own cgroup.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.sampling.cgroup.paths import (
    CgroupMount,
    memory_mount,
    parse_mountinfo,
    parse_proc_cgroup,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOUNTINFO = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_WHOLE_TREE = re.compile(r"/|(/\.\.)+")
_USER_MANAGER = re.compile(r".*/user@\d+\.service")
# The engine has let go of a container's cgroups when it reports it removed; the kernel may need a
# moment longer.
_REMOVE_TIMEOUT_S = 2.0
_RETRY_S = 0.02


@dataclass(frozen=True)
class CgroupParents:
    """Names and directories of a project's parent cgroups.

    Attributes:
        compose: service -> value of its ``cgroup_parent``; empty without parents.
        service_directories: service -> where its files can be read.
        topology_directory: the directory above them, ``None`` without parents.
        reason: why there are no parents; empty if there are.
    """

    project: str
    compose: dict[str, str] = field(default_factory=dict)
    service_directories: dict[str, str] = field(default_factory=dict)
    topology_directory: str | None = None
    reason: str = ""


def plan_parents(
    driver: str, mount_point: str, project: str, services: Sequence[str]
) -> CgroupParents:
    """Return the names for a cgroup driver; nothing is created.

    A dash in a slice's name makes it a child of the part before the dash (systemd.slice(5)), so
    services lose theirs with the systemd driver.
    """
    if driver == "systemd":
        slices = {s: f"{project}-{s.replace('-', '_')}.slice" for s in services}
        top = f"{mount_point}/{project}.slice"
        return CgroupParents(
            project=project,
            compose=slices,
            service_directories={s: f"{top}/{name}" for s, name in slices.items()},
            topology_directory=top,
        )
    return CgroupParents(
        project=project,
        compose={s: f"/{project}/{s}" for s in services},
        service_directories={s: f"{mount_point}/{project}/{s}" for s in services},
        topology_directory=f"{mount_point}/{project}",
    )


def create_parents(
    driver: str, version: int, project: str, services: Sequence[str]
) -> CgroupParents:
    """Create a project's parent cgroups, or say in ``reason`` why there are none.

    Args:
        driver, version: of the engine's cgroups.
        project: whose they are.
        services: one parent for each.
    """
    mountinfo = _MOUNTINFO.read_text(encoding="utf-8") if _MOUNTINFO.exists() else ""
    mount = memory_mount(mountinfo)
    reason = obstacle(driver, version)
    if reason or mount is None:
        return CgroupParents(project, reason=reason)
    parents = plan_parents(driver, _base(mount), project, services)
    try:
        if _asks_systemd(driver):
            _systemctl("start", *parents.compose.values())
        else:
            _make_directories(mount, parents)
        _require(parents)
    except OSError as error:
        remove_cgroups(project)
        where = f"{error.filename}: " if error.filename else ""
        return CgroupParents(project, reason=f"{where}{error.strerror or error}")
    return parents


def remove_parents(parents: CgroupParents) -> list[str]:
    """Remove what ``create_parents`` and the engine created; return the directories that stay."""
    return [] if parents.reason else remove_cgroups(parents.project)


def remove_cgroups(project: str) -> list[str]:
    """Remove a project's cgroups under every controller, also those a dead bench left.

    Returns the directories that could not be removed, for example because a process is in them.
    """
    mounts = parse_mountinfo(_MOUNTINFO.read_text(encoding="utf-8"))
    slices = [m for m in mounts if Path(_base(m), f"{project}.slice").is_dir()]
    if slices and shutil.which("systemctl"):
        with contextlib.suppress(OSError):  # what is left shows below
            _systemctl("stop", f"{project}.slice")
    left = []
    for mount in mounts:
        for name in (project, f"{project}.slice"):
            top = Path(_base(mount), name)
            if not _remove_tree(top):
                left.append(str(top))
    return left


def project_cgroups(project: str) -> list[str]:
    """Return the top directories of a project's cgroups, under every controller."""
    mounts = parse_mountinfo(_MOUNTINFO.read_text(encoding="utf-8")) if _MOUNTINFO.exists() else []
    tops = (Path(_base(mount), name) for mount in mounts for name in (project, f"{project}.slice"))
    return [str(top) for top in tops if top.is_dir()]


def all_project_cgroups() -> set[str]:
    """Return the names of all top cgroups, as those of projects: without ``.slice``."""
    mounts = parse_mountinfo(_MOUNTINFO.read_text(encoding="utf-8")) if _MOUNTINFO.exists() else []
    found: set[str] = set()
    for mount in mounts:
        with contextlib.suppress(OSError):  # another user's mount
            names = (each.name for each in os.scandir(_base(mount)) if each.is_dir())
            found.update(name.removesuffix(".slice") for name in names)
    return found


def obstacle(driver: str, version: int) -> str:
    """Return why parents cannot be created here, empty if nothing speaks against it.

    Args:
        driver, version: of the engine's cgroups.
    """
    mountinfo = _MOUNTINFO.read_text(encoding="utf-8") if _MOUNTINFO.exists() else ""
    mount = memory_mount(mountinfo)
    if driver not in ("cgroupfs", "systemd"):
        return f"the engine manages no cgroups (driver {driver or 'unknown'})"
    if mount is None:
        return "no cgroup hierarchy with the memory controller is mounted here"
    base = _base(mount)
    against = {
        f"the engine uses cgroup v{version}, this machine v{mount.version}": (
            mount.version != version
        ),
        "only a part of the cgroup tree is visible here, as in a container": (
            # From within a cgroup namespace the root of the whole tree is so many levels up.
            _WHOLE_TREE.fullmatch(mount.root) is None
        ),
        "creating cgroups needs root": os.geteuid() != 0,
        f"{base} cannot be written: no part of the cgroup tree is this engine's own": (
            not os.access(base, os.W_OK)
        ),
    }
    return next((reason for reason, holds in against.items() if holds), "")


def _base(mount: CgroupMount) -> str:
    """Return the directory below which an engine makes cgroups.

    An engine without root has that of its user's systemd. This process is below it, too, but in a
    cgroup namespace of its own it cannot see where: then it is the one that it may write to.
    """
    top = mount.mount_point
    if mount.version == 1 or shutil.which("systemctl"):
        return top
    try:
        text = _OWN.read_text(encoding="utf-8")
    except OSError:
        return top
    manager = _USER_MANAGER.match(parse_proc_cgroup(text).get("", ""))
    if manager or os.access(top, os.W_OK):
        return top + (manager[0] if manager else "")
    managers = Path(top).glob("user.slice/user-*.slice/user@*.service")
    return next((str(each) for each in managers if os.access(each, os.W_OK)), top)


def _asks_systemd(driver: str) -> bool:
    """Say whether slices are systemd's to make: in a container it cannot be asked.

    The engine then asks it for the slice of each container, and systemd takes over a directory
    that is there already.
    """
    return driver == "systemd" and shutil.which("systemctl") is not None


def _make_directories(mount: CgroupMount, parents: CgroupParents) -> None:
    assert parents.topology_directory is not None
    top = Path(parents.topology_directory)
    top.mkdir()
    if mount.version == 2:
        # A child has the memory files only if each directory above it hands the controller down.
        for above in (Path(_base(mount)), top):
            control = above / "cgroup.subtree_control"
            if "memory" not in control.read_text(encoding="ascii").split():
                control.write_text("+memory", encoding="ascii")
    else:
        # Before Linux 5.11 a v1 cgroup may count only itself; this must precede its children.
        hierarchy = top / "memory.use_hierarchy"
        if hierarchy.exists() and hierarchy.read_text(encoding="ascii").strip() == "0":
            hierarchy.write_text("1", encoding="ascii")
    for directory in parents.service_directories.values():
        Path(directory).mkdir()


def _require(parents: CgroupParents) -> None:
    for directory in parents.service_directories.values():
        if not any(
            Path(directory, name).exists() for name in ("memory.current", "memory.usage_in_bytes")
        ):
            raise OSError(errno.ENOENT, "no memory files in it", directory)


def _systemctl(verb: str, *units: str) -> None:
    """Call systemctl. Raises OSError with its message if it fails or is not there."""
    # Few agents need it, and it is big.
    import subprocess  # noqa: PLC0415

    called = subprocess.run(
        ["systemctl", "--quiet", verb, *units], capture_output=True, text=True, check=False
    )
    if called.returncode != 0:
        lines = called.stderr.strip().splitlines() or [f"exit code {called.returncode}"]
        raise OSError(errno.EIO, f"systemctl {verb}: {lines[-1]}")


def _remove_tree(top: Path) -> bool:
    """Remove a cgroup and those below it; return whether it is gone.

    A cgroup's files cannot be removed, only the directories, children first.
    """
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    while top.is_dir():
        try:
            for directory, _, _ in os.walk(top, topdown=False):
                Path(directory).rmdir()
        except FileNotFoundError:
            continue  # the engine removes its part of it at the same time
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_S)
    return True
