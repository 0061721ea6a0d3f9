"""What the views of a bench can see on an engine, as a row of the table in docs/engines.md."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

HEAD = "| engine |"


def _column(path: Path, name: str) -> list[str]:
    if not path.exists():
        return []
    with path.open() as file:
        return [row[name] for row in csv.DictReader(file)]


def _peaks(directory: Path, scope: str) -> str:
    path = directory / "peaks.csv"
    if not path.exists():
        return "none"
    with path.open() as file:
        kinds = {row["peak_kind"] for row in csv.DictReader(file) if row["scope"] == scope}
    if not kinds:
        return "none"
    return "sampled" if "sampled" in kinds else "kernel"


def seen(directory: Path) -> list[str]:
    """Return the cells of a run directory's engine."""
    manifest = json.loads((directory / "manifest.json").read_text())
    inside = directory / "memory-inside.csv"
    counter = "cgroup and RSS" if any(_column(inside, "cg_usage_bytes")) else "RSS"
    return [
        manifest["agent"]["form"],
        _peaks(directory, "container"),
        _peaks(directory, "service"),
        _peaks(directory, "topology"),
        "yes" if any(_column(directory / "ledger.csv", "pss_bytes")) else "no",
        counter if any(_column(inside, "rss_sum_bytes")) else "none",
        "yes" if any(_column(directory / "memory-docker.csv", "usage_bytes")) else "no",
        manifest["agent"]["clock"],
    ]


def write_row(docs: Path, name: str, cells: list[str]) -> None:
    """Put a row in the place of the one of that name, or at the table's end."""
    row = f"| {name} | {' | '.join(cells)} |"
    lines = docs.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(HEAD))
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    old = next((n for n in range(start, end) if lines[n].startswith(f"| {name} |")), None)
    lines[end if old is None else old : end if old is None else old + 1] = [row]
    docs.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(f"| {sys.argv[1]} | {' | '.join(seen(Path(sys.argv[2])))} |\n")
