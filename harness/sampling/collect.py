"""One document from what all samplers say of themselves."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.results.documents import read_document, write_json
from harness.sampling.report import FRAGMENTS, merge_reports

if TYPE_CHECKING:
    from harness.results.directory import RunDirectory


def collect_reports(directory: RunDirectory, suffix: str = "") -> None:
    """Merge the samplers' reports into ``sampling.json``; call it when all have ended.

    With several topologies it is called after each: ``suffix`` then tells their samplers apart.
    """
    found, _ = read_document(directory.sampling, "sampling")
    for view, fragments in merge_reports(directory.path).items():
        into = found.setdefault(view, {})
        into |= {f"{name}{suffix}": fragment for name, fragment in fragments.items()}
    write_json(directory.sampling, found)
    shutil.rmtree(directory.path / FRAGMENTS, ignore_errors=True)
