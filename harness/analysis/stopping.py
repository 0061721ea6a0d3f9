"""Whether the runs so far are enough: the question that ``--until`` asks now and then."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis import statistics
from harness.analysis.compare import (
    PRIMARY,
    Question,
    Row,
    compare_groups,
    compare_sessions,
)
from harness.analysis.figures import Group, group_runs, reference
from harness.analysis.session import Session
from harness.analysis.statistics import ALPHA_OF_A_LOOK
from harness.analysis.verdicts import ANSWERS, Rules, Verdict


@dataclass(frozen=True)
class Look:
    """What the runs so far say.

    Attributes:
        enough: whether that settles the question.
        said: one line: the answers, or what is still missing.
    """

    enough: bool
    said: str


def look(session: Session, until: float, against: Session | None = None) -> Look:
    """Say whether runs are enough to tell a difference of a share of the primary metric.

    Args:
        session: the runs so far.
        until: the share.
        against: runs that each mode is compared with. Without them modes are compared with the
            first of their own session; one mode alone is enough when as many runs again could show
            the share.
    """
    question = Question(Rules(until, ALPHA_OF_A_LOOK), services=False)
    if against is not None:
        return _of_rows(compare_sessions(against, session, question).primary)
    groups = [group for group in group_runs([session]) if group.figures]
    first = reference(groups)
    if first is None:
        return Look(False, "no run went through")
    pairs = [(first, group) for group in groups if group is not first]
    if not pairs:
        return _of_one(first, until)
    return _of_rows(
        [row for rows in compare_groups(pairs, question) for row in rows if row.primary]
    )


def _of_rows(rows: list[Row]) -> Look:
    open_ = [row for row in rows if row.verdict not in ANSWERS]
    # More runs make nothing comparable.
    enough = all(row.verdict is Verdict.NOT_COMPARABLE for row in open_)
    said = [f"{row.mode} {row.verdict.value}" for row in (rows if enough else open_)]
    return Look(enough, f"net peak: {', '.join(said)}")


def _of_one(group: Group, until: float) -> Look:
    peaks = [f.topology.net_peak_bytes for f in group.figures if f.topology is not None]
    seen = statistics.detectable_difference(peaks, peaks)
    middle = abs(statistics.median(peaks)) if peaks else 0.0
    if seen is None or not middle:
        return Look(False, f"{group.mode}: {PRIMARY} has no spread yet")
    percent = f"{seen / middle * 100:.2g} %"
    return Look(
        seen <= until * middle, f"net peak of {group.mode}: as many runs again would show {percent}"
    )
