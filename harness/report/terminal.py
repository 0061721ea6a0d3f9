"""Tables and sentences on a terminal: as wide as it is, in colour where it has colours.

Into a pipe or a file everything goes as it is, without colours and however wide: programs and logs
have no width.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

_NARROWEST = 40
# Wider than any table: nothing is folded.
_NO_END = 100_000
# What a verdict, an outcome or a check says, beside its word and never alone.
_STYLES: Mapping[str, str] = {
    "worse": "bold red",
    "better": "bold green",
    "undecided": "yellow",
    "OUTSIDE": "bold red",
    "failed": "bold red",
    "memory": "bold red",
    "timeout": "bold red",
    "killed": "bold red",
    "leak": "bold red",
    "suspicious": "yellow",
    "do not use": "bold red",
}


@dataclass(frozen=True)
class Screen:
    """What text is shown on.

    Attributes:
        width: in columns; None where lines may have any length.
        color: whether it has colours.
    """

    width: int | None = None
    color: bool = False

    def __str__(self) -> str:
        return f"{self.width or 0},{int(self.color)}"

    @classmethod
    def parse(cls, text: str) -> Screen:
        """Return the screen that ``str`` made a word of, for another process."""
        width, _, color = text.partition(",")
        return cls(int(width) or None, color == "1")


PLAIN = Screen()

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A cell whose small print only the page has room for."""

    text: str
    small: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        name: for links and tests.
        title: above it.
        header: column titles; those that start with a blank are aligned to the right.
        rows: its cells.
        note: below it.
        less: titles of columns that a narrow terminal does without, the first to go first.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    note: str = ""
    less: tuple[str, ...] = ()

    def only(self, places: Sequence[int]) -> Table:
        """Return the same with some of its columns."""
        header = tuple(self.header[place] for place in places)
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, header=header, rows=rows)

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(title.startswith(" ") for title in self.header)


def screen_of(stream: TextIO, environment: Mapping[str, str] | None = None) -> Screen:
    """Return what a stream is shown on; ``NO_COLOR`` and ``TERM=dumb`` mean no colours."""
    known = os.environ if environment is None else environment
    if not stream.isatty():
        return PLAIN
    plain = bool(known.get("NO_COLOR")) or is_dumb(known)
    return Screen(max(shutil.get_terminal_size().columns, _NARROWEST), not plain)


def is_dumb(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether a terminal can neither move its cursor nor show colours."""
    known = os.environ if environment is None else environment
    return known.get("TERM", "dumb") in ("dumb", "unknown")


def render(table: Table, screen: Screen) -> str:
    """Return a table with its title above and its note below.

    Of a table that is wider than the screen, columns that ``table.less`` names are left out, and
    the note says which; what is still too wide is folded.
    """
    shown, left_out = _fitting(table, screen)
    lines = [*([_styled(table.title, "bold", screen)] if table.title else []), ""]
    lines += [_grid(shown, screen)]
    note = shown.note
    if left_out:
        note = f"{note} Not shown at this width: {', '.join(left_out)}.".strip()
    return "\n".join([*lines, *([paragraph(note, screen, "dim")] if note else [])])


def fitted(table: Table, screen: Screen) -> str:
    """Return the rows of a table under their titles, without the columns that have no room."""
    return _grid(_fitting(table, screen)[0], screen)


def paragraph(text: str, screen: Screen, style: str = "") -> str:
    """Return text in lines as wide as the screen."""
    return _styled(text, style, screen)


def _fitting(table: Table, screen: Screen) -> tuple[Table, list[str]]:
    """Return a table without the columns that have no room, and these columns' titles."""
    if screen.width is None:
        return table, []
    widths = [
        max(len(title.strip()), *(_longest(str(row[place])) for row in table.rows), 0)
        for place, title in enumerate(table.header)
    ]
    left = list(range(len(table.header)))
    gone: list[int] = []
    for title in table.less:
        if sum(widths[place] + 2 for place in left) - 2 <= screen.width:
            break
        place = next((n for n in left if table.header[n].strip() == title), None)
        if place is not None:
            left.remove(place)
            gone.append(place)
    if not gone:
        return table, []
    return table.only(left), [table.header[place].strip() for place in sorted(gone)]


def _longest(text: str) -> int:
    return max(map(len, text.split("\n")))


def _grid(table: Table, screen: Screen) -> str:
    from rich.box import Box  # noqa: PLC0415 - an eighth of a second, and only who prints needs it
    from rich.table import Table as Grid  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rule = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
    # Two columns between columns: the rule's own blank, and one of padding.
    grid = Grid(
        box=rule, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    for title, right in zip(table.header, table.right, strict=True):
        grid.add_column(Text(title.strip()), justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(str(cell), style=style_of(str(cell))) for cell in row))
    lines = _printed(grid, screen).split("\n")
    # Rich rules the padding, too: a rule is as wide as its column, so that programs can cut there.
    return "\n".join(line.replace("- ", "  ") if _is_rule(line) else line for line in lines)


def _is_rule(line: str) -> bool:
    return "-" in line and set(line) <= {"-", " "}


def style_of(cell: str) -> str:
    """Return the style of a cell or a line: of the word before its colon."""
    return _STYLES.get(cell.partition(":")[0], "")


def _styled(text: str, style: str, screen: Screen) -> str:
    if screen.width is None and not screen.color:
        return text
    from rich.text import Text  # noqa: PLC0415

    return _printed(Text(text, style=style), screen)


def _printed(what: Any, screen: Screen) -> str:
    from rich.console import Console  # noqa: PLC0415

    out = io.StringIO()
    console = Console(
        file=out,
        width=screen.width or _NO_END,
        force_terminal=screen.color,
        color_system="standard" if screen.color else None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def columns(header: Sequence[str], rows: Sequence[Sequence[object]], screen: Screen = PLAIN) -> str:
    """Return rows under their titles; titles that start with a blank are aligned to the right."""
    cells = tuple(tuple(map(str, row)) for row in rows)
    return _grid(Table("", "", tuple(header), cells), screen)
