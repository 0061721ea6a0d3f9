from __future__ import annotations

import socket

import pytest

from harness.sampling.names import ContainerNames


def test_outside_of_a_topology_nothing_is_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_name: str) -> str:
        raise AssertionError("nobody is to be asked")

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    assert ContainerNames({})("worker-host") is None


def test_each_host_name_is_asked_for_once_and_may_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def resolve(name: str) -> str:
        asked.append(name)
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    found = ContainerNames({"HARNESS_PROJECT": "wmh1"})
    assert (found("abc"), found("abc"), found("def")) == (None, None, None)
    assert asked in (["abc", "def"], [])  # without a name server nobody is asked at all
