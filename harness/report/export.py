"""Tables for other documents: CSV for programs, Markdown for comments, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.core.files import write_whole
from harness.report.tables import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def csv_text(table: Table) -> str:
    """Return a table as CSV; a mode that stands once for several rows stands in each."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([title.strip() for title in table.header])
    rows.writerows(_whole(table))
    return out.getvalue()


def markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""
    titles = [title.strip() for title in table.header]
    rule = ["---:" if right else "---" for right in table.right]
    lines = [titles, rule, *([_one_cell(str(cell)) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _one_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def latex(table: Table) -> str:
    """Return a table for LaTeX with the package booktabs: a caption, a label, the note below."""
    align = "".join("r" if right else "l" for right in table.right)
    titles = [_escaped(title.strip()) for title in table.header]
    rows = [[_escaped(str(cell)) for cell in row] for row in table.rows]
    body = "\n".join(f"    {' & '.join(row)} \\\\" for row in rows)
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_escaped(table.title)}. {_escaped(table.note)}}}",
            f"  \\label{{tab:{table.name}}}",
            f"  \\begin{{tabular}}{{{align}}}",
            r"    \toprule",
            f"    {' & '.join(titles)} \\\\",
            r"    \midrule",
            body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    text = re.sub(r"[\\~^&%$#_{}]", lambda sign: _LATEX[sign[0]], text)
    # A number keeps its unit in the same line.
    return re.sub(r"(?<=\d) (?=\\%|[kKMGT]?B\b|s\b)", "~", text)


def _whole(table: Table) -> list[list[str]]:
    """Return rows in which what is written once for several rows stands in each."""
    found: list[list[str]] = []
    for row in table.rows:
        cells = [str(cell) for cell in row]
        if found and cells and not cells[0]:
            cells[0] = found[-1][0]
        found.append(cells)
    return found


_MAKERS: Mapping[str, Callable[[Table], str]] = {
    ".csv": csv_text,
    ".md": lambda table: f"{markdown(table)}\n",
    ".tex": latex,
}
FORMATS = tuple(_MAKERS)
"""The endings of the files that :func:`write_tables` makes."""


def write_tables(directory: Path, tables: Sequence[Table]) -> list[Path]:
    """Write each table in each format, and return the paths.

    Args:
        directory: made if it is not there.
        tables: each goes into files of its name.
    """
    directory.mkdir(exist_ok=True)
    written = []
    for table in tables:
        for ending, make in _MAKERS.items():
            path = directory / f"{table.name}{ending}"
            write_whole(path, make(table).encode())
            written.append(path)
    return written
