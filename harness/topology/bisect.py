"""Find the commit that changed a metric: git's own bisection, answered by runs of each commit.

What measures a commit is given to it, so that nothing here knows of containers. ``docs/bisect.md``
has the rules in words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

from harness.analysis import statistics
from harness.analysis.compare import Sample
from harness.analysis.statistics import ALPHA
from harness.analysis.verdicts import ANSWERS, Comparison, Rules, Sides, Verdict, compare
from harness.core.errors import UNDECIDED, HarnessError, InfrastructureError, UsageError
from harness.core.text import listed, one_line
from harness.topology.repository import SHORT, History, is_commit

_ENDS = 2
"""The ends get so many times the runs of a step: every step is compared with them."""


class Mark(StrEnum):
    """What git is told about a commit."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@dataclass(frozen=True)
class Failure:
    """Why a commit has no values.

    Attributes:
        reason: one line.
        machine: whether it may be the machine's fault, and not the commit's.
    """

    reason: str
    machine: bool = False


Measure = Callable[[Sequence[str], int], Mapping[str, Sample | Failure]]
"""Sees to it that each of some commits has so many runs, of which they take turns, and returns all
of their values. Runs that were done before are not done again. Where one of them cannot be run, it
may return that one's failure alone."""


class Undecided(HarnessError):  # noqa: N818  # nothing went wrong
    """The runs do not say whether the ends differ (exit code 5)."""

    exit_code: ClassVar[int] = UNDECIDED


@dataclass(frozen=True)
class Asked:
    """What is looked for.

    Attributes:
        good, bad: the ends, whole names of commits.
        repeat: runs of a step after which it is judged, and again after as many more.
        most: runs of a step after which it is skipped.
        threshold: the ends must differ by more than this share of the good end's median.
    """

    good: str
    bad: str
    repeat: int
    most: int
    threshold: float

    def check(self) -> None:
        """Refuse numbers of runs with which nothing could be said.

        Raises:
            UsageError: one line that says what would do.
        """
        if self.most < self.repeat:
            raise UsageError(f"--most {self.most}: is less than --repeat {self.repeat}")
        looks, alpha = self.ends()
        last = looks[-1]
        ends_can = math.comb(2 * last, last) * alpha >= 1
        step_can = math.comb(2 * last + self.most, self.most) * self.alpha >= 1
        if not ends_can or not step_can:
            raise UsageError(f"--most {self.most}: so few runs say nothing; take 2 or more")

    @property
    def alpha(self) -> float:
        """Level of one look at a step: all of its looks together are wrong at most as often."""
        return ALPHA / len(self.looks())

    def looks(self) -> list[int]:
        """Return after how many runs a step is judged."""
        return [*range(self.repeat, self.most, self.repeat), self.most]

    def ends(self) -> tuple[list[int], float]:
        """Return after how many runs of each the ends are compared, and the level of each look."""
        first, last = _ENDS * self.repeat, _ENDS * self.most
        looks = [*range(first, last, self.repeat), last]
        return looks, ALPHA / len(looks)


@dataclass(frozen=True)
class Step:
    """A commit that was measured, or could not be.

    Attributes:
        commit: its whole name.
        subject: first line of its message.
        mark: what git was told.
        values: one for each run, in the metric's unit.
        why: in words, where it was skipped.
        seconds: what it took.
        siblings: commits of other repositories that it was run with, as people read them.
    """

    commit: str
    subject: str
    mark: Mark
    values: tuple[float, ...] = ()
    why: str = ""
    seconds: float = 0.0
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """How the search ended.

    Attributes:
        commits: the first bad commit; or all that may be it, where some had to be skipped.
        before: parents of the first bad commit that were measured.
        share: how much of the difference between the ends it makes beside those; None where that
            is not known.
    """

    commits: tuple[str, ...]
    before: tuple[str, ...] = ()
    share: float | None = None

    @property
    def found(self) -> bool:
        """Whether it is one commit."""
        return len(self.commits) == 1


