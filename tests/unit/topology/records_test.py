from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.topology import records
from harness.topology.records import BenchProcess, Record, State


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_record_is_there_from_write_to_remove() -> None:
    record = Record("wmh12345678", str(BenchProcess.current()), "/runs/a")
    records.write(record)
    assert records.all_records() == [record]
    assert record.state() == State.RUNNING
    assert records.noted() == []
    records.remove(record.project)
    records.remove(record.project)
    assert records.all_records() == []


def test_a_file_that_speaks_of_another_project_is_not_believed() -> None:
    records.write(Record("wmh12345678", "x", "/runs/a"))
    (path,) = records.directory().glob("*.json")
    path.rename(path.with_name("wmh87654321.json"))
    assert records.all_records() == []


def test_the_notice_names_project_and_directory() -> None:
    one = Record("wmh12345678", "x", "/runs/a", kept=True)
    assert records.notice([]) == ""
    assert "wmh12345678, last in /runs/a" in records.notice([one])
    assert "(kept)" in records.notice([one])
    assert "and 2 more" in records.notice([one] * 5)


@given(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(str))
def test_any_text_is_a_record_or_nothing(text: str) -> None:
    found = records.parse(text)
    assert found is None or isinstance(found, Record)
