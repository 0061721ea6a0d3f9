from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.sampling import names
from harness.sampling.names import (
    Identity,
    parse_nameserver,
    parse_ptr_answer,
    ptr_query,
    short_name,
)

# The question "3.0.18.172.in-addr.arpa PTR" and, pointing back to it, the answer
# "wmh1-worker-1.wmh1_default".
QUESTION = b"\x013\x010\x0218\x03172\x07in-addr\x04arpa\0\0\x0c\0\x01"
NAME = b"\x0dwmh1-worker-1\x0cwmh1_default\0"
ANSWER = (
    b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"
    + QUESTION
    + b"\xc0\x0c\0\x0c\0\x01\0\0\x02\x58"
    + len(NAME).to_bytes(2, "big")
    + NAME
)


def test_the_query_is_a_question_for_the_reversed_address() -> None:
    query = ptr_query("172.18.0.3", 0x1234)
    assert query == b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0" + QUESTION


def test_the_answer_names_the_container() -> None:
    assert parse_ptr_answer(ANSWER, 0x1234) == "wmh1-worker-1.wmh1_default"


def test_other_records_before_the_answer_are_passed_over() -> None:
    cname = b"\xc0\x0c\0\x05\0\x01\0\0\x02\x58\0\x02\xc0\x0c"
    start = ANSWER.index(b"\xc0\x0c")
    message = ANSWER[:6] + b"\0\x02" + ANSWER[8:start] + cname + ANSWER[start:]
    assert parse_ptr_answer(message, 0x1234) == "wmh1-worker-1.wmh1_default"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        ANSWER[:20],
        ANSWER[:-5],
        b"\x99\x99" + ANSWER[2:],  # another query's
        ANSWER[:6] + b"\0\0" + ANSWER[8:],  # no answer
        ANSWER[:12] + b"\xc0\x0c" * 20,  # a name that points to itself
    ],
)
def test_no_name_in_what_is_no_answer(message: bytes) -> None:
    assert parse_ptr_answer(message, 0x1234) is None


def test_the_name_server() -> None:
    assert (
        parse_nameserver("# x\nsearch a\nnameserver ::1\nnameserver 127.0.0.11\n") == "127.0.0.11"
    )
    assert parse_nameserver("options ndots:0\n") is None


@pytest.mark.parametrize(
    ("dns_name", "project", "name"),
    [
        ("wmh1-worker-1.wmh1_default", "wmh1", "worker-1"),
        ("wmh1-worker-12.net.work", "wmh1", "worker-12"),
        ("other-worker-1.x", "wmh1", "other-worker-1"),
        ("dask-worker-1.dask_default", "", "dask-worker-1"),
    ],
)
def test_network_and_project_are_cut_off(dns_name: str, project: str, name: str) -> None:
    assert short_name(dns_name, project) == name


def test_the_name_is_asked_for_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        monkeypatch.setattr(names, "_PORT", server.getsockname()[1])
        monkeypatch.setattr(socket, "gethostbyname", lambda _: "172.18.0.3")
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        found = Identity({"HARNESS_PROJECT": "wmh1"}, tmp_path / "resolv.conf")
        assert found.pending
        assert found.name == socket.gethostname()
        query, client = server.recvfrom(512)
        assert query[12:] == QUESTION
        server.sendto(query[:2] + ANSWER[2:], client)
    while found.pending:
        pass
    assert found.name == "worker-1"


def test_without_a_name_server_it_is_the_host_name(tmp_path: Path) -> None:
    found = Identity({}, tmp_path / "missing")
    assert not found.pending
    assert found.name == socket.gethostname()


def test_a_given_name_is_taken() -> None:
    found = Identity({"HARNESS_CONTAINER": "a,b"})
    assert not found.pending
    assert found.name == "a_b"
