"""One document from what all samplers say of themselves."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from harness.sampling.report import FRAGMENTS, merge_reports

if TYPE_CHECKING:
    from harness.results.directory import RunDirectory


def collect_reports(directory: RunDirectory) -> None:
    """Merge the samplers' reports into ``sampling.json``; call it when all have ended."""
    merged = merge_reports(directory.path)
    directory.sampling.write_text(json.dumps(merged, indent=2) + "\n")
    shutil.rmtree(directory.path / FRAGMENTS, ignore_errors=True)
