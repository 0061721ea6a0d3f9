from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.sampling.cgroup import paths
from harness.sampling.cgroup.paths import (
    MemoryCgroup,
    Unreachable,
    cgroup_at,
    container_cgroup,
    memory_cgroup,
    memory_mount,
    own_cgroup,
    parse_mountinfo,
    parse_proc_cgroup,
    pressure_above,
)
from harness.sampling.cgroup.reader import V1, V2

RECORDED = Path(__file__).parent / "recorded"
ID = "13402669e95ed2ac45679d17f86a14fb53d27efcd9ca28d40fea3e4eec85a34a"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_v1_host_with_a_unified_hierarchy_beside_it() -> None:
    found = memory_cgroup(recorded("v1/proc-cgroup.txt"), recorded("v1/mountinfo-host.txt"))
    assert found == MemoryCgroup(
        V1, f"/sys/fs/cgroup/memory/docker/{ID}", f"/sys/fs/cgroup/unified/docker/{ID}"
    )


def test_v1_inside_a_container_that_sees_its_own_cgroup_only() -> None:
    found = memory_cgroup(recorded("v1/proc-cgroup.txt"), recorded("v1/mountinfo-inside.txt"))
    assert found == MemoryCgroup(V1, "/sys/fs/cgroup/memory", None)


def test_v2_host_with_the_systemd_driver_and_a_slice_of_ours() -> None:
    id_on_v2 = "c0f357cec3fa54281f440e7fdba038d258384631abb302fa3e60a08ffad3fd97"
    slices = "wmhdeadbee5.slice/wmhdeadbee5-worker.slice"
    directory = f"/sys/fs/cgroup/{slices}/docker-{id_on_v2}.scope"
    found = memory_cgroup(recorded("v2/proc-cgroup.txt"), recorded("v2/mountinfo-host.txt"))
    assert found == MemoryCgroup(V2, directory, directory)


def test_v2_inside_a_private_namespace() -> None:
    found = memory_cgroup("0::/\n", recorded("v2/mountinfo-inside.txt"))
    assert found == MemoryCgroup(V2, "/sys/fs/cgroup", "/sys/fs/cgroup")


def test_a_parent_of_our_own_and_rootless() -> None:
    for path in (f"/wmh1a2b3c4d/worker/{ID}", f"/user.slice/user-1.slice/docker-{ID}.scope"):
        found = memory_cgroup(f"0::{path}\n", recorded("v2/mountinfo-host.txt"))
        assert isinstance(found, MemoryCgroup)
        assert found.directory == f"/sys/fs/cgroup{path}"


