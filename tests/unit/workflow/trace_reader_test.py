from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import trace
from harness.workflow import trace_reader

pytest.importorskip("memray")

_TRACED = """
import sys, time
from harness.core import trace

before = bytes(5_000_000)
trace.start(sys.argv[1])
trace.start(sys.argv[1])

def hold():
    return bytes(10_000_000)

kept = [hold(), hold()]
time.sleep(0.5)
kept.pop()
time.sleep(0.5)
trace.stop()
trace.stop()
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    subprocess.run([sys.executable, "-c", _TRACED, str(folder)], check=True, timeout=60)
    (path,) = folder.glob(f"*{trace.SUFFIX}")
    return path


def test_a_trace_holds_what_was_asked_for_since_its_start(raw: Path) -> None:
    found = trace_reader.convert(raw)

    large = [each for each in found["peak"] if each[2] > 5_000_000]
    places = {tuple(found["frames"][stack[0]][:2]) for stack, _, _ in large}
    count, size = sum(each[1] for each in large), sum(each[2] for each in large)
    assert places == {("hold", "<string>")}
    assert count == 2
    assert 20_000_000 <= size < 20_001_000
    assert found["peak_bytes"] >= size
    assert max(found["heap_bytes"]) >= size > found["heap_bytes"][-1]
    assert len(found["times_ms"]) == len(found["heap_bytes"]) == found["readings"]


def test_one_of_the_two_is_there_at_the_end(raw: Path) -> None:
    found = trace_reader.convert(raw)

    spans = [span for _, spans in found["alive"] for span in spans if span[3] > 5_000_000]
    assert sorted(end is None for _, end, _, _ in spans) == [False, True]


def test_it_is_a_program(raw: Path, tmp_path: Path) -> None:
    assert trace_reader.main([str(raw), str(tmp_path / "x.json")]) == 0

    assert json.loads((tmp_path / "x.json").read_text())["schema_version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_file_that_was_cut_short_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.bin").write_bytes(b"memray\0")

    assert trace_reader.main([str(tmp_path / "cut.bin"), str(tmp_path / "x.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x.json").exists()


def test_the_smallest_go_where_a_file_would_be_too_large(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trace_reader.convert(raw)
    monkeypatch.setattr(trace_reader, "MOST_BYTES", len(json.dumps(whole)) // 2)
    many = whole | {"alive": whole["alive"][:1] + [whole["alive"][0]] * 200}
    monkeypatch.setattr(trace_reader, "convert", lambda _path: many)

    assert trace_reader.main([str(raw), str(tmp_path / "x.json")]) == 0

    assert len(json.loads((tmp_path / "x.json").read_text())["alive"]) < 200


def test_without_memray_it_is_said_and_nothing_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)

    trace.start(str(tmp_path))
    trace.stop()

    (said,) = tmp_path.glob(f"*{trace.FAILED}")
    assert "memray" in said.read_text()
