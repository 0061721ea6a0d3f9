"""A calibration as tables and lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tabulate import tabulate

from harness.analysis.calibration import Check
from harness.core.sizes import format_size


def check_table(checks: Sequence[Check]) -> str:
    """Return one row for each claim about a view."""
    rows = [
        [
            check.view,
            check.column,
            f"{check.probe}: {check.step}",
            check.says,
            f"{check.expected_bytes / 2**20:.2f}",
            "nothing" if check.shown_bytes is None else f"{check.shown_bytes / 2**20:.2f}",
            "-" if check.off_percent is None else f"{check.off_percent:+.3f} %",
            f"{check.bound_percent:g} %",
            f"{check.seen[0]}/{check.seen[1]}",
            "ok" if check.within else "OUTSIDE",
        ]
        for check in checks
    ]
    headers = ["view", "column", "probe", "claim", "must show MiB", "shows MiB", "off", "stated"]
    headers += ["within", ""]
    align = ("left", "left", "left", "left", *["right"] * 5, "left")
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=align)


def calibration_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what else a ``calibration.json`` says."""
    for name, (seen, pulses) in found["pulses_with_a_reading"].items():
        yield f"{name}: a reading in {seen} of {pulses} pulses of 200 ms"
    for view, clock in found["clocks"].items():
        if "kept" in clock:
            yield (
                f"{view} sampler: {clock['missed']} of {clock['ticks'] + clock['missed']} ticks"
                f" missed at {clock['interval_ns'] / 1e6:g} ms; late: median"
                f" {clock['late_median_ns'] / 1e6:.2f} ms, 99 %"
                f" {clock['late_p99_ns'] / 1e6:.2f} ms, most {clock['late_max_ns'] / 1e6:.2f} ms;"
                f" {clock['largest_cpu_share']:.2%} of a core,"
                f" {format_size(clock['rss_max_bytes'])}"
            )
    yield (
        f"engine: {found['engine_cpu_share']:.2%} of a core with one container's stats stream,"
        f" {format_size(found['engine_rss_bytes'])}"
    )
    bounds = ", ".join(f"{k} {format_size(v)}" for k, v in found["agreement"].items())
    yield f"views may disagree, at the 95th percentile, by: {bounds}"
    for name, figure in (found["detectable"] or {}).items():
        yield (
            f"A/A, {name}: {figure['repeats']} runs against {figure['repeats']} of the same plan"
            f" differ by {figure['difference_percent']:+.2f} %; the smallest difference they can"
            f" detect is {figure['smallest_percent']:.2f} %"
        )
