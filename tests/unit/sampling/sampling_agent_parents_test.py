"""Parent cgroups, in trees that are plain directories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.sampling.agent import parents as cgroups
from harness.sampling.agent.parents import (
    CgroupParents,
    all_project_cgroups,
    create_parents,
    obstacle,
    plan_parents,
    project_cgroups,
    remove_cgroups,
    remove_parents,
)

PROJECT = "wmh1a2b3c4d"


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
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(shutil, "which", lambda _: None)
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
    parents = create_parents("cgroupfs", 1, PROJECT, ["worker", "runner"])
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
    create_parents("cgroupfs", 1, PROJECT, ["worker"])
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
    parents = create_parents("cgroupfs", 2, PROJECT, ["worker"])
    assert parents.reason == ""
    assert (tmp_path / "cg" / "cgroup.subtree_control").read_text() == "cpu memory\n"
    assert (tmp_path / "cg" / PROJECT / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "cg" / PROJECT / "worker").is_dir()


def test_systemd_is_asked_for_slices(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (tree / "memory" / f"{PROJECT}.slice").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    parents = create_parents("systemd", 1, PROJECT, ["worker", "runner"])
    assert parents.reason == ""
    remove_parents(parents)
    assert calls == [
        ["systemctl", "--quiet", "start", f"{PROJECT}-worker.slice", f"{PROJECT}-runner.slice"],
        ["systemctl", "--quiet", "stop", f"{PROJECT}.slice"],
    ]


def test_a_systemd_that_cannot_be_asked_takes_over_what_is_there(tree: Path) -> None:
    # As in a container: the engine asks it for the slice of each container.
    parents = create_parents("systemd", 1, PROJECT, ["worker", "file-store"])
    assert parents.reason == ""
    assert parents.compose["file-store"] == f"{PROJECT}-file_store.slice"
    top = tree / "memory" / f"{PROJECT}.slice"
    assert sorted(path.name for path in top.iterdir()) == [
        f"{PROJECT}-file_store.slice",
        f"{PROJECT}-worker.slice",
    ]
    assert project_cgroups(PROJECT) == [str(top)]
    assert remove_parents(parents) == []
    assert not top.exists()


def test_a_refusing_systemd_is_a_reason(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Failed to connect to bus\n")

    monkeypatch.setattr(subprocess, "run", run)
    parents = create_parents("systemd", 1, PROJECT, ["worker"])
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
    parents = create_parents("cgroupfs", 1, PROJECT, ["worker", "runner"])
    assert parents.reason == f"{tree}/memory/{PROJECT}/runner: Permission denied"
    assert parents.compose == {}
    assert parents.topology_directory is None
    assert not (tree / "memory" / PROJECT).exists()
    assert remove_parents(parents) == []


V1 = "1 1 0:1 / {} rw - cgroup cgroup rw,memory"
V2 = "1 1 0:1 / {} rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("driver", "version", "line", "user", "writable", "reason"),
    [
        ("cgroupfs", 1, V1, 0, True, ""),
        ("systemd", 2, V2, 0, True, ""),
        ("none", 1, V1, 0, True, "the engine manages no cgroups (driver none)"),
        ("", 1, V1, 0, True, "the engine manages no cgroups (driver unknown)"),
        ("cgroupfs", 2, V1, 0, True, "the engine uses cgroup v2, this machine v1"),
        ("systemd", 1, V2, 0, True, "the engine uses cgroup v1, this machine v2"),
        ("cgroupfs", 1, V1, 1000, True, "creating cgroups needs root"),
        (
            "cgroupfs",
            2,
            V2,
            0,
            False,
            "{} cannot be written: no part of the cgroup tree is this engine's own",
        ),
        (
            "cgroupfs",
            1,
            V1.replace(" / ", " /docker/0123 "),
            0,
            True,
            "only a part of the cgroup tree is visible here, as in a container",
        ),
        # All of the tree, seen from a cgroup namespace three levels down.
        ("cgroupfs", 1, V1.replace(" / ", " /../../.. "), 0, True, ""),
        (
            "cgroupfs",
            1,
            "1 1 0:1 / {} rw - ext4 /dev/vda rw",
            0,
            True,
            "no cgroup hierarchy with the memory controller is mounted here",
        ),
    ],
)
def test_why_there_can_be_no_parents_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    version: int,
    line: str,
    user: int,
    writable: bool,
    reason: str,
) -> None:
    top = tmp_path / "cg"
    top.mkdir()
    (top / "cgroup.subtree_control").write_text("memory\n")
    use(tmp_path, monkeypatch, [line.format(top)])
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "access", lambda *_: writable)
    expected = reason.format(top)
    assert obstacle(driver, version) == expected
    if expected:
        assert create_parents(driver, version, PROJECT, ["w"]) == CgroupParents(
            PROJECT, reason=expected
        )
        assert list(top.iterdir()) == [top / "cgroup.subtree_control"]


def test_without_procfs_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tmp_path, monkeypatch, [])
    (tmp_path / "mountinfo").unlink()
    (tmp_path / "own").unlink()
    assert "no cgroup hierarchy" in create_parents("cgroupfs", 1, PROJECT, ["w"]).reason
    assert project_cgroups(PROJECT) == []
    assert all_project_cgroups() == set()


@pytest.mark.parametrize(
    ("own", "systemctl", "below"),
    [
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/d.scope\n", False, True),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/d.scope\n", True, False),
        ("0::/system.slice/docker.service\n", False, False),
        ("", False, False),
    ],
)
def test_an_engine_without_root_has_its_users_part_of_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, systemctl: bool, below: bool
) -> None:
    use(tmp_path, monkeypatch, [V2.format(tmp_path / "cg")])
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if systemctl else None)
    manager = tmp_path / "cg/user.slice/user-1000.slice/user@1000.service"
    manager.mkdir(parents=True)
    base = manager if below else tmp_path / "cg"
    for each in (manager, tmp_path / "cg"):
        (each / "cgroup.subtree_control").write_text("memory\n")
    real = Path.mkdir

    def mkdir(path: Path) -> None:
        real(path)
        if path.name == PROJECT:
            (path / "cgroup.subtree_control").write_text("memory\n")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    parents = create_parents("cgroupfs", 2, PROJECT, ["worker"])
    assert parents.topology_directory == str(base / PROJECT)
    assert parents.compose == {"worker": f"/{PROJECT}/worker"}
    assert (base / PROJECT / "worker").is_dir()
    assert project_cgroups(PROJECT) == [str(base / PROJECT)]
    assert PROJECT in all_project_cgroups()
    # A cgroup's files go with it.
    (base / PROJECT / "cgroup.subtree_control").unlink()
    assert remove_cgroups(PROJECT) == []
    assert not (base / PROJECT).exists()


@pytest.mark.parametrize("top_is_ours", [True, False])
def test_in_a_cgroup_namespace_the_engines_part_is_what_it_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top_is_ours: bool
) -> None:
    use(tmp_path, monkeypatch, [V2.format(tmp_path / "cg")])
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    top = tmp_path / "cg"
    managers = [top / f"user.slice/user-{n}.slice/user@{n}.service" for n in (1000, 1001)]
    for each in managers:
        (each / PROJECT).mkdir(parents=True)
    writable = {str(managers[1])} | ({str(top)} if top_is_ours else set())
    monkeypatch.setattr(os, "access", lambda path, _: str(path) in writable)
    (top / PROJECT).mkdir()
    assert project_cgroups(PROJECT) == [str((top if top_is_ours else managers[1]) / PROJECT)]


def test_all_that_is_at_the_top_is_told_by_its_name(tree: Path) -> None:
    (tree / "memory" / f"{PROJECT}.slice").mkdir()
    (tree / "pids" / PROJECT).mkdir()
    (tree / "pids" / "docker" / "wmh00000000").mkdir(parents=True)
    (tree / "pids" / "tasks").touch()
    assert all_project_cgroups() == {PROJECT, "docker"}
    assert project_cgroups(PROJECT) == [
        str(tree / "memory" / f"{PROJECT}.slice"),
        str(tree / "pids" / PROJECT),
    ]


def test_what_cannot_be_removed_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_parents("cgroupfs", 1, PROJECT, ["worker"])
    monkeypatch.setattr(cgroups, "_REMOVE_TIMEOUT_S", 0.05)
    (tree / "memory" / PROJECT / "worker" / "a-file-like-a-busy-cgroup").touch()
    assert remove_cgroups(PROJECT) == [f"{tree}/memory/{PROJECT}"]
