"""Tables on terminals of all widths, and what a pipe gets."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from harness.analysis.figures import group_runs
from harness.analysis.readers import read_session
from harness.report.export import csv_text, latex, markdown, write_tables
from harness.report.progress import Progress
from harness.report.tables import Table, as_text, tables
from harness.report.terminal import PLAIN, Screen, paragraph, screen_of
from tests.rundirs import write_run_directory

MB = 1_000_000
TABLE = Table(
    "t",
    "Title",
    ("mode", "service", " net peak", " covered"),
    (("none", "redis", "30.0 MB", "100 %"), ("", "a_b & c", "5 MB", "99 %"), ("x", "y", "-", "-")),
    "A note of many words that goes on and on until it is longer than one line of a terminal.",
    less=("covered",),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_report_is_no_wider_than_its_terminal(tmp_path: Path, width: int) -> None:
    peaks = {"default-proxy": [20 * MB, 40 * MB], "owned-proxy": [10 * MB]}
    found = tables(group_runs([read_session(write_run_directory(tmp_path / "run", peaks).path)]))
    text = "\n".join(as_text(table, Screen(width)) for table in found)
    assert max(map(len, text.splitlines())) <= width
    assert "default-proxy" in text  # and no name is folded
    assert re.search(r"^owned-proxy +1 +2\.00 +10\.0 MB", text, re.MULTILINE)


def test_columns_without_room_are_left_out_and_named() -> None:
    assert "covered" in as_text(TABLE, Screen(80)).splitlines()[2]
    narrow = as_text(TABLE, Screen(26))
    assert "covered" not in narrow.splitlines()[2]
    assert " ".join(narrow.split()).endswith("Not shown at this width: covered.")


def test_a_pipe_gets_everything_in_long_lines_and_no_colours() -> None:
    text = as_text(TABLE, PLAIN)
    assert text == (
        "Title\n\nmode  service  net peak  covered\n----  -------  --------  -------\n"
        "none  redis     30.0 MB    100 %\n      a_b & c      5 MB     99 %\n"
        f"x     y               -        -\n{TABLE.note}"
    )


def test_colours_are_for_terminals_that_have_them() -> None:
    assert screen_of(io.StringIO(), {"TERM": "xterm"}) == PLAIN
    assert screen_of(Terminal(), {"TERM": "xterm"}).color
    assert not screen_of(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}).color
    assert not screen_of(Terminal(), {"TERM": "dumb"}).color
    assert "\x1b[1m" in paragraph("said", Screen(80, True), "bold")
    assert paragraph("[red]a[/red] :smile:", Screen(80)) == "[red]a[/red] :smile:"
    screen = Screen(97, True)
    assert Screen.parse(str(screen)) == screen
    assert Screen.parse(str(PLAIN)) == PLAIN


def test_a_verdict_is_coloured_and_still_a_word() -> None:
    table = Table("t", "", ("verdict",), (("worse",), ("equivalent",)))
    text = as_text(table, Screen(80, True))
    assert "\x1b[1;31mworse" in text
    assert "\nequivalent" in text


def test_lines_of_progress_say_what_is_next_and_how_long_it_takes() -> None:
    out = io.StringIO()
    with Progress(2, out, ["0001-none-1", "0002-none-2"]) as progress:
        progress.say("Starting")
        progress.done(1)
        progress.done(2)
    first, second, third = out.getvalue().splitlines()
    assert first == "Starting"
    assert re.fullmatch(r"\[ +0\.\d s\] 1/2 runs done; about 0 s left, next: 0002-none-2", second)
    assert third.endswith("2/2 runs done")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Progress(2, out, ["0001-none-1", "0002-none-2"]) as progress:
        progress.say("Starting [the topology]")
        progress.done(1)
    assert "Starting [the topology]" in out.getvalue()
    assert "1/2 runs done" not in out.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    with Progress(2, dumb) as progress:
        progress.done(1)
    assert "1/2 runs done" in dumb.getvalue()
    assert "\x1b" not in dumb.getvalue()


def test_tables_for_programs_comments_and_papers(tmp_path: Path) -> None:
    assert csv_text(TABLE).splitlines()[1:3] == [
        "none,redis,30.0 MB,100 %",
        "none,a_b & c,5 MB,99 %",
    ]
    assert markdown(TABLE).splitlines()[:3] == [
        "| mode | service | net peak | covered |",
        "| --- | --- | ---: | ---: |",
        "| none | redis | 30.0 MB | 100 % |",
    ]
    said = latex(TABLE)
    assert r"\begin{tabular}{llrr}" in said
    assert r" & a\_b \& c & 5~MB & 99~\% \\" in said
    assert said.index(r"\toprule") < said.index(r"\midrule") < said.index(r"\bottomrule")
    paths = write_tables(tmp_path / "tables", [TABLE])
    assert [path.name for path in paths] == ["t.csv", "t.md", "t.tex"]
    assert paths[0].read_text() == csv_text(TABLE)
