from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core import trace
from harness.workflow import trace_reader
from harness.workflow.native_frames import NativeFrames, parse

# As memray prints what it has recorded.
_DUMP = """HEADER magic=memray version=11 python_version=30d00 native_traces=true
MEMORY_MAP_START
SEGMENT_HEADER filename=/v/libs/libzmq-2f02442c.so.5.2.5 num_segments=2 addr=0x7f0000000000
SEGMENT (nil) 1000
SEGMENT 0x2000 500
SEGMENT_HEADER filename=/usr/bin/python3.13 num_segments=1 addr=(nil)
SEGMENT 0x400000 9000
NATIVE_FRAME_ID ip=0x7f0000002010 index=2
ALLOCATION address=0x1 size=100 allocator=malloc native_frame_id=1
NATIVE_FRAME_ID ip=0x400010 index=0
"""
UNKNOWN = ("<unknown>", "<unknown>", 0)
SEND = ("send", "/v/zmq/sugar/socket.py", 713)


@dataclass
class Record:
    """An allocation as memray tells it."""

    python: list[tuple[str, str, int]]
    native: list[tuple[str, str, int]]
    hybrid: list[tuple[str, str, int]]
    native_stack_id: int = 1
    native_segment_generation: int = 1

    def stack_trace(self) -> list[tuple[str, str, int]]:
        return self.python

    def native_stack_trace(self) -> list[tuple[str, str, int]]:
        return self.native

    def hybrid_stack_trace(self) -> list[tuple[str, str, int]]:
        return self.hybrid


def test_libraries_are_told_by_where_they_were_loaded() -> None:
    addresses, (loaded,) = parse(_DUMP.splitlines())

    assert addresses == [(0x7F0000002010, 2), (0x400010, 0)]
    assert loaded[0] == (0x400000, 0x409000, "/usr/bin/python3.13")
    assert [each[:2] for each in loaded[1:]] == [
        (0x7F0000000000, 0x7F0000001000),
        (0x7F0000002000, 0x7F0000002500),
    ]


def test_code_without_symbols_has_its_library_and_the_interpreters_own_is_left_out() -> None:
    frames = NativeFrames(*parse(_DUMP.splitlines()))
    call = ("PyObject_Vectorcall", "<unknown>", 0)

    found = frames.stack(Record([SEND], [UNKNOWN, call], [UNKNOWN, call, SEND]))

    assert found == [("", "/v/libs/libzmq-2f02442c.so.5.2.5", 0), SEND]
    # Its static functions have no symbols.
    own = Record([SEND], [UNKNOWN], [UNKNOWN, SEND], native_stack_id=2)
    assert frames.stack(own) == [SEND]


def test_a_thread_that_runs_no_python_has_its_library() -> None:
    frames = NativeFrames(*parse(_DUMP.splitlines()))
    start = ("start_thread", "pthread_create.c", 442)

    found = frames.stack(Record([], [UNKNOWN, start], [UNKNOWN, start]))

    assert found == [("", "/v/libs/libzmq-2f02442c.so.5.2.5", 0)]


def test_the_c_librarys_own_frames_are_left_out() -> None:
    clone = ("__clone", "/lib/x86_64-linux-gnu/libc.so.6", 0)

    found = NativeFrames().stack(Record([], [UNKNOWN, clone], [("", "/v/libzmq.so", 0), clone]))

    assert found == [("", "/v/libzmq.so", 0)]


def test_inlined_functions_do_not_shift_libraries() -> None:
    frames = NativeFrames(*parse(_DUMP.splitlines()))
    twice = [("outer", "x.cpp", 3), ("inlined", "x.cpp", 9), UNKNOWN]

    # Three frames at two addresses: whose the last one is nobody can tell.
    assert frames.stack(Record([], twice, twice)) == twice
    assert NativeFrames().stack(Record([SEND], [UNKNOWN], [UNKNOWN, SEND])) == [SEND]
    assert NativeFrames().stack(Record([], [UNKNOWN], [UNKNOWN])) == [UNKNOWN]


_TRACED = """
import bz2, sys
from harness.core import trace

def ask():
    return bz2.BZ2Compressor(9)

trace.start(sys.argv[1], native=True)
kept = ask()
trace.stop()
"""


def test_a_native_trace_of_a_process_names_compiled_code(tmp_path: Path) -> None:
    pytest.importorskip("memray")
    subprocess.run([sys.executable, "-c", _TRACED, str(tmp_path)], check=True, timeout=60)
    (raw,) = tmp_path.glob(f"*{trace.SUFFIX}")

    assert trace_reader.main([str(raw), str(tmp_path / "x.json")]) == 0

    found = json.loads((tmp_path / "x.json").read_text())
    assert found["native"] is True
    stack = max(found["peak"], key=lambda each: each[2])[0]
    frames = [found["frames"][number] for number in stack]
    functions = [function for function, _, _ in frames]
    assert functions[-2:] == ["ask", "<module>"]
    # Between Python and the allocator, by whatever is known of it.
    compiled = frames[: functions.index("ask")]
    assert compiled
    assert any("bz2" in text.lower() for frame in compiled for text in frame[:2])
