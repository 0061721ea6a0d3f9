"""What differs between two sessions' traces: what grew, where (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.analysis.why import OWN_PEAK, Account, Why

_LINE = re.compile(r":\d+\)$")
LEAST_BYTES = 1_000_000
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Change:
    """What one place holds at a service's own peak, on both sides.

    Attributes:
        place, caller: as of a holder, without the line: it moves from version to version.
        a_bytes, b_bytes: what it holds.
        a_copies, b_copies: number of copies of payloads in it.
    """

    place: str
    caller: str
    a_bytes: int
    b_bytes: int
    a_copies: int
    b_copies: int

    @property
    def change_bytes(self) -> int:
        """How much more the second side holds."""
        return self.b_bytes - self.a_bytes


@dataclass(frozen=True)
class ServiceChange:
    """The highest container of one service in one mode, on both sides.

    Attributes:
        mode, service: whose.
        a, b: the accounts.
        changes: places that hold more or less, the largest change first.
    """

    mode: str
    service: str
    a: Account
    b: Account
    changes: tuple[Change, ...]

    @property
    def change_bytes(self) -> int:
        """How much higher the second side's peak is."""
        return _net(self.b) - _net(self.a)


def _net(account: Account) -> int:
    return account.traced_bytes if account.kernel_bytes is None else account.kernel_bytes


def differences(a: Why, b: Why) -> Iterator[ServiceChange]:
    """Yield each service of each mode that both sides traced, by mode, the largest change first."""
    for run in a.session.runs:
        other = next((each for each in b.session.runs if each.mode == run.mode), None)
        if other is None:
            continue
        theirs = {account.service: account for account in b.highest(other.run_id, OWN_PEAK)}
        found = [
            ServiceChange(
                run.mode,
                account.service,
                account,
                theirs[account.service],
                tuple(_changes(account, theirs[account.service])),
            )
            for account in a.highest(run.run_id, OWN_PEAK)
            if account.service in theirs
        ]
        yield from sorted(found, key=lambda change: -abs(change.change_bytes))


def _changes(a: Account, b: Account) -> list[Change]:
    held: list[dict[tuple[str, str], tuple[int, int]]] = []
    for account in (a, b):
        of_side: dict[tuple[str, str], tuple[int, int]] = {}
        for holder in account.holders:
            key = _LINE.sub(")", holder.place), _LINE.sub(")", holder.caller)
            size, copies = of_side.get(key, (0, 0))
            of_side[key] = size + holder.size_bytes, copies + sum(holder.copies.values())
        held.append(of_side)
    first, second = held
    least = max(LEAST_BYTES, LEAST_SHARE * max(_net(a), _net(b)))
    found = []
    for key in dict.fromkeys((*first, *second)):
        (x, n), (y, m) = first.get(key, (0, 0)), second.get(key, (0, 0))
        if abs(y - x) >= least:
            found.append(Change(*key, x, y, n, m))
    return sorted(found, key=lambda change: -abs(change.change_bytes))
