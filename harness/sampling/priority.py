"""Waking on time although the machine is busy."""

from __future__ import annotations

import os


def raise_priority() -> str:
    """Ask for real-time scheduling, else a better nice value, and return what was granted.

    A sampler uses about 1 % of a core; at the lowest real-time priority (SCHED_FIFO 1) it wakes
    within half a millisecond even when every core is busy, at normal priority up to 70 ms late.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass
    else:
        return "SCHED_FIFO 1"
    try:
        return f"nice {os.nice(-10)}"
    except OSError:
        return "normal"
