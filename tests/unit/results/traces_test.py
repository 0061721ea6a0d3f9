from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.results.directory import RunDirectory
from harness.results.shared import SharedFolder
from harness.results.traces import (
    MOST_FILE_BYTES,
    NOT_TRACED,
    read_traces,
    take_traces,
    trace_name,
)
from tests.traces import document

RUN = "0001-none-1"


def write(folder: Path, content: Any, name: str = f"{RUN}.worker-1.7.json") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_trace_says_who_held_how_much_when(tmp_path: Path) -> None:
    write(tmp_path / "traces", document())

    (trace,), problems = read_traces(tmp_path / "traces")

    assert problems == []
    assert (trace.run_id, trace.container, trace.pid) == (RUN, "worker-1", 7)
    assert trace.times_ns == (1_000_000_000, 1_010_000_000, 1_020_000_000)
    assert trace.reading_at(999_999_999) is None
    assert trace.reading_at(1_015_000_000) == 1
    assert [(h.size_bytes, h.count) for h in trace.held(1)] == [(200_000_000, 2)]
    assert [(h.size_bytes, h.count) for h in trace.held(2)] == [(100_000_000, 1)]
    assert trace.held(2)[0].stack[0] == ("payload", "/x/harness/workflow/tasks.py", 68)
    assert trace.peak_at == 1


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"frames": []},
        {"times_ms": [0, 20, 10]},
        {"heap_bytes": [0]},
        {"step": 0},
        {"peak": [[[0], 1, -5]]},
        {"peak": [[[0], True, 5]]},
        {"peak": [[[9], 1, 5]]},
        {"alive": [[[0], [[0, None, 1]]]]},
        {"peak_bytes": 10**30},
        {"frames": "x"},
    ],
)
def test_what_is_no_trace_is_named_and_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "traces", document() | change)
    write(tmp_path / "traces", document(), f"{RUN}.worker-2.7.json")

    traces, (problem,) = read_traces(tmp_path / "traces")

    assert [trace.container for trace in traces] == ["worker-2"]
    assert problem.startswith(f"traces/{RUN}.worker-1.7.json: is no trace of a process")
    assert "\n" not in problem


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, "null", "[]", '{"schema_version": NaN}'])
def test_what_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "traces", text)

    traces, (problem,) = read_traces(tmp_path / "traces")

    assert not traces
    assert "is no trace of a process" in problem


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "traces", "")
    os.truncate(path, MOST_FILE_BYTES + 1)

    assert f"more than {MOST_FILE_BYTES} bytes" in read_traces(tmp_path / "traces")[1][0]


def test_links_and_other_names_are_nothing(tmp_path: Path) -> None:
    secret = write(tmp_path, document(), "secret.json")
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / f"{RUN}.worker-1.7.json").symlink_to(secret)
    write(folder, document(), "other.json")

    assert read_traces(folder) == ([], [])
    assert read_traces(tmp_path / "none") == ([], [])


def test_texts_are_made_safe(tmp_path: Path) -> None:
    evil = document() | {"frames": [["a\x1b[31m\nb", "/x\n", 1]] * 2, "command": "x\n\x1b"}
    write(tmp_path / "traces", evil)

    (trace,), _ = read_traces(tmp_path / "traces")

    assert "\n" not in trace.command + trace.peak[0].stack[0][0] + trace.peak[0].stack[0][1]
    assert "\x1b" not in trace.command + trace.peak[0].stack[0][0]


def test_who_could_not_be_traced_is_said(tmp_path: Path) -> None:
    lacks = ["worker-2: ModuleNotFoundError: No module named 'memray'"]
    write(tmp_path / "traces", lacks, NOT_TRACED.format(RUN))

    assert read_traces(tmp_path / "traces") == ([], [f"not traced: {lacks[0]}"])


def test_traces_of_known_runs_and_containers_alone_are_taken(tmp_path: Path) -> None:
    shared, directory = SharedFolder(tmp_path / "shared" / "1"), RunDirectory(tmp_path)
    shared.create()
    folder = shared.path / "traces"
    good = write(folder, document())
    write(folder, document(), trace_name("0009-none-1", "worker-1", "7"))
    write(folder, document(), trace_name(RUN, "worker-9", "7"))
    write(folder, document(), "../traces/x.json")
    (folder / trace_name(RUN, "worker-2", "7")).symlink_to("/etc/passwd")

    take_traces(shared, directory, {RUN}, {"worker-1", "worker-2"})

    assert [path.name for path in directory.traces.iterdir()] == [good.name]


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    shared, directory = SharedFolder(tmp_path / "shared" / "1"), RunDirectory(tmp_path)
    shared.create()
    write(tmp_path / "elsewhere", document())
    (shared.path / "traces").symlink_to(tmp_path / "elsewhere")

    take_traces(shared, directory, {RUN}, {"worker-1"})

    assert not directory.traces.exists()


def test_names_hold_nothing_that_leads_elsewhere() -> None:
    assert trace_name(RUN, "../../etc", "7") == f"{RUN}.______etc.7.json"
