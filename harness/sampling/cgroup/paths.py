"""Where a process's memory cgroup is, on cgroup v1, hybrid and v2, seen from this mount namespace.

No path is assumed: ``/proc/<pid>/cgroup`` names the cgroup inside its hierarchy and
``/proc/self/mountinfo`` says which part of the hierarchy is mounted where; joined, they give the
directory. Works on the host and, for a process's own cgroup, inside a container.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.sampling.cgroup.reader import PRESSURE, V1, V2, FileNames


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One cgroup file system: which part of which hierarchy (``root``) is mounted where."""

    root: str
    mount_point: str
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """The directories of one memory cgroup.

    ``pressure`` is where ``memory.pressure`` is, on v1 in the cgroup2 hierarchy beside it.
    """

    files: FileNames
    directory: str
    pressure: str | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Why a memory cgroup cannot be read from here, in words for the summary."""

    reason: str


def parse_proc_cgroup(text: str) -> dict[str, str]:
    """Return the cgroup path of each v1 controller in ``/proc/<pid>/cgroup``; v2's key is ''."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def parse_mountinfo(text: str) -> list[CgroupMount]:
    """Return the cgroup mounts of ``/proc/self/mountinfo`` (format: proc(5))."""
    mounts = []
    for line in text.splitlines():
        head, separator, tail = line.partition(" - ")
        fields = head.split()
        types = tail.split()
        if not separator or len(fields) < 5 or len(types) < 3:
            continue
        if types[0] not in {"cgroup", "cgroup2"}:
            continue
        version = 2 if types[0] == "cgroup2" else 1
        mounts.append(
            CgroupMount(
                root=_unescape(fields[3]),
                mount_point=_unescape(fields[4]),
                version=version,
                controllers=frozenset(types[2].split(",")) if version == 1 else frozenset(),
            )
        )
    return mounts


def memory_cgroup(proc_cgroup: str, mountinfo: str) -> MemoryCgroup | Unreachable:
    """Join the two texts: v1's memory controller if it is in use, else the v2 hierarchy."""
    paths = parse_proc_cgroup(proc_cgroup)
    mounts = parse_mountinfo(mountinfo)
    unified = [mount for mount in mounts if mount.version == 2]
    on_v2 = _directory(paths[""], unified) if "" in paths else None
    if "memory" in paths:
        on_v1 = [m for m in mounts if m.version == 1 and "memory" in m.controllers]
        directory = _directory(paths["memory"], on_v1)
        if directory is None:
            return Unreachable(f"cgroup {paths['memory']} is not under a mount visible here")
        return MemoryCgroup(V1, directory, on_v2)
    if "" not in paths:
        return Unreachable("the kernel lists no cgroup for the process")
    if on_v2 is None:
        return Unreachable(f"cgroup {paths['']} is not under a mount visible here")
    return MemoryCgroup(V2, on_v2, on_v2)


def container_cgroup(pid: int, container_id: str = "") -> MemoryCgroup | Unreachable:
    """Find the memory cgroup of a container by its first process.

    With ``container_id`` the cgroup's path must contain it. That guards against a process that
    merely has the same number here: a pid reused since, or one of another process namespace. What
    cannot be found by its process is looked for by that name in the whole tree.
    """
    try:
        proc_cgroup = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return _named(container_id) or Unreachable(
            f"no process {pid} here, and no cgroup has the container's name"
        )
    except OSError as error:
        return Unreachable(f"/proc/{pid}/cgroup: {error.strerror}")
    if container_id and container_id not in proc_cgroup:
        return _named(container_id) or Unreachable(
            f"process {pid} here is not the container's, and no cgroup has its name"
        )
    found = _existing(memory_cgroup(proc_cgroup, _own_mountinfo()))
    if isinstance(found, Unreachable):
        return _named(container_id) or found
    return found


