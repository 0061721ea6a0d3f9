from __future__ import annotations

from pathlib import Path

from harness.results.conversation import HEADER, MarkWriter
from harness.results.memory import MarkRow
from harness.sampling.marks import AckWriter, MarksTail, parse_marks


def test_only_whole_lines_are_taken() -> None:
    data = b"r1,run_start,10,20\nr1,run_e"
    marks, consumed = parse_marks(data)
    assert marks == [MarkRow("r1", "run_start", 10, 20)]
    assert data[consumed:] == b"r1,run_e"
    assert parse_marks(b"no newline yet") == ([], 0)


def test_header_and_foreign_lines_are_skipped_but_consumed() -> None:
    data = HEADER.encode() + b"\nfoo\nr1,run_start,x,2\n\xff,stop,1,2\n,stop,3,4\n"
    marks, consumed = parse_marks(data)
    assert [(mark.mark, mark.t_mono_ns) for mark in marks] == [("stop", 3)]
    assert consumed == len(data)


def test_the_tail_follows_a_file_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    tail = MarksTail(str(path))
    assert tail.poll() == []
    path.write_bytes(HEADER.encode() + b"r1,run_start,1,2\nr1,ru")
    assert [mark.mark for mark in tail.poll()] == ["run_start"]
    assert tail.current_run == "r1"
    assert tail.poll() == []
    with path.open("ab") as file:
        file.write(b"n_end,3,4\nr2,run_start,5,6\n")
    assert [mark.run_id for mark in tail.poll()] == ["r1", "r2"]
    assert tail.current_run == "r2"
    with path.open("ab") as file:
        file.write(b"r2,run_end,7,8\n")
    tail.poll()
    assert tail.current_run == ""
    tail.close()


def test_the_tail_reads_more_than_one_block(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("".join(f"run-{n:040d},run_start,{n},{n}\n" for n in range(3000)))
    tail = MarksTail(str(path))
    found: list[int] = []
    while marks := tail.poll():
        found += [mark.t_mono_ns for mark in marks]
    assert found == list(range(3000))


def test_the_runners_writer_and_the_tail_agree(tmp_path: Path) -> None:
    ack = tmp_path / ".marks-ack"
    acks = AckWriter(str(ack))
    acks.ack()
    acks.ack()
    acks.close()
    # Both marks are acknowledged beforehand, so the writer does not wait.
    with MarkWriter(tmp_path / "marks.csv", ack, timeout_s=5) as writer:
        writer.write("r1", "run_start")
        writer.write("r1", "run_end")
    marks = MarksTail(str(tmp_path / "marks.csv")).poll()
    assert [(mark.run_id, mark.mark) for mark in marks] == [("r1", "run_start"), ("r1", "run_end")]
    assert marks[0].t_mono_ns <= marks[1].t_mono_ns
    assert ack.stat().st_size == 2


def test_both_ends_close_what_they_opened(tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    (tmp_path / "marks.csv").write_bytes(HEADER.encode())
    tail, acks = MarksTail(str(tmp_path / "marks.csv")), AckWriter(str(tmp_path / "ack"))
    tail.poll()
    assert opened() == before + 2
    for _ in range(2):
        tail.close()
    acks.close()
    assert opened() == before
