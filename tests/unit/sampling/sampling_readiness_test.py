from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.sampling.inside import service
from harness.sampling.inside.service import Readiness, parse_sockets

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
LISTEN_8786 = "   0: 00000000:2252 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
LISTEN6_6379 = (
    "   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000 65532\n"
)
TO_8786 = "   1: 030012AC:A1B2 020012AC:2252 01 00000000:00000000 00:00000000 00000000     0\n"
CLOSING = "   2: 030012AC:A1B3 020012AC:2252 06 00000000:00000000 00:00000000 00000000     0\n"


def test_sockets_are_told_apart_by_their_state() -> None:
    sockets = parse_sockets(HEADER + LISTEN_8786 + TO_8786 + CLOSING + "\n")
    assert sockets.listening == {8786}
    assert sockets.connected == {8786}
    assert parse_sockets(HEADER + LISTEN6_6379).listening == {6379}
    assert parse_sockets(HEADER + CLOSING).connected == frozenset()
    assert parse_sockets("") == parse_sockets(HEADER)


def make(tmp_path: Path, **environment: str) -> Readiness:
    environment["HARNESS_READY_FILE"] = str(tmp_path / "ready")
    return Readiness(environment, tmp_path)


def test_without_a_port_there_is_nothing_to_say(tmp_path: Path) -> None:
    ready = make(tmp_path)
    assert not ready.pending
    ready.poll()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "family", "line"),
    [
        ("HARNESS_READY_PORT", "tcp", LISTEN_8786),
        ("HARNESS_READY_PORT", "tcp6", LISTEN_8786),
        ("HARNESS_READY_PEER_PORT", "tcp", TO_8786),
    ],
)
def test_the_file_comes_with_the_socket(
    tmp_path: Path, variable: str, family: str, line: str
) -> None:
    (tmp_path / "tcp").write_text(HEADER)
    (tmp_path / "ready").touch()  # of an earlier life
    ready = make(tmp_path, **{variable: "8786"})
    ready.poll()
    assert not (tmp_path / "ready").exists()
    (tmp_path / family).write_text(HEADER + line)
    ready.poll()
    assert (tmp_path / "ready").exists()
    # Nobody has asked through the pipe yet, so it is still to be answered.
    assert ready.pending


def test_both_conditions_must_hold(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(HEADER + TO_8786)
    ready = make(tmp_path, HARNESS_READY_PORT="8786", HARNESS_READY_PEER_PORT="8786")
    ready.poll()
    assert not (tmp_path / "ready").exists()


def test_one_waiting_check_is_answered(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(HEADER + LISTEN_8786)
    ready = make(tmp_path, HARNESS_READY_PORT="8786")
    check = subprocess.Popen(["cat", str(tmp_path / "ready.fifo")])
    for _ in range(1000):
        ready.poll()
        if not ready.pending:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            check.wait(0.01)
    assert check.wait(10) == 0


def test_a_pipe_that_nobody_asks_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_ANSWER_TIMEOUT_S", 0.0)
    (tmp_path / "tcp").write_text(HEADER + LISTEN_8786)
    ready = make(tmp_path, HARNESS_READY_PORT="8786")
    ready.poll()
    ready.poll()
    assert not ready.pending
    # A late check does not hang.
    subprocess.run(["cat", str(tmp_path / "ready.fifo")], timeout=10, check=True)


def test_a_port_must_be_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        make(tmp_path, HARNESS_READY_PORT="http")


def test_where_nobody_checks_nothing_is_looked_for(tmp_path: Path) -> None:
    ready = make(tmp_path, HARNESS_READY_PORT="8786", HARNESS_UNCHECKED="true")
    assert not ready.pending
    assert list(tmp_path.iterdir()) == []
    checked = make(tmp_path, HARNESS_READY_PORT="8786", HARNESS_UNCHECKED="false")
    assert checked.pending
