"""Whose clock a sample carries, and what to add to it on the way to another host's.

CLOCK_MONOTONIC is one for all processes of a host, containers included, unless a time namespace
shifts it. For another host's, messages go there and back (as in NTP, RFC 5905 section 8): what
the other clock showed lies between sending and receiving, so the offset is known to half of the
round trip, whatever the two directions took. Of several trips the fastest says most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round trip: our clock before, theirs in between, ours after; nanoseconds."""

    sent_ns: int
    there_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Offset:
    """What to add to another clock at one moment, and by how much that may be wrong.

    Attributes:
        there_ns: the moment, on the other clock.
        offset_ns: ours minus theirs.
        error_ns: bound of the error, half of the round trip.
    """

    there_ns: int
    offset_ns: int
    error_ns: int


def estimate(exchanges: Iterable[Exchange]) -> Offset:
    """Return the offset from the fastest of some round trips. Raises ValueError for none."""
    best = min(exchanges, key=lambda trip: trip.received_ns - trip.sent_ns)
    return Offset(
        there_ns=best.there_ns,
        offset_ns=(best.sent_ns + best.received_ns) // 2 - best.there_ns,
        error_ns=-((best.sent_ns - best.received_ns) // 2),
    )


def offset_at(there_ns: int, before: Offset, after: Offset) -> int:
    """Return the offset at a moment of the other clock, drift taken as linear between two.

    Outside of the two it is that of the nearer one.
    """
    span = after.there_ns - before.there_ns
    if span <= 0:
        return after.offset_ns
    passed = min(max(there_ns - before.there_ns, 0), span)
    return before.offset_ns + (after.offset_ns - before.offset_ns) * passed // span
