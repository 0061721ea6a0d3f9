"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.analysis.summary import ModeSummary
from harness.core.sizes import format_size


def summary_table(summaries: Sequence[ModeSummary]) -> str:
    """Return one row for each mode and service; the mode's own figures on its first row."""
    rows: list[list[str]] = []
    for summary in summaries:
        first = [
            summary.mode,
            str(summary.runs),
            f"{summary.makespan_s:.3f}",
            f"{summary.objects_at_end} / {summary.objects_left}",
        ]
        for memory in summary.services:
            name = memory.service
            rows.append(
                [
                    *first,
                    f"{name} x {memory.containers}" if memory.containers > 1 else name,
                    format_size(memory.peak_net_bytes),
                    format_size(memory.mean_net_bytes),
                    format_size(memory.baseline_bytes),
                    memory.peak_kind,
                ]
            )
            first = [""] * len(first)
        if not summary.services:
            rows.append([*first, "-", "", "", "", "no samples"])
    return tabulate(
        rows,
        headers=[
            "mode",
            "runs",
            "makespan s",
            "objects end/left",
            "service",
            "peak net",
            "mean net",
            "baseline",
            "peak from",
        ],
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "left", "right", "right", "right", "left"),
    )


SUMMARY_NOTE = (
    "Medians over a mode's runs. Net: less the service's own use when the run started."
    " Objects: in the connector when the clock stopped / after the clean-up."
)
