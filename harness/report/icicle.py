"""An icicle of stacks as SVG that needs no script: who called whom, down to who holds the memory.

Each row is one call deeper; a box is as wide as what is held below it. Of calls within one library
only the outermost and the two that hold the memory are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from harness.analysis.holders import NO_NAME, frame_text, short_file
from harness.core.sizes import format_size
from harness.report.palette import look
from harness.results.traces import Frame, Held

_WIDTH = 1000
_ROW = 22
_LETTER = 6.6
_LEAST_WIDTH = 2.0
_MOST_ROWS = 24


@dataclass
class _Box:
    """One frame below its callers, and what is held in and below it."""

    frame: Frame | None
    size_bytes: int = 0
    count: int = 0
    below: dict[Frame, _Box] = field(default_factory=dict)


def shortened(stack: Sequence[Frame]) -> list[Frame]:
    """Return a stack without calls from a library to itself, the outermost frame first.

    The two innermost frames stay.
    """
    found: list[Frame] = []
    for place, frame in enumerate(reversed(stack)):
        inner = place >= len(stack) - 2
        if inner or not found or short_file(found[-1][1])[0] != short_file(frame[1])[0]:
            found.append(frame)
    return found[-_MOST_ROWS:]


def icicle(held: Sequence[Held], label: str) -> str:
    """Return an SVG element; empty if nothing is held.

    Args:
        held: allocations by stack.
        label: what it shows, for those who do not see it.
    """
    root = _Box(None)
    for each in held:
        box = root
        for frame in (None, *shortened(each.stack)):
            if frame is not None:
                box = box.below.setdefault(frame, _Box(frame))
            box.size_bytes += each.size_bytes
            box.count += each.count
    if not root.size_bytes:
        return ""
    drawn = list(_drawn(root, 0.0, 0, _WIDTH / root.size_bytes))
    libraries = list(dict.fromkeys(library for library, *_ in drawn))
    rows = max(row for _, _, row, _, _ in drawn) + 1
    parts = [_rect(libraries.index(drawn_box[0]), drawn_box) for drawn_box in drawn]
    return (
        f'<svg class="icicle" viewBox="0 0 {_WIDTH} {rows * _ROW}" role="img"'
        f' aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


_Drawn = tuple[str, float, int, float, _Box]


def _drawn(box: _Box, left: float, row: int, scale: float) -> Iterator[_Drawn]:
    """Yield library, left edge, row, width and box of all that is wide enough to be seen."""
    library = "" if box.frame is None else short_file(box.frame[1])[0]
    yield library, left, row, box.size_bytes * scale, box
    for each in sorted(box.below.values(), key=lambda b: -b.size_bytes):
        width = each.size_bytes * scale
        if width >= _LEAST_WIDTH:
            yield from _drawn(each, left, row + 1, scale)
        left += width


def _rect(color: int, drawn: _Drawn) -> str:
    _, left, row, width, box = drawn
    size = format_size(box.size_bytes)
    if box.frame is None:
        text, whole = f"all that is traced: {size}", f"all that is traced: {size}"
    else:
        text = f"{short_file(box.frame[1])[0]}: {box.frame[0] or NO_NAME} {size}"
        whole = f"{frame_text(box.frame)}: {size}, allocations: {box.count}"
    room = int((width - 8) / _LETTER)
    shown = "" if room < 4 else text if len(text) <= room else f"{text[: room - 1]}\u2026"
    fill = "" if box.frame is None else f' fill="{look(color).color}"'
    y = row * _ROW
    label = f'<text x="{left + 4:.1f}" y="{y + 15}">{escape(shown)}</text>' if shown else ""
    return (
        f'<g><title>{escape(whole)}</title><rect x="{left:.1f}" y="{y}" width="{width:.1f}"'
        f' height="{_ROW}"{fill}/>{label}</g>'
    )
