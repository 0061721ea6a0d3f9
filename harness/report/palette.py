"""How modes and services are told apart: colours for the colour-blind, and never colour alone.

Colours are Okabe and Ito's (2008), the lighter ones darkened until lines stand out on white as on
black. Lines also differ in their dashes, areas in their hatching, points in their shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.series import Memory


@dataclass(frozen=True)
class Look:
    """How one thing is drawn.

    Attributes:
        color: hexadecimal.
        dash: of its lines, as plotly spells it.
        symbol: of its points, as plotly spells it.
        hatch: of its areas, as plotly spells it.
    """

    color: str
    dash: str
    symbol: str
    hatch: str

    def faint(self, alpha: float) -> str:
        """Return the colour, see-through."""
        return f"{_rgb(self.color)}{alpha})"


_COLORS = ("#0072B2", "#D55E00", "#008F68", "#B4609A", "#8A7A00", "#3F8FC4", "#7A7A7A", "#A0522D")
# The same on a dark page.
_DARK = ("#56B4E9", "#F08A3C", "#2FC39B", "#DE93C6", "#D6C640", "#8FCBEE", "#A8A8A8", "#D99A74")
INK = "#1B1F24"
"""Colour of lines that must stand out from all others."""
_DARK_INK = "#E6E9ED"
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "triangle-down",
    "pentagon",
)
_HATCHES = ("", "/", ".", "x", "-", "\\", "|", "+")

MODES = {"none": 0, "default-proxy": 1, "manual-proxy": 2, "owned-proxy": 3, "futures": 4}

MATPLOTLIB_DASHES = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (8, 3, 2, 3)),
}
MATPLOTLIB_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "triangle-down": "v",
    "pentagon": "p",
}


def look(number: int) -> Look:
    """Return the look of the n-th thing of a kind."""
    i = number % len(_COLORS)
    return Look(_COLORS[i], _DASHES[i], _SYMBOLS[i], _HATCHES[i])


def dark_colors() -> dict[str, str]:
    """Return what stands for each colour on a dark page, see-through ones by their beginning."""
    pairs = [*zip(_COLORS, _DARK, strict=True), (INK, _DARK_INK)]
    pairs += [*_SERVICES.values(), *_OTHER_SERVICES]
    pairs += zip(_STAGES, _STAGES_DARK, strict=True)
    return dict(pairs) | {_rgb(light): _rgb(dark) for light, dark in pairs}


def _rgb(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},"


# Tol's muted colours (2021), and for a dark page lighter ones: services are never modes.
_SERVICES = {
    "worker": ("#332288", "#A9A0E6"),
    "redis": ("#CC6677", "#E8A0AC"),
    "runner": ("#117733", "#6FCF8F"),
    "scheduler": ("#999933", "#D9D96B"),
    "endpoint": ("#882255", "#DB8FB3"),
    "service": ("#44AA99", "#7ED6C6"),
    "broker": ("#6A6A9A", "#B0B0D8"),
    "interchange": ("#999933", "#D9D96B"),
}
_OTHER_SERVICES = (("#AA4499", "#DC9AD0"), ("#5C8AA8", "#A3C9E0"), ("#7A6A4F", "#C9B998"))


# Tol's sunset (2021): an order, as stages have one, and neither modes nor services.
_STAGES = ("#364B9A", "#6EA6CD", "#EAD9A0", "#FDB366", "#DD3D2D", "#A50026")
_STAGES_DARK = ("#8193E0", "#8CC0E6", "#F4E9BD", "#FDC488", "#F0796C", "#E0566F")


def stage_color(stage: int) -> str:
    """Return the colour of a stage's tasks."""
    return _STAGES[stage % len(_STAGES)]


def dark_of(color: str) -> str:
    """Return what stands for a colour on a dark page."""
    return dark_colors().get(color, color)


def service_look(name: str) -> Look:
    """Return a service's look: the same in every report."""
    known = list(_SERVICES)
    if name in _SERVICES:
        number, (color, _) = known.index(name), _SERVICES[name]
    else:
        number = len(known) + sum(name.encode())
        color, _ = _OTHER_SERVICES[number % len(_OTHER_SERVICES)]
    i = number % len(_HATCHES)
    return Look(color, _DASHES[i], _SYMBOLS[i], _HATCHES[i])


def service_looks(memory: Memory) -> dict[str, Look]:
    """Return a look for each service in the order they are stacked: the largest at the bottom."""
    sizes = {name: float(np.nanmedian(levels)) for name, levels in memory.services.items()}
    return {name: service_look(name) for name in sorted(sizes, key=lambda n: (-sizes[n], n))}


def mode_looks(labels_and_modes: list[tuple[str, str]]) -> dict[str, Look]:
    """Return a look for each label; a mode has the same in all reports.

    Args:
        labels_and_modes: (label, mode) of each group; a mode's further groups get other looks.
    """
    found: dict[str, Look] = {}
    free = [n for n in range(len(_COLORS)) if n >= len(MODES)]
    used: set[int] = set()
    for label, mode in labels_and_modes:
        number = MODES.get(mode)
        if number is None or number in used:
            number = free[0] if free else len(found)
            free = free[1:]
        used.add(number)
        found[label] = look(number)
    return found
