"""What of a topology is on a node: its share of the compose project, and what it is told."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from harness.core.clock import Reference
from harness.results.directory import RunDirectory
from harness.topology.joined import Joined, _files
from harness.topology.nodes import Placed
from harness.topology.part import Part, share_of
from tests.bench_plans import bench_plan
from tests.fake_engine import PROJECT, FakeEngine, part_on

WHOLE: dict[str, Any] = {
    "services": {
        "scheduler": {
            "image": "dask",
            "environment": {"A": "1"},
            "networks": {"default": None},
            "ulimits": {"core": {}},
        },
        "worker": {
            "image": "dask",
            "deploy": {"replicas": 3},
            "networks": {"default": {"aliases": ["also"]}},
        },
        "runner": {
            "image": "dask",
            "networks": {"default": None},
            "depends_on": {
                "scheduler": {"condition": "service_started"},
                "worker": {"condition": "service_started"},
            },
        },
    },
    "networks": {"default": {"internal": True}},
    "volumes": {"store": {"name": "x_store", "labels": {"l": "1"}}, "secrets": {"name": "y"}},
}


def part(tmp_path: Path, placed: Placed, **topology: Any) -> Part:
    found = part_on(FakeEngine(), RunDirectory(tmp_path), placed.name)
    found.node.placed = placed
    found.common.plan = bench_plan(**topology)
    return found


def test_the_runners_node_has_all_but_other_nodes_workers(tmp_path: Path) -> None:
    here = Placed("a", workers=(1,), services=frozenset({"runner", "scheduler"}))
    share = share_of(part(tmp_path, here), "net", {"secrets": "p_secrets"})(WHOLE)
    assert set(share["services"]) == {"runner", "scheduler", "worker-1"}
    assert share["networks"] == {"default": {"name": "net", "external": True}}
    assert share["volumes"]["secrets"] == {"name": "p_secrets", "external": True}
    assert share["volumes"]["store"] == WHOLE["volumes"]["store"]
    runner = share["services"]["runner"]
    # It waits for those that are here.
    assert set(runner["depends_on"]) == {"scheduler", "worker-1"}
    assert (runner["container_name"], runner["hostname"]) == (f"{PROJECT}-runner-1", "runner-1")
    scheduler = share["services"]["scheduler"]
    assert scheduler["environment"] == {
        "A": "1",
        "HARNESS_CONTAINER": "scheduler-1",
        "HARNESS_CLOCK": "",
    }
    # Compose writes a limit of 0 as {}, and then does not read it.
    assert scheduler["ulimits"] == {"core": 0}
    assert scheduler["networks"] == {"default": {"aliases": ["scheduler", "scheduler-1"]}}


def test_workers_have_numbers_of_their_own_and_one_name(tmp_path: Path) -> None:
    there = part(tmp_path, Placed("b", workers=(2, 3)))
    there.node.clock = Reference("boot 1", -7, 9)
    share = share_of(there, "net", {})(WHOLE)
    assert set(share["services"]) == {"worker-2", "worker-3"}
    worker = share["services"]["worker-3"]
    assert worker["container_name"] == f"{PROJECT}-worker-3"
    assert worker["networks"]["default"]["aliases"] == ["also", "worker", "worker-3"]
    assert worker["environment"]["HARNESS_CLOCK"] == "-7 9 boot 1"
    assert "deploy" not in worker
    assert "depends_on" not in worker


def test_a_folder_that_all_see_is_the_store(tmp_path: Path) -> None:
    there = part(tmp_path, Placed("b", workers=(2,)), nodes="nodes.toml", shared_dir="/net/x")
    assert share_of(there, "net", {})(WHOLE)["volumes"]["store"] == {
        "name": "x_store",
        "labels": {"l": "1"},
        "driver_opts": {"type": "none", "o": "bind", "device": "/net/x"},
    }


def archive(**files: bytes | None) -> bytes:
    """Return what an engine sends of a folder ``secrets``; None is a link out of it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as into:
        folder = tarfile.TarInfo("secrets")
        folder.type = tarfile.DIRTYPE
        into.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(f"secrets/{name}")
            member.mode = 0o600
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                into.addfile(member)
            else:
                member.size = len(data)
                into.addfile(member, io.BytesIO(data))
    return made.getvalue()


class Keeper:
    """A keeper, whose volume holds what it is given."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        self.put: list[tuple[str, bytes]] = []

    def get_archive(self, path: str) -> tuple[list[bytes], dict[str, Any]]:
        if self.data is None:
            raise NotFound(path)
        return [self.data[:700], self.data[700:]], {}

    def put_archive(self, path: str, data: bytes) -> bool:
        self.put.append((path, data))
        return True


def test_files_are_handed_over_as_they_are_and_nothing_else() -> None:
    keeper: Any = Keeper(archive(redis=b"password\n", out=None))
    data = _files(keeper, "/harness/secrets")
    assert data is not None
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        (member,) = found.getmembers()
        assert (member.name, member.mode) == ("redis", 0o600)
        file = found.extractfile(member)
        assert file is not None
        assert file.read() == b"password\n"


@pytest.mark.parametrize("data", [None, archive(), archive(objects=bytes(5 << 20))])
def test_nothing_is_handed_over_of_no_files_or_of_a_workloads(data: bytes | None) -> None:
    keeper: Any = Keeper(data)
    assert _files(keeper, "/harness/secrets") is None


def test_what_is_new_goes_to_every_other_node_once(tmp_path: Path) -> None:
    first, second = (part(tmp_path / n, Placed(n, workers=(1,))) for n in ("a", "b"))
    joined = Joined([first, second])
    keepers: Any = {"a": Keeper(archive()), "b": Keeper(None)}
    joined._keepers, joined._mounts = keepers, {"secrets": "/harness/secrets"}
    joined._hand_over()
    assert keepers["b"].put == []
    keepers["a"].data = archive(redis=b"one")
    with joined.handing_over():
        pass
    joined._hand_over()
    assert [path for path, _ in keepers["b"].put] == ["/harness/secrets"]
    assert keepers["a"].put == []
