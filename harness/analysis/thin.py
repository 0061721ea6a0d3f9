"""Fewer points that look the same and keep every peak."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.analysis.series import Levels

Indices = npt.NDArray[np.int64]


def thin(levels: Levels, points: int) -> Indices:
    """Return which values to draw: of each stretch its lowest and its highest.

    The highest and the lowest of all values are always among them (min-max thinning; LTTB would
    draw prettier lines and may lose a peak of one sample). Where values are missing, one NaN is
    kept so that the line breaks there.

    Args:
        levels: values at even distances, NaN where missing.
        points: about how many to keep, at least four.
    """
    there = ~np.isnan(levels)
    known = np.flatnonzero(there)
    if len(known) <= points:
        kept = known
    else:
        chosen = [known[[0, -1]]]
        for stretch in np.array_split(known, max(points // 2, 1)):
            values = levels[stretch]
            chosen.append(stretch[[values.argmin(), values.argmax()]])
        kept = np.unique(np.concatenate(chosen))
    breaks = np.flatnonzero(there[:-1] & ~there[1:]) + 1
    inner = breaks[breaks < known[-1]] if len(known) else breaks[:0]
    return np.union1d(kept, inner[:points])


def thin_together(all_levels: list[Levels], points: int) -> Indices:
    """Return which values to draw of several series on the same ticks, as for a stack.

    Keeps what :func:`thin` keeps of each.
    """
    kept = [thin(levels, max(points // len(all_levels), 4)) for levels in all_levels]
    found: Indices = np.unique(np.concatenate(kept))
    return found
