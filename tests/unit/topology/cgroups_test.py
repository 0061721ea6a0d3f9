from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.sampling.agent import parents as cgroups
from harness.sampling.agent.parents import (
    CgroupParents,
    create_parents,
    plan_parents,
    remove_cgroups,
    remove_parents,
)
from harness.sampling.meminfo import parse_meminfo
from harness.topology.engine import Engine

PROJECT = "wmh1a2b3c4d"


def engine(version: int = 1, driver: str = "cgroupfs", memory_bytes: int | None = None) -> Engine:
    here = parse_meminfo(Path("/proc/meminfo").read_bytes())
    assert here is not None
    return Engine(
        version="20.10.24",
        api_version="1.41",
        cgroup_version=version,
        cgroup_driver=driver,
        storage_driver="overlay2",
        memory_bytes=here.total if memory_bytes is None else memory_bytes,
        cpus=2,
    )


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the module a machine with v1 hierarchies that are plain directories."""
    lines = []
    for number, controller in enumerate(("memory", "pids")):
        (tmp_path / controller).mkdir()
        lines.append(f"{number} 1 0:1 / {tmp_path}/{controller} rw - cgroup cgroup rw,{controller}")
    return use(tmp_path, monkeypatch, lines)


def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Path:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(cgroups, "_MOUNTINFO", mountinfo)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    # Plain directories have no memory files in them.
    monkeypatch.setattr(cgroups, "_require", lambda _: None)
    return tmp_path


def test_names_for_the_cgroupfs_driver() -> None:
    parents = plan_parents("cgroupfs", "/sys/fs/cgroup/memory", PROJECT, ["worker", "file-store"])
    assert parents == CgroupParents(
        project=PROJECT,
        compose={"worker": f"/{PROJECT}/worker", "file-store": f"/{PROJECT}/file-store"},
        service_directories={
            "worker": f"/sys/fs/cgroup/memory/{PROJECT}/worker",
            "file-store": f"/sys/fs/cgroup/memory/{PROJECT}/file-store",
        },
        topology_directory=f"/sys/fs/cgroup/memory/{PROJECT}",
    )


def test_names_for_the_systemd_driver_nest_by_one_dash_only() -> None:
    parents = plan_parents("systemd", "/sys/fs/cgroup", PROJECT, ["worker", "file-store"])
    top = f"/sys/fs/cgroup/{PROJECT}.slice"
    assert parents.compose == {
        "worker": f"{PROJECT}-worker.slice",
        "file-store": f"{PROJECT}-file_store.slice",
    }
    assert parents.service_directories["file-store"] == f"{top}/{PROJECT}-file_store.slice"
    assert parents.topology_directory == top


def test_v1_parents_are_created_and_removed_under_every_controller(tree: Path) -> None:
    parents = create_parents(engine(), PROJECT, ["worker", "runner"])
    assert parents.reason == ""
    assert (tree / "memory" / PROJECT / "worker").is_dir()
    # The engine makes its own directories below, and the same under the other controllers.
    (tree / "memory" / PROJECT / "worker" / "0123").mkdir()
    (tree / "pids" / PROJECT / "worker" / "0123").mkdir(parents=True)
    (tree / "pids" / "wmh99999999").mkdir()
    assert remove_parents(parents) == []
    assert list((tree / "memory").iterdir()) == []
    assert [path.name for path in (tree / "pids").iterdir()] == ["wmh99999999"]
    assert remove_parents(parents) == []


def test_an_old_kernel_is_told_to_count_hierarchically(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = Path.mkdir

    def mkdir(path: Path) -> None:
        real(path)
        made.append(path.name)
        if path.name == PROJECT:
            (path / "memory.use_hierarchy").write_text("0\n")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    create_parents(engine(), PROJECT, ["worker"])
    assert made == [PROJECT, "worker"]
    assert (tree / "memory" / PROJECT / "memory.use_hierarchy").read_text() == "1"


def test_v2_hands_the_controller_down_before_a_service_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch, [f"1 1 0:1 / {tmp_path}/cg rw - cgroup2 cgroup2 rw"])
    (tmp_path / "cg").mkdir()
    (tmp_path / "cg" / "cgroup.subtree_control").write_text("cpu memory\n")
    real = Path.mkdir

    def mkdir(path: Path) -> None:
        real(path)
        if path.name == PROJECT:
            (path / "cgroup.subtree_control").write_text("\n")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    parents = create_parents(engine(version=2), PROJECT, ["worker"])
    assert parents.reason == ""
    assert (tmp_path / "cg" / "cgroup.subtree_control").read_text() == "cpu memory\n"
    assert (tmp_path / "cg" / PROJECT / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "cg" / PROJECT / "worker").is_dir()


def test_systemd_is_asked_for_slices(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (tree / "memory" / f"{PROJECT}.slice").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    parents = create_parents(engine(driver="systemd"), PROJECT, ["worker", "runner"])
    assert parents.reason == ""
    remove_parents(parents)
    assert calls == [
        ["systemctl", "--quiet", "start", f"{PROJECT}-worker.slice", f"{PROJECT}-runner.slice"],
        ["systemctl", "--quiet", "stop", f"{PROJECT}.slice"],
    ]


def test_a_refusing_systemd_is_a_reason(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Failed to connect to bus\n")

    monkeypatch.setattr(subprocess, "run", run)
    parents = create_parents(engine(driver="systemd"), PROJECT, ["worker"])
    assert parents == CgroupParents(PROJECT, reason="systemctl start: Failed to connect to bus")


def test_without_permission_there_is_a_reason_and_nothing_is_left(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def mkdir(path: Path) -> None:
        if path.name == "runner":
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    parents = create_parents(engine(), PROJECT, ["worker", "runner"])
    assert parents.reason == f"{tree}/memory/{PROJECT}/runner: Permission denied"
    assert parents.compose == {}
    assert parents.topology_directory is None
    assert not (tree / "memory" / PROJECT).exists()
    assert remove_parents(parents) == []


def test_an_ordinary_user_gets_a_reason(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert create_parents(engine(), PROJECT, ["worker"]).reason == "creating cgroups needs root"


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (engine(version=2), "it uses cgroup v2, this one v1"),
        (engine(memory_bytes=1), "it has 1 bytes of memory"),
    ],
)
def test_an_engine_elsewhere_is_recognised(tree: Path, described: Engine, words: str) -> None:
    assert words in create_parents(described, PROJECT, ["worker"]).reason


def test_a_remote_engine_is_recognised_by_its_address(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://far.example")
    assert "DOCKER_HOST is ssh://far.example" in create_parents(engine(), PROJECT, ["w"]).reason
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/docker.sock")
    assert create_parents(engine(), PROJECT, ["w"]).reason == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 1 0:1 /docker/0123 /x rw - cgroup cgroup rw,memory", "only a part"),
        ("1 1 0:1 / /x rw - ext4 /dev/vda rw", "no cgroup hierarchy"),
    ],
)
def test_what_is_mounted_must_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    use(tmp_path, monkeypatch, [line])
    assert words in create_parents(engine(), PROJECT, ["worker"]).reason


def test_what_cannot_be_removed_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_parents(engine(), PROJECT, ["worker"])
    monkeypatch.setattr(cgroups, "_REMOVE_TIMEOUT_S", 0.05)
    (tree / "memory" / PROJECT / "worker" / "a-file-like-a-busy-cgroup").touch()
    assert remove_cgroups(PROJECT) == [f"{tree}/memory/{PROJECT}"]
