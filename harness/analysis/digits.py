"""Numbers as tables and figures show them: three significant digits; files keep exact values."""

from __future__ import annotations

import math

DIGITS = 3


def three(value: float, *, signed: bool = False) -> str:
    """Return a number with three significant digits: ``12.3``, ``0.00123``, ``1230``.

    Args:
        value: any number.
        signed: whether a number above zero gets its sign, too.
    """
    if not math.isfinite(value):
        return str(value)
    # What 999.6 is rounded to has a digit more than itself.
    rounded = float(f"{value:.{DIGITS - 1}e}") + 0.0
    places = DIGITS - 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{rounded:{'+' if signed and rounded else ''}.{max(places, 0)}f}"


def seconds(value: float) -> str:
    """Return a time in seconds: ``12.3 s``."""
    return f"{three(value)} s"


def percent(share: float, *, signed: bool = False) -> str:
    """Return a share as percentage: ``12.3 %``."""
    return f"{three(share * 100, signed=signed)} %"
