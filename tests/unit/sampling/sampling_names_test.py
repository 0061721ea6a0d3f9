from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from harness.sampling import names
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


class NameServer:
    """Answers every question for a name with the same one, and counts the questions."""

    def __init__(self, name: str) -> None:
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
        self._answer = struct.pack(">HHHIH", 0xC00C, 12, 1, 60, len(labels) + 1) + labels + b"\0"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            self.asked += 1
            header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
            self._socket.sendto(header + query[12:] + self._answer, client)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NameServer:
    server = NameServer("wmh1-worker-2.wmh1_default")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(names, "_RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(names, "_PORT", server.port)
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "172.18.0.3")
    return server


def test_the_engines_name_server_knows_the_container(server: NameServer) -> None:
    found = ContainerNames({"HARNESS_PROJECT": "wmh1"})
    assert (found("abc"), found("abc")) == ("worker-2", "worker-2")
    assert server.asked == 1
    assert found("def") == "worker-2"
    assert server.asked == 2


def test_without_a_name_server_or_an_answer_nothing_is_known(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "parse_ptr_answer", lambda *_: None)
    assert ContainerNames({"HARNESS_PROJECT": "wmh1"})("abc") is None
    (tmp_path / "resolv.conf").write_text("search example\n")
    assert ContainerNames({"HARNESS_PROJECT": "wmh1"})("abc") is None
    assert server.asked == 1