def side_of(
    values: Sequence[float], good: Sequence[float], bad: Sequence[float], alpha: float = ALPHA
) -> Mark | None:
    """Say on which side of the middle between two ends runs are; None where they do not say.

    The middle is not a number but as uncertain as the ends are: the runs of both, moved towards
    each other by half of what lies between them. What is on the same side as an end, and not by
    chance, is that end's: equal to it, beyond it, or between both and nearer to it.
    """
    between = statistics.shift(good, bad).middle
    middle = [value + between / 2 for value in good] + [value - between / 2 for value in bad]
    # The floor is about whether a difference matters, and that of the ends does.
    verdict = compare(Sides(middle, values), Rules(0.0, alpha)).verdict
    if verdict not in (Verdict.WORSE, Verdict.BETTER):
        return None
    return Mark.BAD if (verdict is Verdict.WORSE) == (between > 0) else Mark.GOOD


@dataclass
class Bisection:
    """Measures the ends, then the commits that git asks for, until there is an answer.

    Args:
        asked: what is looked for.
        history: git's side of it.
        measure: runs a commit.
        say: told one line for each commit.
        show: a value as people read it.
        changed: called when there is something new to be kept.
        siblings: what a commit is run with, as people read it; or a UsageError.

    Attributes:
        ends: the good and the bad one, once they were told apart.
        steps: those that are decided; given beforehand, they are not measured again.
    """

    asked: Asked
    history: History
    measure: Measure
    say: Callable[[str], None]
    show: Callable[[float], str]
    changed: Callable[[], object] = lambda: None
    siblings: Callable[[str], Sequence[str]] = lambda _: ()
    ends: tuple[Step, ...] = ()
    steps: list[Step] = field(default_factory=list)

    def run(self) -> Result:
        """Search, and return what was found.

        Raises:
            Undecided: if the runs do not tell the ends apart.
            UsageError: if the ends do not differ.
            HarnessError: if an end, or by all signs this machine, is at fault.
        """
        if not self.ends:
            self.ends = self._measure_ends()
            self.changed()
        for number, step in enumerate(self.steps, 1):
            self._tell(step, number)
        self.history.start(self.asked.good, self.asked.bad)
        for step in self.steps:
            self.history.mark(step.mark, step.commit)
        while (commit := self.history.waiting()) is not None:
            step = self._step(commit)
            self.steps.append(step)
            self.changed()
            self._tell(step, len(self.steps))
            self.history.mark(step.mark, commit)
        return self._result()

    def sample_of(self, commit: str) -> tuple[float, ...]:
        """Return the values of a commit, none if it was not measured."""
        return next((s.values for s in (*self.ends, *self.steps) if s.commit == commit), ())

    def beside(self, before: str, commit: str) -> Comparison:
        """Return a commit beside one before it, by the rules of ``harness compare``."""
        sides = Sides(self.sample_of(before), self.sample_of(commit))
        return compare(sides, Rules(self.asked.threshold))

    # --- the ends -----------------------------------------------------------------------------

    def _measure_ends(self) -> tuple[Step, ...]:
        began = time.monotonic()
        commits = (self.asked.good, self.asked.bad)
        siblings = [tuple(self.siblings(commit)) for commit in commits]
        looks, alpha = self.asked.ends()
        rules = Rules(self.asked.threshold, alpha)
        for runs in looks:
            good, bad = self._of_ends(self.measure(commits, runs))
            floor = max(good.floor, bad.floor)
            compared = compare(Sides(good.values, bad.values, floor), rules)
            if compared.verdict in ANSWERS:
                break
        seconds = time.monotonic() - began
        ends = tuple(
            Step(commit, self.history.subject(commit), mark, found.values, "", seconds / 2, beside)
            for commit, mark, found, beside in zip(
                commits, (Mark.GOOD, Mark.BAD), (good, bad), siblings, strict=True
            )
        )
        for end in ends:
            self.say(f"{end.mark} end: {self._line(end)}")
        self._require_difference(compared)
        return ends

    def _of_ends(self, found: Mapping[str, Sample | Failure]) -> tuple[Sample, Sample]:
        for commit, each in found.items():
            flag = "--good" if commit == self.asked.good else "--bad"
            if isinstance(each, Failure) and not each.machine:
                raise UsageError(
                    f"{flag} {commit[:SHORT]}: {each.reason}: name another commit, or pin with"
                    " --with what it needs"
                )
            if isinstance(each, Sample) and not each.values:
                raise UsageError(f"{flag} {commit[:SHORT]}: no run has a figure of the metric")
        reason = next((each.reason for each in found.values() if isinstance(each, Failure)), "")
        if reason:
            raise InfrastructureError(reason)
        good, bad = found[self.asked.good], found[self.asked.bad]
        assert isinstance(good, Sample)
        assert isinstance(bad, Sample)
        return good, bad

    def _require_difference(self, found: Comparison) -> None:
        medians = f"{self.show(found.a.median)} and {self.show(found.b.median)}"
        share = f"{self.asked.threshold * 100:.4g} %"
        if found.verdict in (Verdict.EQUIVALENT, Verdict.TOO_SMALL):
            raise UsageError(
                f"--good and --bad: do not differ ({medians}: {found.verdict}, --threshold"
                f" {share}): there is nothing to find; name ends that do, or a lower --threshold"
            )
        if found.verdict not in ANSWERS:
            raise Undecided(
                f"--good and --bad: {len(found.a.values)} runs of each do not tell them apart"
                f" ({medians}, --threshold {share}): it would take {found.needs}; raise --most, or"
                " name ends that differ more"
            )

    # --- a step -------------------------------------------------------------------------------

    def _step(self, commit: str) -> Step:
        began = time.monotonic()
        found = self._judged(commit)
        return replace(found, seconds=time.monotonic() - began)

    def _judged(self, commit: str) -> Step:
        step = Step(commit, self.history.subject(commit), Mark.SKIP)
        try:
            step = replace(step, siblings=tuple(self.siblings(commit)))
        except UsageError as why:
            return replace(step, why=str(why))
        good, bad = (end.values for end in self.ends)
        for runs in self.asked.looks():
            found = self.measure([commit], runs)[commit]
            if isinstance(found, Failure):
                self._check_machine(found)
                return replace(step, why=found.reason)
            step = replace(step, values=found.values)
            if not found.values:
                return replace(step, why="no run has a figure of the metric")
            side = side_of(found.values, good, bad, self.asked.alpha)
            if side is not None:
                return replace(step, mark=side)
        return replace(step, why="its runs do not say to which end it is nearer")

    def _check_machine(self, failure: Failure) -> None:
        """Let the good end run once more: what fails there, too, is not the commit's fault."""
        if not failure.machine:
            return
        good = self.ends[0]
        again = self.measure([good.commit], len(good.values) + 1)[good.commit]
        if isinstance(again, Failure):
            raise InfrastructureError(f"{failure.reason}; and so does the good end now")
        self.ends = (replace(good, values=again.values), *self.ends[1:])

    def _tell(self, step: Step, number: int) -> None:
        self.say(f"step {number}: {self._line(step)}")

    def _line(self, step: Step) -> str:
        found = []
        if step.values:
            runs = f"{len(step.values)} run{'' if len(step.values) == 1 else 's'}"
            found.append(f"{self.show(statistics.median(step.values))} ({runs})")
        found += [f"{step.mark}{f' ({step.why})' if step.why else ''}", f"{step.seconds:.0f} s"]
        beside = f" (with {listed(step.siblings)})" if step.siblings else ""
        return f"{named(step)}{beside}: {', '.join(found)}"

    # --- what came of it ----------------------------------------------------------------------

    def _result(self) -> Result:
        commits = tuple(self.history.candidates())
        if len(commits) > 1:
            return Result(commits)
        before = tuple(c for c in self.history.parents(commits[0]) if self.sample_of(c))
        there = self.sample_of(commits[0])
        share = None
        if len(before) == 1 and there:
            good, bad = (end.values for end in self.ends)
            whole = statistics.shift(good, bad).middle
            share = statistics.shift(self.sample_of(before[0]), there).middle / whole
        return Result(commits, before, share)

    def pair(self, result: Result) -> tuple[str, str]:
        """Return the two measured commits between which the change is: as near as can be."""
        good, bad = self.ends
        if len(result.before) != 1 or not self.sample_of(result.commits[0]):
            return good.commit, bad.commit
        return result.before[0], result.commits[0]

    def conclusion(self, result: Result) -> str:
        """Return what was found, with the values of the ends and of its neighbours."""
        by_commit = {step.commit: step for step in (*self.ends, *self.steps)}
        if not result.found:
            skipped = sum(step.mark is Mark.SKIP for step in self.steps)
            lines = [
                f"The first bad commit is one of these {len(result.commits)}: {skipped} skipped, so"
                " that it cannot be said which"
            ]
            return "\n".join([*lines, *(f"  {self._told(c, by_commit)}" for c in result.commits)])
        (commit,) = result.commits
        lines = [f"{commit} is the first bad commit", f"  {self.history.subject(commit)}", ""]
        rows = [("good end", self.ends[0]), *(("before", by_commit[c]) for c in result.before)]
        rows += [("first bad", by_commit[commit])] if commit in by_commit else []
        rows += [("bad end", self.ends[1])]
        lines += [self._values(label, step) for label, step in rows]
        lines += ["", self._jump(result)]
        return "\n".join(lines)

    def _told(self, commit: str, by_commit: Mapping[str, Step]) -> str:
        step = by_commit.get(commit, Step(commit, self.history.subject(commit), Mark.SKIP))
        return self._line(step) if commit in by_commit else f"{named(step)}: not measured"

    def _values(self, label: str, step: Step) -> str:
        values = ", ".join(self.show(value) for value in sorted(step.values))
        middle = self.show(statistics.median(step.values))
        return f"  {label:<9}  {step.commit[:SHORT]}  {middle:>8}  of {values}"

    def _jump(self, result: Result) -> str:
        (commit,) = result.commits
        if result.share is None:
            return "Its parent was not measured, or it has several: see the steps."
        found = self.beside(result.before[0], commit)
        needs = f": it would take {found.needs}" if found.needs else ""
        line = (
            f"It makes {result.share * 100:.0f} % of the difference between the ends; beside its"
            f" parent it is {found.verdict}{needs}."
        )
        return line + (" Other commits changed it, too." if self._others(result) else "")

    def _others(self, result: Result) -> bool:
        """Return whether the metric differs already before the commit, or once more after it."""
        good, bad = self.ends
        pairs = ((good.commit, result.before[0]), (result.commits[0], bad.commit))
        found = [self.beside(*pair).verdict for pair in pairs]
        return any(verdict in (Verdict.WORSE, Verdict.BETTER) for verdict in found)

    def facts(self) -> dict[str, Any]:
        """Return ends and steps as ``bisect.json`` has them."""
        return {
            "ends": [asdict(end) for end in self.ends],
            "steps": [asdict(step) for step in self.steps],
        }


def named(step: Step) -> str:
    """Return a commit as lines name it: a short name and the subject."""
    return f"{step.commit[:SHORT]} {step.subject}"


def steps_of(found: Any) -> list[Step]:
    """Return the steps of a ``bisect.json``, safe to print.

    Raises:
        ValueError, KeyError, TypeError: if they are none.
    """
    steps = [
        Step(
            commit=str(each["commit"]),
            subject=one_line(str(each["subject"])),
            mark=Mark(each["mark"]),
            values=tuple(float(value) for value in each["values"]),
            why=one_line(str(each["why"])),
            seconds=float(each["seconds"]),
            siblings=tuple(one_line(str(name)) for name in each.get("siblings", ())),
        )
        for each in found
    ]
    odd = next((s.commit for s in steps if not is_commit(s.commit)), "")
    if odd:
        raise ValueError(f"{odd!r} is no commit")
    return steps
