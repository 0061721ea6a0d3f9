"""Whether a rerun gave the same answer, figure by figure, and whether it says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path

from harness.analysis.compare import (
    METRICS,
    Question,
    Row,
    compare_groups,
    compare_sessions,
    resolution_bytes,
)
from harness.analysis.figures import Group, group_runs
from harness.analysis.identity import Difference
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.analysis.verdicts import ANSWERS, Rules, Verdict

# What of the ledger makes the shape of a mode's memory; usage is their sum.
_PARTS = ("anon_bytes", "shmem_bytes", "file_bytes", "kernel_bytes")
# Shares of parts that differ by less than this tell the same.
_SAME_SHARE = 0.1
# What makes two machines one for times.
_MACHINE = ("CPU", "CPUs", "memory of the machine")


class Reproduced(StrEnum):
    """The answer for all figures."""

    YES = "reproduced"
    NO = "not reproduced"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Conclusion:
    """Something a reader takes from the published figures, and whether the rerun says it too.

    Attributes:
        what: the question: a mode beside another, or what a mode holds.
        published, again: what either side says.
        same: whether it is the same; None where a side does not say.
    """

    what: str
    published: str
    again: str
    same: bool | None


@dataclass(frozen=True)
class Reproduction:
    """A rerun beside what was published.

    Attributes:
        resolution_bytes: differences of memory up to this are below what the counters resolve.
        rows: mode by mode, metric by metric, topology and services.
        carries: names of the metrics that can be expected to be the same here: those of memory; of
            time only on the same machine.
        conclusions: what the figures say.
        environment: what else was not the same.
        regressions: modes that went through as published and not now, one line each.
    """

    resolution_bytes: float
    rows: tuple[Row, ...]
    carries: frozenset[str]
    conclusions: tuple[Conclusion, ...]
    environment: tuple[Difference, ...]
    regressions: tuple[str, ...]

    @property
    def counted(self) -> list[Row]:
        """The rows that the verdict is made of: the topology's that carry over."""
        return [r for r in self.rows if r.scope == TOPOLOGY and r.metric.name in self.carries]

    @property
    def verdict(self) -> Reproduced:
        """The answer for all figures.

        No if any is better or worse. Yes if none is, and each mode's net peak has an answer;
        without memory on either side, if any figure has.
        """
        found = {row.verdict for row in self.counted}
        if self.regressions or found & {Verdict.BETTER, Verdict.WORSE}:
            return Reproduced.NO
        decides = [row for row in self.counted if row.primary and row.comparison is not None]
        answers = [row.verdict in ANSWERS for row in decides or self.counted]
        enough = all(answers) if decides else any(answers)
        return Reproduced.YES if answers and enough else Reproduced.UNDECIDED

    @property
    def conclusion(self) -> str:
        """Whether the rerun says what was published: ``same``, ``other`` or ``undecided``."""
        said = {each.same for each in self.conclusions}
        if False in said:
            return "other"
        return "same" if True in said else "undecided"


def judge(published: Path, again: Path, threshold: float) -> Reproduction:
    """Compare a rerun with the published run directory.

    Args:
        published: its run directory.
        again: the rerun's.
        threshold: differences up to this fraction of the published median do not matter.

    Raises:
        UsageError: if one cannot be read, or has no run that went through.
    """
    first, second = read_session(published), read_session(again)
    if first.memory and second.memory and first.memory.view != second.memory.view:
        # Without an engine there may be no cgroups: what both have seen is resident memory.
        first, second = (read_session(each, resident=True) for each in (published, again))
    rules = Rules(threshold=threshold)
    every = tuple(metric.name for metric in METRICS)
    compared = compare_sessions(first, second, Question(rules, every, other_work=True))
    other_machine = any(d.what in _MACHINE for d in compared.differences)
    return Reproduction(
        max(resolution_bytes(first), resolution_bytes(second)),
        compared.rows,
        frozenset(m.name for m in METRICS if m.carries_over or not other_machine),
        tuple(_conclusions(first, second, rules)),
        compared.differences,
        compared.regressions,
    )


def _conclusions(published: Session, again: Session, rules: Rules) -> Iterator[Conclusion]:
    sides = [{g.mode: g for g in group_runs([s]) if g.figures} for s in (published, again)]
    modes = [mode for mode in sides[0] if mode in sides[1]]
    pairs = list(combinations(modes, 2))
    question = Question(rules, services=False)
    rows = [
        [
            next(row for row in rows if row.primary)
            for rows in compare_groups([(side[x], side[y]) for x, y in pairs], question)
        ]
        for side in sides
    ]
    for (x, y), first, second in zip(pairs, *rows, strict=True):
        known = first.verdict in ANSWERS and second.verdict in ANSWERS
        yield Conclusion(
            f"net peak of {y} beside {x}",
            _said(first),
            _said(second),
            first.verdict is second.verdict if known else None,
        )
    for mode in modes:
        yield from _shapes(mode, *(side[mode] for side in sides))
        yield from _objects(mode, published, again)


def _said(row: Row) -> str:
    found = row.comparison
    if found is None or found.change is None or row.verdict not in (Verdict.BETTER, Verdict.WORSE):
        return row.verdict.value
    return f"{found.change:+.0%}".replace("%", " %")


def _shapes(mode: str, published: Group, again: Group) -> Iterator[Conclusion]:
    """Yield what a mode's memory is made of when its runs end."""
    shares = [_shares(group) for group in (published, again)]
    if all(shares):
        first, second = shares
        same = all(abs(first[part] - second[part]) <= _SAME_SHARE for part in _PARTS)
        yield Conclusion(f"what {mode} holds at its end is", _shape(first), _shape(second), same)


def _shares(group: Group) -> dict[str, float]:
    """Return each part's share of the net memory at the end; nothing below what is resolved."""
    summary = group.topology
    if summary is None:
        return {}
    parts = {part: summary.parts.get(part) for part in _PARTS}
    sizes = {part: max(each.median, 0.0) if each else 0.0 for part, each in parts.items()}
    total = sum(sizes.values())
    if total <= resolution_bytes(group.session):
        return {}
    return {part: size / total for part, size in sizes.items()}


def _shape(shares: Mapping[str, float]) -> str:
    return ", ".join(
        f"{share:.0%} {part.removesuffix('_bytes')}".replace("%", " %")
        for part, share in shares.items()
        if round(share, 2)
    )


def _objects(mode: str, published: Session, again: Session) -> Iterator[Conclusion]:
    """Yield how many objects a mode holds in the connector when its runs end."""
    counts = [
        sorted(
            {
                r["objects_at_end"]
                for r in s.tables.get("objects", ())
                if r["data_management"] == mode
            }
        )
        for s in (published, again)
    ]
    if any(count for side in counts for count in side):
        first, second = (_numbers(side) for side in counts)
        yield Conclusion(f"objects of {mode} at its end", first, second, counts[0] == counts[1])


def _numbers(counts: Sequence[int]) -> str:
    return " or ".join(map(str, counts)) or "not recorded"
