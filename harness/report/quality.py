"""How far the figures can be trusted, in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.core.sizes import format_size

_PAIRS = {
    "identity": "usage = anon + shmem + file + kernel + sock",
    "inside_against_cgroup": "inside against cgroup",
    "docker_against_cgroup": "docker against cgroup",
}


def quality_lines(quality: dict[str, Any]) -> Iterator[str]:
    """Yield lines about what ``quality.json`` says."""
    yield from _clocks(quality)
    for key, name in _PAIRS.items():
        found = quality[key]
        if found["agrees"] is None:
            yield f"{name}: nothing to compare"
            continue
        verdict = "within" if found["agrees"] else "NOT WITHIN"
        yield (
            f"{name}: 95 % of {found['readings']} readings off by at most"
            f" {format_size(found['p95_bytes'])}, {verdict} {format_size(found['bound_bytes'])};"
            f" largest {format_size(found['largest_bytes'])}"
            + (f" ({found['largest_at']})" if found["largest_at"] else "")
        )
    yield f"bounds: {quality['bounds_from']}"
    yield from _baselines(quality["baseline"])


def _clocks(quality: dict[str, Any]) -> Iterator[str]:
    for view in ("cgroup", "inside", "docker"):
        clock = quality["clocks"].get(view)
        gap = quality["longest_gap_ns"].get(view)
        if clock is None or gap is None:
            continue
        if "kept" in clock:
            yield (
                f"{view} view: {clock['kept']:.1%} of the ticks at"
                f" {clock['interval_ns'] / 1e6:g} ms, {clock['missed']} missed, 99 % at most"
                f" {clock['late_p99_ns'] / 1e6:.1f} ms late; longest gap {gap / 1e6:.0f} ms"
            )
        else:
            yield f"{view} view: longest gap {gap / 1e6:.0f} ms"


def _baselines(baseline: dict[str, Any]) -> Iterator[str]:
    verdicts = baseline["verdicts"]
    if not verdicts:
        return
    window_s, bound = baseline["window_ns"] / 1e9, format_size(baseline["bound_bytes"])
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    yield f"baselines (flat within {bound} for {window_s:g} s): {told}"
    if baseline["timed_out"]:
        yield f"not flat before: {', '.join(baseline['timed_out'])}"
    for lack in baseline["not_trimmed"]:
        yield f"could not be trimmed: {lack}"
