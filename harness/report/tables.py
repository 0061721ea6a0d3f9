"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.analysis.ledger import PARTS, ServiceLedger
from harness.analysis.predicted import Comparison, ModePrediction
from harness.analysis.summary import ModeSummary
from harness.core.sizes import format_size


def _size(size_bytes: float | None) -> str:
    return "" if size_bytes is None else format_size(size_bytes)


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
            ledger = summary.ledgers.get(name)
            rows.append(
                [
                    *first,
                    f"{name} x {memory.containers}" if memory.containers > 1 else name,
                    format_size(memory.peak_net_bytes),
                    format_size(memory.mean_net_bytes),
                    _size(ledger.after_bytes if ledger else None),
                    _size(ledger.trimmed_bytes if ledger else None),
                    format_size(memory.baseline_bytes),
                    memory.peak_kind,
                ]
            )
            first = [""] * len(first)
        if not summary.services:
            rows.append([*first, "-", "", "", "", "", "", "no samples"])
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
            "after",
            "trimmed",
            "baseline",
            "peak from",
        ],
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "left", *["right"] * 5, "left"),
    )


SUMMARY_NOTE = (
    "Medians over a mode's runs. Net: less the service's own use when the run started; after and"
    " trimmed are net too: what stays after the mode's clean-up, as it is and once every process"
    " has given back what is free. Objects: in the connector when the clock stopped / after the"
    " clean-up."
)


def ledger_table(summaries: Sequence[ModeSummary]) -> str:
    """Return where the memory was when the runs ended, net; empty without the cgroup view."""
    rows = []
    for summary in summaries:
        mode = summary.mode
        for memory in summary.services:
            ledger: ServiceLedger | None = summary.ledgers.get(memory.service)
            if ledger is not None:
                parts = [_size(ledger.parts[part]) for part in PARTS]
                rows.append([mode, memory.service, *parts])
                mode = ""
    if not rows:
        return ""
    headers = ["at run_end, net", "service", "usage", "= anon", "+ shmem", "+ file", "+ kernel"]
    headers.append("+ sock")
    align = ("left", "left", *["right"] * 6)
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=align)


def prediction_table(predictions: Sequence[ModePrediction]) -> str:
    """Return predicted and measured bytes in the connector side by side, with the difference."""
    rows = [
        [
            found.mode,
            *_comparison(found.at_end),
            *_comparison(found.fullest),
            _off(found.worst),
            format_size(found.peak_bytes),
            format_size(found.ideal_bytes),
        ]
        for found in predictions
    ]
    headers = ["in the connector", "at end: predicted", "measured", "off"]
    headers += ["fullest stage: predicted", "measured", "off", "worst stage", "peak", "ideal"]
    align = ("left", *["right"] * 9)
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=align)


PREDICTION_NOTE = (
    "Payload bytes from the flags alone; measured: serialised bytes, asked of the storage. Stages"
    " are counted with --audit-stages and in warm-up runs. Peak: most that must be there at once;"
    " ideal: least that any implementation holds at its fullest stage boundary."
)


def _comparison(found: Comparison | None) -> list[str]:
    if found is None:
        return ["-", "-", "-"]
    return [format_size(found.predicted_bytes), format_size(found.measured_bytes), _off(found)]


def _off(found: Comparison | None) -> str:
    if found is None:
        return "-"
    if found.off_percent is None:
        return "not 0"
    return f"{found.off_percent:+.3f} %"
