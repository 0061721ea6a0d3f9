"""What became of reproducing a bundle, for people to read.

What a bundle is, for people to read.
"""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.core.text import format_size
from harness.report.comparison import quantity
from harness.reproduce.format import COMPARTMENTS, BundleIndex, printable
from harness.reproduce.reader import Bundle
from harness.reproduce.verdict import MetricVerdict, Reproduction

_HEADERS = ("mode", "metric", "published", "again", "change", "runs", "verdict")
_NOTE = (
    "Medians of each side's runs. Reproduced: no difference larger than the threshold, or than what"
    " the measurement resolves, with enough runs to have seen one. Metrics with a slash are"
    " scale-free."
)


def reproduction_text(found: Reproduction, other_files: Sequence[str]) -> str:
    """Return the verdicts as a table, and below it what differed besides."""
    rows = []
    mode = ""
    for row in found.rows:
        rows.append((row.mode if row.mode != mode else "", *_cells(row)))
        mode = row.mode
    align = ("left", "left", "right", "right", "right", "right", "left")
    table = tabulate(rows, headers=_HEADERS, disable_numparse=True, colalign=align)
    resolution = f"The kernel's counters resolve {format_size(found.resolution_bytes)} here."
    lines = [table, f"{_NOTE} {resolution}", ""]
    lines += [
        printable(f"{what.what}: {what.a} when published, {what.b} here")
        for what in found.environment
    ]
    lines += [f"{name}: not the file of the published run" for name in other_files]
    if not found.environment and not other_files:
        lines.append("Engine, machine, images and settings are the same.")
    lines += [f"failed here, not when published: {line}" for line in found.regressions]
    return "\n".join([*lines, "", f"Verdict: {found.verdict.value}"])


def _cells(row: MetricVerdict) -> tuple[str, ...]:
    values = [
        "-" if value is None else quantity(value, row.metric.unit)
        for value in (row.published, row.again)
    ]
    change = "-" if row.change is None else f"{row.change:+.1%}".replace("%", " %")
    runs = f"{row.runs[0]} / {row.runs[1]}"
    return (row.metric.label, *values, change, runs, row.verdict.value)


def bundle_text(bundle: Bundle) -> str:
    """Return what is in a bundle and what it claims."""
    index = bundle.index
    run = index.run
    facts = [
        ("sha256", bundle.sha256),
        ("size", format_size(bundle.size_bytes)),
        ("format", str(index.version)),
        ("run", run.name),
        ("executor", run.executor),
        ("connector", run.connector),
        ("modes", ", ".join(run.modes)),
        ("runs of each", str(run.repeat)),
        ("seed", str(run.seed)),
        ("started", run.started),
        ("ended", run.ended),
        ("harness", f"{run.harness_version} ({run.git_revision or 'no revision recorded'})"),
    ]
    facts = [(name, printable(value)) for name, value in facts]
    parts = [tabulate(facts, tablefmt="plain", disable_numparse=True)]
    images = [
        (
            entry.stack,
            "in the bundle" if index.has_images else "named only",
            printable(" or ".join(entry.ids)),
        )
        for entry in index.images
    ]
    if images:
        parts.append(tabulate(images, headers=("image", "", "id")))
    parts.append(
        tabulate(_contents(index), headers=("part", "files", "size"), disable_numparse=True)
    )
    return "\n\n".join(parts)


def _contents(index: BundleIndex) -> list[tuple[str, str, str]]:
    rows = []
    for part, what in COMPARTMENTS.items():
        sizes = [entry.size for entry in index.files if entry.path.partition("/")[0] == part]
        if sizes:
            rows.append((what, str(len(sizes)), format_size(sum(sizes))))
    return rows