def test_hybrid_with_the_memory_controller_on_v2() -> None:
    # v1 hierarchies are mounted, but none has memory: the v2 one counts.
    mountinfo = (
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    found = memory_cgroup("9:name=systemd:/x\n0::/x\n", mountinfo)
    assert found == MemoryCgroup(V2, "/sys/fs/cgroup/unified/x", "/sys/fs/cgroup/unified/x")


@pytest.mark.parametrize(
    ("proc_cgroup", "mountinfo", "words"),
    [
        ("4:memory:/docker/a\n", "v2/mountinfo-host.txt", "not under a mount visible here"),
        ("4:memory:/elsewhere/a\n", "v1/mountinfo-inside.txt", "/elsewhere/a is not under"),
        (f"4:memory:/docker/{ID}0\n", "v1/mountinfo-inside.txt", "is not under"),
        ("0::/../sibling\n", "v2/mountinfo-inside.txt", "/../sibling is not under"),
        ("9:name=systemd:/\n", "v1/mountinfo-host.txt", "lists no cgroup"),
        ("", "v1/mountinfo-host.txt", "lists no cgroup"),
    ],
)
def test_what_cannot_be_reached_says_why(proc_cgroup: str, mountinfo: str, words: str) -> None:
    found = memory_cgroup(proc_cgroup, recorded(mountinfo))
    assert isinstance(found, Unreachable)
    assert words in found.reason


def test_proc_cgroup_lines_may_name_several_controllers_and_hold_colons() -> None:
    paths = parse_proc_cgroup("3:cpu,cpuacct:/a:b\n0::/c\nnonsense\n")
    assert paths == {"cpu": "/a:b", "cpuacct": "/a:b", "": "/c"}


def test_mount_points_with_spaces_are_unescaped() -> None:
    (mount,) = parse_mountinfo(
        "1 2 0:3 /r\\134x /a\\040b rw,x shared:1 - cgroup2 c rw\nshort - x\n"
    )
    assert (mount.root, mount.mount_point, mount.version) == ("/r\\x", "/a b", 2)


def test_the_memory_mount_prefers_v1() -> None:
    v1 = memory_mount(recorded("v1/mountinfo-host.txt"))
    v2 = memory_mount(recorded("v2/mountinfo-host.txt"))
    assert v1 is not None
    assert v2 is not None
    assert (v1.version, v1.mount_point) == (1, "/sys/fs/cgroup/memory")
    assert (v2.version, v2.mount_point) == (2, "/sys/fs/cgroup")
    assert memory_mount("") is None


def test_a_process_that_is_not_there() -> None:
    found = container_cgroup(2**22 + 1)
    assert isinstance(found, Unreachable)
    assert found.reason == f"no process {2**22 + 1} here, and no cgroup has the container's name"


def test_a_process_that_is_not_the_containers() -> None:
    found = container_cgroup(os.getpid(), ID)
    assert isinstance(found, Unreachable)
    assert "is not the container's" in found.reason


class Mounted:
    """A cgroup v2 tree at another place than this machine's, as this process's own."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = "/wmh1/worker/c1"
        self.directory = Path(f"{place}{self.own}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.mountinfo = f"1 2 0:3 / {place} rw - cgroup2 cgroup2 rw\n"
        monkeypatch.setattr(paths, "_own_mountinfo", lambda: self.mountinfo)
        # As on a machine whose memory controller is on v2.
        monkeypatch.setattr(paths, "parse_proc_cgroup", lambda _: {"": self.own})


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    return Mounted(tmp_path, monkeypatch)


def test_a_cgroup_is_where_its_usage_can_be_read(mounted: Mounted) -> None:
    both = (own_cgroup, lambda: container_cgroup(os.getpid()))
    for find in both:
        found = find()
        assert isinstance(found, Unreachable)
        assert found.reason == f"{mounted.directory} has no readable memory.current"
    (mounted.directory / "memory.current").write_text("1\n")
    for find in both:
        assert find() == MemoryCgroup(V2, str(mounted.directory), None)
    # Pressure is told only by kernels that count it.
    (mounted.directory / "memory.pressure").touch()
    for find in both:
        assert find() == MemoryCgroup(V2, str(mounted.directory), str(mounted.directory))


def test_a_cgroup_that_no_mount_shows_cannot_be_reached(mounted: Mounted) -> None:
    mounted.mountinfo = ""
    for found in (own_cgroup(), container_cgroup(os.getpid())):
        assert isinstance(found, Unreachable)
        assert "is not under a mount visible here" in found.reason


def test_a_container_whose_process_is_hidden_is_found_by_its_name(mounted: Mounted) -> None:
    hidden = 2**22 + 1
    there = mounted.directory / f"libpod-{ID}.scope"
    there.mkdir()
    # What serves the container is not in it.
    for helper in (f"{ID}-2b3c.service", f"libpod-conmon-{ID}.scope"):
        (mounted.directory / helper).mkdir()
        (mounted.directory / helper / "memory.current").write_text("1\n")
    # One that has nothing to read is none, however it is called.
    assert isinstance(container_cgroup(hidden, ID), Unreachable)
    (there / "memory.current").write_text("1\n")
    found = MemoryCgroup(V2, str(there), str(there))
    # Also if somebody else's process has its number here.
    assert container_cgroup(hidden, ID) == container_cgroup(os.getpid(), ID) == found
    for name in (f"docker-{ID}.scope", ID):
        there = there.rename(mounted.directory / name)
        found = MemoryCgroup(V2, str(there), str(there))
        assert container_cgroup(hidden, ID) == found
    assert isinstance(container_cgroup(hidden, ID[:-1] + "x"), Unreachable)
    assert isinstance(container_cgroup(hidden), Unreachable)
    mounted.mountinfo = ""
    assert isinstance(container_cgroup(hidden, ID), Unreachable)


def test_a_cgroup_that_others_are_in_is_not_a_containers_own(mounted: Mounted) -> None:
    (mounted.directory / "memory.current").write_text("1\n")
    (mounted.directory / "cgroup.procs").write_text("1\n70\n")
    assert isinstance(own_cgroup(), MemoryCgroup)
    # Those of other namespaces have no number here.
    (mounted.directory / "cgroup.procs").write_text("1\n70\n0\n")
    found = own_cgroup()
    assert isinstance(found, Unreachable)
    assert "others are in it" in found.reason
    # Whoever asks for a container's by its process is not inside of one.
    assert isinstance(container_cgroup(os.getpid()), MemoryCgroup)


@pytest.mark.parametrize(
    ("pid", "name", "own"), [(1, "c1", True), (1, "c2", False), (7, "c2", True)]
)
def test_on_v1_a_containers_own_cgroup_is_called_as_it_is(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch, pid: int, name: str, own: bool
) -> None:
    mounted.mountinfo = mounted.mountinfo.replace("cgroup2 cgroup2 rw", "cgroup cgroup rw,memory")
    monkeypatch.setattr(paths, "parse_proc_cgroup", lambda _: {"memory": mounted.own})
    (mounted.directory / "memory.usage_in_bytes").write_text("1\n")
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))
    assert isinstance(own_cgroup(), MemoryCgroup) == own


def test_without_procfs_the_own_cgroup_cannot_be_reached(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(paths, "_own_mountinfo", refuse)
    assert own_cgroup() == Unreachable("/proc/self: Permission denied")


def test_a_known_directory_tells_its_version(tmp_path: Path) -> None:
    assert isinstance(cgroup_at(str(tmp_path)), Unreachable)
    (tmp_path / "memory.current").write_text("1\n")
    found = cgroup_at(str(tmp_path))
    assert found == MemoryCgroup(V2, str(tmp_path), str(tmp_path))
    (tmp_path / "memory.usage_in_bytes").write_text("1\n")
    assert cgroup_at(str(tmp_path)) == MemoryCgroup(V1, str(tmp_path), None)


def test_pressure_of_a_v1_parent_is_in_the_other_hierarchy(tmp_path: Path) -> None:
    service = tmp_path / "unified" / "wmh1" / "worker"
    (service / "c1").mkdir(parents=True)
    member = MemoryCgroup(V1, "/memory/wmh1/worker/c1", str(service / "c1"))
    assert pressure_above(member, "/memory/wmh1/worker") is None
    (service / "memory.pressure").touch()
    assert pressure_above(member, "/memory/wmh1/worker") == str(service)
    assert pressure_above(member, "/memory/wmh2") is None
    assert pressure_above(MemoryCgroup(V1, "/memory/c1", None), "/memory") is None
