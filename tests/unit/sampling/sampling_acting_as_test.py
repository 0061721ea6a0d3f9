"""Looking at the containers' processes as their own user does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.results.conversation import BASELINE_END
from harness.results.schema import SCOPE_CONTAINER
from harness.sampling.cgroup import scopes
from harness.sampling.cgroup.paths import MemoryCgroup, cgroup_at
from harness.sampling.cgroup.scopes import (
    Container,
    Scope,
    SetSizes,
    acting_as,
    ledger_rows,
)
from tests.unit.sampling.cgroup_dirs import v2


class Granted:
    """This process's effective user and group, as a kernel that grants all or nothing has them."""

    def __init__(self, user: int, *, grants: bool = True) -> None:
        self.user, self.group, self.grants = user, user, grants
        self.calls: list[tuple[str, int]] = []

    def _set(self, what: str, number: int) -> None:
        self.calls.append((what, number))
        if not self.grants:
            raise PermissionError(1, "Operation not permitted")
        setattr(self, what, number)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: self.user)
        monkeypatch.setattr(os, "getegid", lambda: self.group)
        monkeypatch.setattr(os, "seteuid", lambda number: self._set("user", number))
        monkeypatch.setattr(os, "setegid", lambda number: self._set("group", number))


@pytest.fixture(autouse=True)
def _real_ids_stay() -> Iterator[None]:
    before = (os.geteuid(), os.getegid())
    yield
    assert (os.geteuid(), os.getegid()) == before


def test_root_is_somebody_else_meanwhile_and_root_again() -> None:
    with pytest.MonkeyPatch.context() as patched:
        granted = Granted(0)
        granted.use(patched)
        with acting_as(1000, 1001):
            assert (granted.user, granted.group) == (1000, 1001)
        assert (granted.user, granted.group) == (0, 0)
        # The group goes first: only root may change it; and comes back last.
        assert [what for what, _ in granted.calls] == ["group", "user", "user", "group"]
        with pytest.raises(ZeroDivisionError), acting_as(1000, 1001):
            raise ZeroDivisionError
        assert (granted.user, granted.group) == (0, 0)


@pytest.mark.parametrize(("user", "wanted"), [(0, (0, 0)), (1000, (1001, 1001))])
def test_nobody_else_is_asked_for_by_an_ordinary_user_or_for_root(
    user: int, wanted: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        granted = Granted(user)
        granted.use(patched)
        with acting_as(*wanted):
            assert granted.user == user
        assert granted.calls == []


def test_what_is_not_granted_is_done_as_before() -> None:
    with pytest.MonkeyPatch.context() as patched:
        granted = Granted(0, grants=False)
        granted.use(patched)
        done = []
        with acting_as(1000, 1001):
            done.append(granted.user)
        assert done == [0]


def test_files_that_are_made_meanwhile_are_that_users(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    descriptor = os.open(open_to_all, os.O_RDONLY)
    open_to_all.chmod(0o777)
    with acting_as(65532, 65533):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    found = (open_to_all / "file").stat()
    # Only root can be somebody else; whoever cannot stays who they are.
    theirs = (65532, 65533) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert (found.st_uid, found.st_gid) == theirs
    os.close(descriptor)


def test_set_sizes_are_read_as_the_containers_user(tmp_path: Path) -> None:
    cgroup = cgroup_at(str(v2(tmp_path / "c", 100)))
    assert isinstance(cgroup, MemoryCgroup)
    container = Container("worker-1", "worker", cgroup)
    scope = Scope(SCOPE_CONTAINER, "worker-1", [container], cgroup)
    seen = []
    granted = Granted(0)

    def sizes(directory: str) -> SetSizes:
        seen.append((directory, granted.user, granted.group))
        return SetSizes(3, 2)

    with pytest.MonkeyPatch.context() as patched:
        granted.use(patched)
        patched.setattr(scopes, "set_sizes", sizes)
        (row,) = ledger_rows([scope], [container], "r1", BASELINE_END, (1000, 1001))
        assert (granted.user, granted.group) == (0, 0)
    assert seen == [(cgroup.directory, 1000, 1001)]
    assert (row.pss_bytes, row.uss_bytes) == (3, 2)
