"""What a bundle is, for people to read."""

from __future__ import annotations

from tabulate import tabulate

from harness.core.sizes import format_size
from harness.reproduce.format import COMPARTMENTS, BundleIndex, printable
from harness.reproduce.reader import Bundle


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
