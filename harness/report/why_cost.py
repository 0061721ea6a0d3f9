"""What tracing itself changed, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.session import Session
from harness.analysis.tracing_cost import Cost, copies_changed, costs, notable
from harness.core.sizes import format_size
from harness.core.text import listed
from harness.report.tables import Table

# Which most often are more than one container.
_SEVERAL = ("worker", "topology")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def cost_table(found: Sequence[Cost], sizes: Sequence[int] = ()) -> Table | None:
    """Return what tracing changed; None without untraced runs to compare with.

    Args:
        found: what it changed.
        sizes: of payloads.
    """
    if not found:
        return None
    rows = tuple(
        (
            cost.mode,
            cost.what if cost.unit == "s" else f"net peak, {cost.what}",
            _figure(cost, cost.untraced),
            _figure(cost, cost.traced),
            _percent(cost),
            f"{_figure(cost, cost.low)} to {_figure(cost, cost.high)}",
        )
        for cost in found
    )
    runs = sorted({cost.runs for cost in found})
    note = f"Untraced: the median of {' or '.join(map(str, runs))} runs; traced: one run."
    note = " ".join([note, *changed_sentences(found, sizes)])
    header = ("mode", "figure", " untraced", " traced", " change", "untraced, from to")
    return Table("why-cost", "What tracing changed", header, rows, note)


def changed_sentences(found: Sequence[Cost], sizes: Sequence[int]) -> list[str]:
    """Return a sentence for each net peak that tracing changed by 5 %, or by a copy of a payload.

    Args:
        found: what it changed.
        sizes: of payloads.
    """
    said = []
    together = False
    named = notable(found)
    for cost in found:
        copies = copies_changed(cost, sizes)
        together |= (copies is not None or cost in named) and cost.what in _SEVERAL
        if copies is not None:
            size, number = copies
            word = _NUMBERS[abs(number)] if abs(number) < len(_NUMBERS) else str(abs(number))
            noun = "copy" if abs(number) == 1 else "copies"
            way = "more" if number > 0 else "less"
            said.append(
                f"In {cost.mode} the traced run had {word} {noun} of {format_size(size)} {way} at"
                f" the peak of the {cost.what} than any untraced one."
            )
        elif cost in named:
            said.append(
                f"In {cost.mode} the net peak of the {cost.what} is more than 5 % beyond all"
                " untraced ones."
            )
    if together:
        said.append("Peaks of several containers together depend on how their tasks overlap.")
    return said


def cost_sentences(traced: Session) -> list[str]:
    """Return what tracing cost, and whether it changed what it was to explain.

    Args:
        traced: the traced runs.
    """
    found = costs(traced)
    if not found:
        return ["What tracing cost is not known: no untraced runs of the same plan are beside it."]
    parts = []
    for mode in dict.fromkeys(cost.mode for cost in found):
        figures = [c for c in found if c.mode == mode and c.unit == "s"]
        parts.append(f"{mode} {' and '.join(f'{_percent(c)} {c.what}' for c in figures)}")
    workload = traced.workload
    sizes = workload.bytes_sizes if workload is not None else ()
    said = f"Tracing cost, beside the untraced runs: {listed(parts)}."
    return [said, *changed_sentences(found, sizes)]


def _percent(cost: Cost) -> str:
    return f"{cost.change:+.1%}".replace("%", " %")


def _figure(cost: Cost, value: float) -> str:
    return f"{value:.2f} s" if cost.unit == "s" else format_size(value)
