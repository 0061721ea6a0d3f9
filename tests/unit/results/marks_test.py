from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.results.conversation import RUN_END, RUN_START, MarkWriter


def test_confirmations_may_begin_and_end_while_marks_are_written(tmp_path: Path) -> None:
    ack = tmp_path / "ack"
    with MarkWriter(tmp_path / "marks.csv", timeout_s=0.05) as marks:
        marks.write("0001", RUN_START)
        marks.confirmed(ack)
        ack.write_bytes(b".")
        marks.write("0001", RUN_END)  # the one before needs no confirmation
        with pytest.raises(InfrastructureError, match="did not confirm run_start"):
            marks.write("0002", RUN_START)
        marks.confirmed(None)
        marks.write("0002", RUN_END)


def test_marks_need_no_confirmation_by_default(tmp_path: Path) -> None:
    with MarkWriter(tmp_path / "marks.csv") as marks:
        marks.write("0001-none-1", RUN_START)
        marks.write("0001-none-1", RUN_END)
    lines = (tmp_path / "marks.csv").read_text().splitlines()
    assert lines[0] == "run_id,mark,t_mono_ns,t_unix_ns"
    assert [line.split(",")[1] for line in lines[1:]] == ["run_start", "run_end"]


def test_a_mark_waits_until_it_is_confirmed(tmp_path: Path) -> None:
    ack = tmp_path / "ack"
    released = threading.Event()
    with MarkWriter(tmp_path / "marks.csv", ack, timeout_s=30) as marks:

        def write() -> None:
            marks.write("0001-none-1", RUN_START)
            released.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert not released.wait(0.1)
        ack.write_bytes(b".")
        assert released.wait(30)
        thread.join()


def test_nobody_confirming_is_an_error_and_no_hang(tmp_path: Path) -> None:
    with (
        MarkWriter(tmp_path / "marks.csv", tmp_path / "ack", timeout_s=0.05) as marks,
        pytest.raises(InfrastructureError, match="did not confirm run_start"),
    ):
        marks.write("0001-none-1", RUN_START)
