"""What became of reproducing a bundle, for people to read.

What a bundle is, for people to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.core.sizes import format_size
from harness.report.comparison import NOTE, comparisons, open_questions, worth_showing
from harness.report.tables import as_text
from harness.report.terminal import columns
from harness.reproduce.format import COMPARTMENTS, BundleIndex, printable
from harness.reproduce.reader import Bundle
from harness.reproduce.verdict import Reproduction

_NOTE = (
    "A: published, B: here. Times are compared on the same machine only; metrics with a slash are"
    " scale-free."
)


def reproduction_text(found: Reproduction, other_files: Sequence[str]) -> str:
    """Return the verdicts as a table, and below it what the figures say and what differed."""
    rows = [(row.mode, row) for row in found.rows]
    shown = [each for each in worth_showing(rows) if each[1].metric.name in found.carries]
    resolution = f"The kernel's counters resolve {format_size(found.resolution_bytes)} here."
    table = comparisons("Published and here", shown, f"{NOTE} {_NOTE} {resolution}")
    lines = [as_text(table), *open_questions(shown), ""]
    lines += [printable(line) for line in _conclusions(found)]
    lines += [
        printable(f"{what.what}: {what.a} when published, {what.b} here")
        for what in found.environment
    ]
    lines += [f"{name}: not the file of the published run" for name in other_files]
    if not found.environment and not other_files:
        lines.append("Engine, machine, images and settings are the same.")
    lines += [f"failed here, not when published: {line}" for line in found.regressions]
    verdict = f"Verdict: {found.verdict.value}"
    if found.conclusions:
        verdict += f"; conclusion: {found.conclusion}"
    return "\n".join([*lines, "", verdict])


def _conclusions(found: Reproduction) -> Iterator[str]:
    words = {True: "same conclusion", False: "other conclusion", None: "undecided"}
    for each in found.conclusions:
        sides = each.published
        if each.published != each.again:
            sides = f"{each.published} when published, {each.again} here"
        yield f"{each.what}: {sides}: {words[each.same]}"


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
    wide = max(len(name) for name, _ in facts)
    parts = ["\n".join(f"{name:<{wide}}  {value}" for name, value in facts)]
    images = [
        (
            entry.stack,
            "in the bundle" if index.has_images else "named only",
            printable(" or ".join(entry.ids)),
        )
        for entry in index.images
    ]
    if images:
        parts.append(columns(("image", "", "id"), images))
    parts.append(columns(("part", " files", " size"), _contents(index)))
    return "\n\n".join(parts)


def _contents(index: BundleIndex) -> list[tuple[str, str, str]]:
    rows = []
    for part, what in COMPARTMENTS.items():
        sizes = [entry.size for entry in index.files if entry.path.partition("/")[0] == part]
        if sizes:
            rows.append((what, str(len(sizes)), format_size(sum(sizes))))
    return rows
