from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from harness.topology.records import BenchProcess, State, parse_started


def test_this_process_runs_and_one_that_was_is_not_it() -> None:
    here = BenchProcess.current()
    assert here.state() == State.RUNNING
    assert replace(here, started=here.started - 1).state() == State.ENDED
    assert BenchProcess.parse(str(here)) == here


def test_a_process_that_ended() -> None:
    code = "from harness.topology.records import BenchProcess; print(BenchProcess.current())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    ended = BenchProcess.parse(done.stdout.strip())
    assert ended is not None
    assert ended.state() == State.ENDED


def test_what_cannot_be_told_is_not_called_dead() -> None:
    here = BenchProcess.current()
    assert replace(here, host="another").state() == State.UNKNOWN
    assert replace(here, namespace="1").state() == State.UNKNOWN
    assert replace(here, boot="an-earlier-start").state() == State.ENDED
    assert replace(here, boot="-").state() == State.UNKNOWN


def test_the_name_of_a_program_may_hold_anything() -> None:
    fields = " ".join(["S", *["0"] * 18, "4711", "0"])
    assert parse_started(f"12 (a) R) b ({fields}) {fields}") == 4711
    assert parse_started(f"12 (sh) {fields.replace('S', 'Z', 1)}") is None


@given(st.text())
def test_any_text_is_a_process_or_nothing(text: str) -> None:
    parse_started(text)
    found = BenchProcess.parse(text)
    assert found is None or BenchProcess.parse(str(found)) is not None
