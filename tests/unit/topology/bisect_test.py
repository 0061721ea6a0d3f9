"""Finding a commit in real git repositories, with runs that never were."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.compare import Sample
from harness.core.errors import HarnessError, InfrastructureError, UsageError
from harness.core.sizes import format_size
from harness.topology.bisect import (
    Asked,
    Bisection,
    Failure,
    Mark,
    Result,
    Undecided,
    side_of,
    steps_of,
)
from harness.topology.repository import History, Repository
from tests.repositories import git, line, repository

MB = 1e6


@dataclass
class Fake:
    """Measures nothing: each commit has a level, around which its runs scatter."""

    levels: Mapping[str, float]
    noise: float = 1 * MB
    failures: Mapping[str, Failure] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    values: dict[str, list[float]] = field(default_factory=dict)
    fails_at: int = 10**9
    calls: int = 0

    def __call__(self, commits: Sequence[str], runs: int) -> dict[str, Sample | Failure]:
        self.calls += 1
        if self.calls >= self.fails_at:
            raise KeyboardInterrupt
        for commit in commits:
            if commit in self.failures:
                return {commit: self.failures[commit]}
        for commit in commits:
            known = self.values.setdefault(commit, [])
            assert len(known) < runs, "asked for runs that it has"
            while len(known) < runs:
                known.append(self.chance.gauss(self.levels[commit], self.noise))
        return {commit: Sample(tuple(self.values[commit]), 3 * MB) for commit in commits}


@dataclass
class Search:
    """A bisection of a repository that was made for it."""

    place: Path
    commits: list[str]
    measure: Any
    asked: Asked
    said: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def run(self, ends: Any = (), steps: Any = ()) -> tuple[Result, Bisection]:
        with tempfile.TemporaryDirectory() as scratch:
            bisection = Bisection(
                self.asked,
                History(Repository.at(str(self.place)), Path(scratch)),
                self.measure,
                self.said.append,
                format_size,
                lambda: self.kept.update(json.loads(json.dumps(bisection.facts()))),
                lambda _: (),
                tuple(ends),
                list(steps),
            )
            result = bisection.run()
            self.said += bisection.conclusion(result).splitlines()
        return result, bisection


def search(place: Path, levels: Sequence[float], parents: Any = None, **more: Any) -> Search:
    commits = repository(place, parents or line(len(levels)))
    failures = {commits[n]: why for n, why in more.pop("failures", {}).items()}
    measure = Fake(dict(zip(commits, levels, strict=True)), failures=failures, **more)
    asked = Asked(commits[0], commits[-1], repeat=3, most=12, threshold=0.05)
    return Search(place, commits, measure, asked)


def step_up(length: int, first_bad: int, low: float = 100, high: float = 150) -> list[float]:
    return [(low if number < first_bad else high) * MB for number in range(length)]


# --- the right commit -------------------------------------------------------------------------


@given(st.integers(2, 40), st.data())
@settings(max_examples=8)
def test_a_step_in_a_line_is_found_within_as_many_steps_as_git_needs(
    length: int, data: st.DataObject
) -> None:
    first_bad = data.draw(st.integers(1, length - 1))
    up = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as place:
        levels = step_up(length, first_bad, *((100, 150) if up else (150, 100)))
        asked = search(Path(place), levels)
        result, bisection = asked.run()
        assert result.commits == (asked.commits[first_bad],)
        assert len(bisection.steps) <= math.ceil(math.log2(length - 1))
        # The parent is either an end or a step: 0 % of nothing is never said.
        assert result.share == pytest.approx(1, abs=0.15)


def test_every_step_is_a_line_and_the_end_shows_the_neighbours(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(9, 6), noise=0)
    result, bisection = asked.run()
    short = [commit[:10] for commit in asked.commits]
    assert [line.rpartition(", ")[0] for line in asked.said[:6]] == [
        f"good end: {short[0]} Commit 0: 100 MB (6 runs), good",
        f"bad end: {short[8]} Commit 8: 150 MB (6 runs), bad",
        f"step 1: {short[4]} Commit 4: 100 MB (3 runs), good",
        f"step 2: {short[6]} Commit 6: 150 MB (3 runs), bad",
        f"step 3: {short[5]} Commit 5: 100 MB (3 runs), good",
        "",
    ]
    assert asked.said[5:] == [
        f"{asked.commits[6]} is the first bad commit",
        "  Commit 6",
        "",
        f"  good end   {short[0]}    100 MB  of " + ", ".join(["100 MB"] * 6),
        f"  before     {short[5]}    100 MB  of " + ", ".join(["100 MB"] * 3),
        f"  first bad  {short[6]}    150 MB  of " + ", ".join(["150 MB"] * 3),
        f"  bad end    {short[8]}    150 MB  of " + ", ".join(["150 MB"] * 6),
        "",
        "It makes 100 % of the difference between the ends; beside its parent it is worse.",
    ]
    assert result == Result((asked.commits[6],), (asked.commits[5],), 1.0)
    assert [step.mark for step in bisection.steps] == [Mark.GOOD, Mark.BAD, Mark.GOOD]


def test_neighbours_that_are_the_ends_need_no_step(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(2, 1))
    result, bisection = asked.run()
    assert (result.commits, result.before) == ((asked.commits[1],), (asked.commits[0],))
    assert bisection.steps == []
    assert asked.measure.calls == 1


# Two branches from 1: 2-3-4 and 5-6-7, merged in 8; then 9, 10.
MERGED = [[], [0], [1], [2], [3], [1], [5], [6], [4, 7], [8], [9]]


@pytest.mark.parametrize("first_bad", range(1, 11))
def test_a_step_on_a_branch_is_found_through_its_merge(tmp_path: Path, first_bad: int) -> None:
    bad = {first_bad}
    for number, above in enumerate(MERGED):
        if bad & set(above):
            bad.add(number)
    levels = [(150 if number in bad else 100) * MB for number in range(len(MERGED))]
    asked = search(tmp_path, levels, MERGED)
    result, bisection = asked.run()
    assert result.commits == (asked.commits[first_bad],)
    assert len(bisection.steps) <= math.ceil(math.log2(len(MERGED))) + 1
    # Where both parents were measured none of them is the one before.
    assert (result.share is None) == (len(result.before) != 1)


def test_commits_that_do_not_build_are_stepped_over(tmp_path: Path) -> None:
    broken = {n: Failure("cannot be built: no wheel came of it") for n in (5, 6, 8)}
    asked = search(tmp_path, step_up(17, 12), failures=broken)
    result, bisection = asked.run()
    assert result.commits == (asked.commits[12],)
    skipped = [step for step in bisection.steps if step.mark is Mark.SKIP]
    assert asked.commits[8] in [step.commit for step in skipped]
    # git then takes one that does not halve what is left.
    assert len(bisection.steps) <= 4 + 2 * len(skipped)
    assert any(
        "Commit 8: skip (cannot be built: no wheel came of it), " in each for each in asked.said
    )


@given(st.sets(st.integers(1, 18), max_size=6), st.integers(1, 19))
@settings(max_examples=8)
def test_skips_cost_the_answer_only_where_they_touch_it(broken: set[int], first_bad: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        failures = {number: Failure("broken") for number in broken}
        asked = search(Path(place), step_up(20, first_bad), failures=failures)
        result, bisection = asked.run()
        numbers = sorted(asked.commits.index(commit) for commit in result.commits)
        # From the first skipped one before it to the first one at or after it that runs.
        low, high = first_bad, first_bad
        while low - 1 in broken:
            low -= 1
        while high in broken:
            high += 1
        assert numbers == list(range(low, high + 1))
        assert result.found is (low == high)
        skips = sum(step.mark is Mark.SKIP for step in bisection.steps)
        assert skips <= len(broken)
        assert len(bisection.steps) - skips <= math.ceil(math.log2(19)) + 2


def test_what_cannot_be_said_is_a_list(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(6, 3), failures={3: Failure("a run ended as failed: no")})
    result, _ = asked.run()
    assert not result.found
    assert result.commits == (asked.commits[3], asked.commits[4])
    first = next(n for n, said in enumerate(asked.said) if said.startswith("The first bad commit"))
    assert asked.said[first] == (
        "The first bad commit is one of these 2: 1 skipped, so that it cannot be said which"
    )
    assert asked.said[first + 1].startswith(
        f"  {asked.commits[3][:10]} Commit 3: skip (a run ended as failed: no), "
    )
    assert asked.said[first + 2].startswith(f"  {asked.commits[4][:10]} Commit 4: 15")


# --- which side -------------------------------------------------------------------------------

GOOD = [99.0, 100.0, 100.5, 101.0, 100.2, 99.8]
BAD = [149.0, 150.0, 150.5, 151.0, 150.2, 149.8]


@pytest.mark.parametrize(
    ("values", "side"),
    [
        ([100.0, 101.0, 99.0], Mark.GOOD),
        ([60.0, 61.0, 59.0], Mark.GOOD),
        ([150.0, 151.0, 149.0], Mark.BAD),
        ([190.0, 191.0, 189.0], Mark.BAD),
        # In between: the nearer end's.
        ([115.0, 116.0, 114.0], Mark.GOOD),
        ([135.0, 134.0, 136.0], Mark.BAD),
        # In the middle, on both sides, or too few.
        ([125.0, 125.1, 124.8], None),
        ([100.0, 150.0, 101.0], None),
        ([100.0], None),
    ],
)
def test_a_commit_is_the_nearer_ends(values: list[float], side: Mark | None) -> None:
    assert side_of(values, GOOD, BAD) is side
    other = {Mark.GOOD: Mark.BAD, Mark.BAD: Mark.GOOD, None: None}[side]
    assert side_of(values, BAD, GOOD) is other


@given(st.sampled_from([3, 6, 9]), st.floats(0.5, 1e9), st.integers(0, 10**6))
def test_a_side_does_not_depend_on_the_unit(runs: int, scale: float, seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.gauss(118, 6) for _ in range(runs)]
    a, b, c = ([value * scale for value in each] for each in (values, GOOD, BAD))
    assert side_of(values, GOOD, BAD) is side_of(a, b, c)


def test_noise_is_seldom_taken_for_a_side() -> None:
    """The ends differ by two standard deviations, the least that six runs of each show."""
    chance, wrong, none = random.Random(7), 0, 0
    for _ in range(400):
        good = [chance.gauss(100, 5) for _ in range(6)]
        bad = [chance.gauss(110, 5) for _ in range(6)]
        side = side_of([chance.gauss(100, 5) for _ in range(3)], good, bad, 0.05 / 4)
        wrong += side is Mark.BAD
        none += side is None
    assert wrong <= 4
    assert none > 200  # so that more runs are asked for


def test_a_change_in_two_commits_ends_at_the_one_that_passes_the_middle(tmp_path: Path) -> None:
    levels = [100 * MB] * 4 + [118 * MB] * 4 + [150 * MB] * 5
    asked = search(tmp_path / "share", levels)
    result, _ = asked.run()
    assert result.commits == (asked.commits[8],)
    assert result.share == pytest.approx(0.64, abs=0.05)
    # Before it, and after it.
    for number, three in enumerate(
        (levels, [100 * MB] * 8 + [132 * MB] * 2 + [150 * MB] * 3, step_up(13, 8))
    ):
        asked = search(tmp_path / str(number), three)
        result, _ = asked.run()
        assert result.commits == (asked.commits[8],)
        assert "beside its parent it is worse." in asked.said[-1]
        assert asked.said[-1].endswith("Other commits changed it, too.") is (number < 2)


# --- as many runs as it takes -----------------------------------------------------------------


def test_a_noisy_commit_gets_more_runs_and_a_hopeless_one_is_skipped(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(6, 3))
    middle = asked.commits[2]
    asked.measure.levels = asked.measure.levels | {middle: 125 * MB}
    _, bisection = asked.run()
    (step,) = [step for step in bisection.steps if step.commit == middle]
    assert (step.mark, len(step.values)) == (Mark.SKIP, 12)
    assert step.why == "its runs do not say to which end it is nearer"
    assert len(asked.measure.values[asked.commits[3]]) == 3


def test_looks_share_one_level() -> None:
    asked = Asked("a", "b", repeat=3, most=12, threshold=0.05)
    assert asked.looks() == [3, 6, 9, 12]
    assert asked.alpha == pytest.approx(0.0125)
    looks, alpha = asked.ends()
    assert looks == [6, 9, 12, 15, 18, 21, 24]
    assert alpha == pytest.approx(0.05 / 7)
    assert replace(asked, most=3).looks() == [3]
    assert replace(asked, most=4).looks() == [3, 4]
    assert replace(asked, most=3).ends()[0] == [6]


@pytest.mark.parametrize("repeat", range(1, 13))
def test_numbers_of_runs_that_could_say_nothing_are_refused(repeat: int) -> None:
    for most in range(1, 30):
        asked = Asked("a", "b", repeat, most, 0.05)
        if most < max(2, repeat):
            with pytest.raises(UsageError, match=f"--most {most}: "):
                asked.check()
        else:
            asked.check()


# --- the ends ---------------------------------------------------------------------------------


def test_ends_that_do_not_differ_are_nothing_to_bisect(tmp_path: Path) -> None:
    asked = search(tmp_path, [100 * MB] * 5, noise=0.3 * MB)
    with pytest.raises(
        UsageError, match=r"--good and --bad: do not differ \(.*equivalent"
    ) as found:
        asked.run()
    assert "name ends that do, or a lower --threshold" in str(found.value)
    assert asked.measure.calls == 1
    assert asked.said[0].startswith(f"good end: {asked.commits[0][:10]} Commit 0: 100 MB (6 runs)")


def test_ends_that_noise_hides_are_undecided(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(5, 2, 100, 104), noise=20 * MB)
    with pytest.raises(Undecided, match="24 runs of each do not tell them apart") as found:
        asked.run()
    assert found.value.exit_code == 5
    assert "it would take" in str(found.value)


def test_ends_get_more_runs_until_they_are_told_apart(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(2, 1, 100, 112), noise=7 * MB)
    _, bisection = asked.run()
    assert [len(end.values) for end in bisection.ends] == [9, 9]


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (Failure("cannot be built"), UsageError, "--good {0}: cannot be built: name another"),
        (Failure("no engine", machine=True), InfrastructureError, "no engine"),
    ],
)
def test_an_end_that_fails_ends_it(
    tmp_path: Path, failure: Failure, kind: type[HarnessError], said: str
) -> None:
    asked = search(tmp_path, step_up(5, 2), failures={0: failure})
    with pytest.raises(kind) as found:
        asked.run()
    assert str(found.value).startswith(said.format(asked.commits[0][:10]))


# --- whose fault ------------------------------------------------------------------------------


def test_the_good_end_runs_once_more_where_the_machine_may_be_at_fault(tmp_path: Path) -> None:
    failure = Failure("a run ended as infrastructure: not ready", machine=True)
    asked = search(tmp_path, step_up(9, 6), failures={4: failure})
    result, bisection = asked.run()
    assert result.commits == (asked.commits[6],)
    assert len(asked.measure.values[asked.commits[0]]) == 7
    assert len(bisection.ends[0].values) == 7


def test_what_fails_at_the_good_end_too_is_the_machine(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(9, 6))

    class Breaking(Fake):
        def __call__(self, commits: Sequence[str], runs: int) -> dict[str, Sample | Failure]:
            found = super().__call__(commits, runs)
            gone = Failure("the disk is full", machine=True)
            return found if len(commits) == 2 else dict.fromkeys(commits, gone)

    asked.measure = Breaking(asked.measure.levels)
    with pytest.raises(InfrastructureError, match="the disk is full; and so does the good end"):
        asked.run()
    assert asked.kept["steps"] == []


# --- going on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 7))
def test_it_goes_on_after_an_interruption_without_measuring_again(tmp_path: Path, at: int) -> None:
    broken = {10: Failure("broken")}
    asked = search(tmp_path, step_up(20, 13), failures=broken, fails_at=at)
    with pytest.raises(KeyboardInterrupt):
        asked.run()
    kept = {"ends": [], "steps": []} | asked.kept
    asked.measure.fails_at = 10**9
    if not kept["ends"]:
        asked.measure.values.clear()
    calls = asked.measure.calls
    result, bisection = asked.run(steps_of(kept["ends"]), steps_of(kept["steps"]))
    assert result.commits == (asked.commits[13],)
    # The Fake refuses runs that it has; what was decided is not asked for at all.
    assert len(bisection.steps) - len(kept["steps"]) + (not kept["ends"]) == (
        asked.measure.calls - calls
    )
    assert len({step.commit for step in bisection.steps}) == len(bisection.steps)


def test_steps_are_read_back_as_they_were(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(9, 6), failures={4: Failure("broken")})
    _, bisection = asked.run()
    assert steps_of(asked.kept["steps"]) == bisection.steps
    for odd in ({"commit": "../x"}, {"mark": "worse"}, {"values": ["a"]}):
        with pytest.raises(ValueError, match=r".+"):
            steps_of([{**asked.kept["steps"][0], **odd}])


# --- the repository ---------------------------------------------------------------------------


def test_the_users_checkout_is_not_touched(tmp_path: Path) -> None:
    asked = search(tmp_path, step_up(9, 6))
    git(tmp_path, "checkout", "--quiet", "main")
    (tmp_path / "mine.txt").write_text("not committed")
    git(tmp_path, "add", "mine.txt")

    def state() -> list[Any]:
        files = sorted(p for p in tmp_path.rglob("*"))
        return [(p, p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in files]

    before = state()
    asked.run()
    assert state() == before


def test_a_hooks_environment_does_not_name_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = search(tmp_path / "a", step_up(5, 2))
    repository(tmp_path / "other", line(2))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    result, _ = asked.run()
    assert result.commits == (asked.commits[2],)
    assert not (tmp_path / "other" / ".git" / "BISECT_LOG").exists()