def _named(container_id: str) -> MemoryCgroup | None:
    """Return the memory cgroup that is named after a container, as engines name them.

    ``ID`` or ``docker-ID.scope`` and ``libpod-ID.scope``: what only helps the container, such as
    its health check, has its id in a longer name.
    """
    mount = memory_mount(_own_mountinfo()) if container_id else None
    if mount is None:
        return None
    names = re.compile(rf"([a-z]+-)?{re.escape(container_id)}(\.scope)?")
    for directory, inner, _ in os.walk(mount.mount_point):
        name = next((name for name in inner if names.fullmatch(name)), None)
        if name is not None:
            found = cgroup_at(str(Path(directory, name)))
            return found if isinstance(found, MemoryCgroup) else None
    return None


def own_cgroup() -> MemoryCgroup | Unreachable:
    """Find the memory cgroup of this process, inside a container or not."""
    try:
        proc_cgroup = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        mountinfo = _own_mountinfo()
    except OSError as error:
        return Unreachable(f"/proc/self: {error.strerror}")
    found = _existing(memory_cgroup(proc_cgroup, mountinfo))
    if isinstance(found, MemoryCgroup) and _holds_strangers(
        found, parse_proc_cgroup(proc_cgroup).get("memory", "/")
    ):
        return Unreachable("the container has no memory cgroup of its own: others are in it, too")
    return found


def _holds_strangers(found: MemoryCgroup, path: str) -> bool:
    """Say whether a container's cgroup is that of others, too: its engine made it none.

    On v2 a process of another namespace has the number 0 here. v1 leaves such processes out, but
    shows the path, in which there is the container's name where the engine made it.
    """
    if found.files is V2:
        try:
            return "0" in Path(found.directory, "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return False
    return os.getpid() == 1 and path != "/" and os.uname().nodename not in path


def cgroup_at(directory: str) -> MemoryCgroup | Unreachable:
    """Describe the memory cgroup whose directory is known already."""
    for files in (V1, V2):
        if os.access(Path(directory, files.usage), os.R_OK):
            return MemoryCgroup(files, directory, directory if files is V2 else None)
    return Unreachable(f"{directory} is not a readable memory cgroup")


def pressure_above(member: MemoryCgroup, directory: str) -> str | None:
    """Return where ``memory.pressure`` of a v1 cgroup is, from one of those below it.

    The engine makes the same directories in the cgroup2 hierarchy, where pressure is counted.
    """
    if member.pressure is None:
        return None
    name = Path(directory).name
    for above in Path(member.pressure).parents:
        if above.name == name and os.access(above / PRESSURE, os.R_OK):
            return str(above)
    return None


def memory_mount(mountinfo: str) -> CgroupMount | None:
    """Return the mount of the hierarchy that has the memory controller, v1 before v2."""
    mounts = parse_mountinfo(mountinfo)
    for mount in mounts:
        if mount.version == 1 and "memory" in mount.controllers:
            return mount
    return next((mount for mount in mounts if mount.version == 2), None)


def _own_mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def _existing(found: MemoryCgroup | Unreachable) -> MemoryCgroup | Unreachable:
    if isinstance(found, Unreachable):
        return found
    if not os.access(Path(found.directory, found.files.usage), os.R_OK):
        return Unreachable(f"{found.directory} has no readable {found.files.usage}")
    if found.pressure and not os.access(Path(found.pressure, PRESSURE), os.R_OK):
        return MemoryCgroup(found.files, found.directory, None)
    return found


def _directory(path: str, mounts: list[CgroupMount]) -> str | None:
    # A mount shows the hierarchy from its root downwards. Of several that show the cgroup any
    # would do; a path with ".." lies outside this cgroup namespace.
    for mount in mounts:
        root = mount.root.rstrip("/")
        if (path == root or path.startswith(root + "/")) and "/.." not in path:
            return mount.mount_point.rstrip("/") + path[len(root) :].rstrip("/")
    return None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
