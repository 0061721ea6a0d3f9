"""Tables on a terminal."""

from __future__ import annotations

from tabulate import tabulate

from harness.report.contents import Table


def as_text(table: Table) -> str:
    """Return a table with its title above and its note below."""
    body = tabulate(
        [[str(cell) for cell in row] for row in table.rows],
        headers=[title.strip() for title in table.header],
        disable_numparse=True,
        colalign=["right" if right else "left" for right in table.right] if table.rows else None,
    )
    return "\n".join(part for part in (f"{table.title}\n", body, table.note) if part)
