from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from harness.core.text import one_line
from harness.results.rows import csv_line

HOSTILE = '=cmd|"x"!A1\n<script>alert(1)</script>\x1b[2J\u202egnp.exe\x00\r\n,"'


def test_nothing_that_a_terminal_acts_on_stays() -> None:
    shown = one_line(HOSTILE)
    assert "<script>" in shown  # text, for whoever escapes it for a browser
    assert not any(character in shown for character in "\n\r\x1b\x00\u202e")


@given(st.lists(st.text(), min_size=1))
def test_a_row_is_one_line_and_its_cells_come_back(cells: list[str]) -> None:
    line = csv_line([*cells, HOSTILE])
    assert line.count("\n") == 1
    assert line.endswith("\r\n")
    (row,) = csv.reader(io.StringIO(line, newline=""))
    assert row == [one_line(cell) for cell in [*cells, HOSTILE]]
