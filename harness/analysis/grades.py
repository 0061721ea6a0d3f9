"""Whether what went less than well matters: fine, suspicious, or do not use.

Terminal, page and ``summary.json`` say the same, and all of it is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.analysis.digits import percent
from harness.analysis.session import Session
from harness.core.sizes import format_size

PAIRS = {
    "identity": "usage = anon + shmem + file + kernel + sock",
    "inside_against_cgroup": "inside against cgroup",
    "docker_against_cgroup": "docker against cgroup",
}
"""What ``quality.json`` compares, as people read it."""

# A view that missed more ticks than this may have missed what was short.
_KEPT = 0.9
# Of less than this, nothing is known of most of a run.
_HARDLY_KEPT = 0.5
# A run whose samples have such a gap has no figures of memory (harness/analysis/series.py).
_LONG_GAP_NS = 2_000_000_000
# Views that are further apart than this many times what is allowed do not see the same memory.
_FAR_APART = 10


class Grade(StrEnum):
    """Whether a warning matters to whoever uses the figures."""

    FINE = "fine"
    SUSPICIOUS = "suspicious"
    DO_NOT_USE = "do not use"


_ORDER = (Grade.DO_NOT_USE, Grade.SUSPICIOUS, Grade.FINE)


@dataclass(frozen=True)
class Finding:
    """One thing that was found about how well something was measured.

    Attributes:
        grade: whether it matters.
        what: what was found.
        why: what follows for the figures, in one sentence.
    """

    grade: Grade
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.grade}: {self.what}{'' if self.what.endswith('.') else '.'} {self.why}"

    def as_dict(self) -> dict[str, str]:
        """Return it for programs."""
        return {"grade": self.grade.value, "what": self.what, "why": self.why}


def worst(findings: Sequence[Finding]) -> Grade:
    """Return the gravest grade; fine where there is nothing."""
    return next((g for g in _ORDER if any(f.grade is g for f in findings)), Grade.FINE)


def warning(line: str) -> str:
    """Return a line of ``Session.problems``, or what a bench says of itself, with its grade."""
    return str(_problem(line.removeprefix("warning: ")))


def findings(session: Session) -> list[Finding]:
    """Return all that is known of how well a session was measured, the gravest first."""
    quality = session.documents.get("quality") or {}
    found = [_problem(line) for line in session.problems]
    found += _clocks(quality, session)
    found += _pairs(quality)
    found += _baselines(quality.get("baseline") or {})
    found += _absent(quality, session)
    if quality:
        bounds = quality.get("bounds_from", "-")
        found.append(Finding(Grade.FINE, f"bounds: {bounds}", "They say what views may differ by."))
    return sorted(found, key=lambda each: _ORDER.index(each.grade))


def _problem(line: str) -> Finding:
    if "no memory figures" in line:
        return Finding(Grade.DO_NOT_USE, line, "No figure of memory has this run in it.")
    return Finding(Grade.SUSPICIOUS, line, "All figures are of the rest.")


def _clocks(quality: Mapping[str, Any], session: Session) -> Iterator[Finding]:
    shown = session.memory.view if session.memory else ""
    exact = any(service == "topology" for _, service in session.peaks)
    for view in ("cgroup", "inside", "docker"):
        clock = (quality.get("clocks") or {}).get(view)
        gap = (quality.get("longest_gap_ns") or {}).get(view)
        if clock is None or gap is None:
            continue
        said = f"longest gap {gap / 1e6:.0f} ms"
        kept = 1.0
        if clock.get("late_p99_ns") is not None:
            kept = clock["kept"]
            said = (
                f"{percent(kept)} of the ticks at {clock['interval_ns'] / 1e6:g} ms,"
                f" {clock['missed']} missed, 99 % at most {clock['late_p99_ns'] / 1e6:.1f} ms late;"
                f" {said}"
            )
        grade, why = _clock(kept, gap, shown=view == shown, exact=exact)
        yield Finding(grade, f"{view} view: {said}", why)


def _clock(kept: float, gap_ns: float, *, shown: bool, exact: bool) -> tuple[Grade, str]:
    """Return what missed ticks mean to figures.

    Args:
        kept: share of the ticks that were read.
        gap_ns: the longest time without a reading.
        shown: whether figures are of this view.
        exact: whether the kernel's own peaks are there.
    """
    if not shown:
        return Grade.FINE, "No figure is of this view: it only checks the other."
    if kept >= _KEPT and gap_ns <= _LONG_GAP_NS:
        return Grade.FINE, "Curves and means rest on enough readings."
    if exact:
        return Grade.SUSPICIOUS, "Peaks are the kernel's and exact; curves and means are coarse."
    if kept >= _HARDLY_KEPT and gap_ns <= _LONG_GAP_NS:
        return Grade.SUSPICIOUS, "A short peak may be missing."
    return Grade.DO_NOT_USE, "Peaks are of too few readings: end other programs and run it again."


def _pairs(quality: Mapping[str, Any]) -> Iterator[Finding]:
    for key, name in PAIRS.items():
        found = quality.get(key) or {}
        if not quality or found.get("agrees") is None:
            continue
        bound, off = found["bound_bytes"], found["p95_bytes"]
        said = (
            f"{name}: 95 % of {found['readings']} readings off by at most {format_size(off)},"
            f" {'within' if found['agrees'] else 'NOT WITHIN'} {format_size(bound)};"
            f" largest {format_size(found['largest_bytes'])}"
            + (f" ({found['largest_at']})" if found["largest_at"] else "")
        )
        if found["agrees"]:
            yield Finding(Grade.FINE, said, "What is read twice is the same.")
        elif key == "docker_against_cgroup":
            yield Finding(Grade.FINE, said, "No figure is of the engine's view.")
        elif off > _FAR_APART * bound:
            yield Finding(Grade.DO_NOT_USE, said, "One of the two is wrong: 'harness calibrate'.")
        else:
            yield Finding(
                Grade.SUSPICIOUS, said, "Differences of this size between modes may be none."
            )


def _baselines(baseline: Mapping[str, Any]) -> Iterator[Finding]:
    verdicts = baseline.get("verdicts")
    if not verdicts or not baseline.get("window_ns"):
        return
    window_s, bound = baseline["window_ns"] / 1e9, format_size(baseline["bound_bytes"])
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    said = f"baselines (flat within {bound} for {window_s:g} s): {told}"
    late = baseline.get("timed_out") or []
    if not late:
        yield Finding(Grade.FINE, said, "Net figures begin at rest.")
    else:
        grade = Grade.DO_NOT_USE if 2 * len(late) > sum(verdicts.values()) else Grade.SUSPICIOUS
        yield Finding(
            grade,
            f"{said}; not flat before {', '.join(late)}",
            f"Net figures of these runs may be off by more than {bound}.",
        )
    for lack in baseline.get("not_trimmed") or ():
        yield Finding(
            Grade.FINE, f"could not be trimmed: {lack}", "Only what is left over concerns it."
        )


def _absent(quality: Mapping[str, Any], session: Session) -> Iterator[Finding]:
    shown = session.memory.view if session.memory else ""
    for view, lacks in (quality.get("absent") or {}).items():
        for what, why in lacks.items():
            # What is not there, of the view that figures are of, is missing from them.
            grade = Grade.SUSPICIOUS if view in (shown, "cgroup") else Grade.FINE
            said = "Figures are without it." if grade is not Grade.FINE else "No figure needs it."
            yield Finding(grade, f"{view} view: {what}: {why}", said)
