"""What harness ab makes of its flags: a plan for each side, turns, and one verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.stopping import Look
from harness.cli import ab, compare, main
from harness.core.errors import MeasuredFailure
from harness.images.variant import Variant
from harness.plan import Plan
from harness.plan.options import Isolate, Order
from harness.topology import sides
from harness.topology.bench import Bench
from harness.topology.resume import write_bench_file

PLAN = [
    *("--executor", "thread", "--ps-connector", "local", "--stage-task-counts", "1"),
    *("--stage-bytes-sizes", "1KB", "1KB", "--task-sleep", "0", "--no-report"),
]


class Case:
    """What would be run, and what was compared with what."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.benches: list[Bench] = []
        self.seed = 0
        self.fails: MeasuredFailure | None = None
        self.codes: list[int] = []
        self.compared: list[list[str]] = []
        self.enough: Callable[[], bool] = lambda: False

    def call(self, *words: str) -> int:
        return main.main(["ab", *words, "--run-dir", str(self.place), *PLAN])

    @property
    def directory(self) -> Path:
        (found,) = self.place.glob("ab-*")
        return found


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    case = Case(tmp_path)

    class FakeTurns:
        def __init__(self, benches: list[Bench], seed: int, enough: Callable[[], bool]) -> None:
            case.benches, case.seed, case.enough = benches, seed, enough
            self.topologies_s = 1.0

        def run(self) -> None:
            for bench in case.benches:
                write_bench_file(bench.directory.bench, bench.plan, {})
            if case.fails is not None:
                raise case.fails

    def variant_of(plan: Plan, _say: object) -> Variant | None:
        assert plan.topology is not None
        words = tuple(plan.topology.stack)
        return Variant(words, "3.13", {}, (), tmp_path) if words else None

    def compared(words: Sequence[str]) -> int:
        case.compared.append(list(words))
        sys.stdout.write(f"compared {Path(words[1]).name}\n")
        return case.codes[len(case.compared) - 1] if case.codes else 0

    monkeypatch.setattr("harness.core.interrupt.install", lambda: None)
    monkeypatch.setattr(ab, "Turns", FakeTurns)
    monkeypatch.setattr(ab, "variant_of", variant_of)
    monkeypatch.setattr(ab, "admit", lambda *_: [])
    for name in ("ensure", "require_images", "clear_the_way"):
        monkeypatch.setattr(sides, name, lambda *_, **__: {})
    monkeypatch.setattr(ab, "write_quality", lambda _: {})
    monkeypatch.setattr(compare, "main", compared)
    return case


def test_sides_have_one_plan_and_their_own_stacks(case: Case) -> None:
    assert (
        case.call("--a", "dask==1", "--b", "dask==2", "x", "--c", "--stack", "y", "--seed", "7")
        == 0
    )
    stacks = []
    for bench in case.benches:
        topology = bench.plan.topology
        assert topology is not None
        stacks.append(topology.stack)
        assert (topology.isolate, bench.plan.general.order) == (Isolate.RUN, Order.INTERLEAVED)
        assert bench.plan.general.repeat == 6
        assert topology.until is None
    assert stacks == [["y", "dask==1"], ["y", "dask==2", "x"], ["y"]]
    assert case.seed == 7
    assert len({id(bench.last) for bench in case.benches}) == 1
    place = case.directory
    assert [bench.directory.path for bench in case.benches] == [place / side for side in "abc"]
    found = json.loads((place / "ab.json").read_text())
    assert found["sides"]["b"] == "y, dask==2, x, Python 3.13"


def test_what_it_costs_beside_the_topologies_is_said_and_kept(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert case.call("--a", "dask==1", "--b", "dask==2") == 0
    seconds = json.loads((case.directory / "ab.json").read_text())["seconds"]
    assert seconds["topologies"] == 1.0
    assert set(seconds) == {"topologies", "page", "turns and comparison"}
    assert "Topologies took 1 s, the page 0 s, taking turns and" in capsys.readouterr().err


def test_a_side_without_words_is_the_checkouts_own(case: Case) -> None:
    assert case.call("--a", "--b", "dask==2") == 0
    assert case.benches[0].variant is None
    named = json.loads((case.directory / "ab.json").read_text())["sides"]
    assert named == {"a": "this checkout's own versions", "b": "dask==2, Python 3.13"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--a and --b: both sides are needed"),
        (["--a", "dask==1"], "--a and --b: both sides are needed"),
        (["--a", "x", "--b", "y", "--against", "z", "--until", "5%"], "--against: the sides"),
        (["--a", "x", "--b", "y", "--primry", "peak"], "did you mean --primary?"),
    ],
)
def test_bad_words_are_one_line(
    case: Case, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert case.call(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(case.place.glob("ab-*"))


def test_what_is_asked_goes_to_the_comparison(case: Case) -> None:
    case.codes = [0, 5]
    words = ("--primary", "net_peak:runner", "--threshold", "10%", "--all", "--metrics", "a", "b")
    assert case.call("--a", "x", "--b", "y", "--c", "z", *words) == 5
    first, second = case.compared
    place = case.directory
    assert first[:2] == [str(place / "a"), str(place / "b")]
    assert second[:2] == [str(place / "a"), str(place / "c")]
    asked = ["--metrics", "a", "b", "--primary", "net_peak:runner", "--threshold", "0.1", "--all"]
    assert first[2:] == second[2:] == asked


@pytest.mark.parametrize(("codes", "code"), [([1, 5], 1), ([5, 1], 1), ([0, 0], 0), ([5, 0], 5)])
def test_one_that_became_worse_decides(case: Case, codes: list[int], code: int) -> None:
    case.codes = codes
    assert case.call("--a", "x", "--b", "y", "--c", "z") == code


def test_one_file_has_all_comparisons(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    output = case.place / "comment.md"
    words = ("--format", "markdown", "--output", str(output))
    assert case.call("--a", "x", "--b", "y", "--c", "z", *words) == 0
    assert output.read_text() == "compared b\n\ncompared c\n"
    assert case.compared[0][2:] == ["--format", "markdown"]
    assert "compared" not in capsys.readouterr().out


def test_runs_that_failed_are_told_after_the_comparison(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.fails = MeasuredFailure("run 0001-none-1: failed: no")
    assert case.call("--a", "x", "--b", "y") == 1
    out, err = capsys.readouterr()
    assert "compared b" in out
    assert err.splitlines()[-1] == "harness ab: error: run 0001-none-1: failed: no"


def test_resume_takes_plan_and_question_of_the_earlier_one(case: Case) -> None:
    assert case.call("--a", "dask==1", "--b", "dask==2", "--repeat", "3", "--primary", "peak") == 0
    before = [bench.plan for bench in case.benches]
    assert main.main(["ab", "--resume", str(case.directory)]) == 0
    assert [bench.plan for bench in case.benches] == before
    assert case.compared[1] == case.compared[0]


@pytest.mark.parametrize("words", [["--resume", "nowhere"], ["--resume", ".", "--repeat", "3"]])
def test_resume_names_what_is_wrong(
    case: Case, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main.main(["ab", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--resume" in line


def test_until_asks_all_sides_together(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert case.call("--a", "x", "--b", "y", "--c", "z", "--until", "10%") == 0
    assert {bench.plan.general.repeat for bench in case.benches} == {60}
    done = {"a": 5, "b": 5, "c": 5}
    looks: list[tuple[str, str]] = []
    stopped: list[tuple[str, int]] = []
    answers: dict[str, bool] = {"b": True, "c": False}

    def look(session: Any, until: float, against: Any) -> Look:
        assert until == 0.1
        looks.append((session.path.name, against.path.name))
        return Look(answers[session.path.name], "said")

    class Read:
        def __init__(self, path: Path) -> None:
            self.path = path

    modes = len(case.benches[0].plan.workload.modes)
    monkeypatch.setattr(
        Bench, "done", lambda self: frozenset(range(done[self.directory.path.name] * modes))
    )
    monkeypatch.setattr(
        Bench,
        "stop_after",
        lambda self, of_each, _: stopped.append((self.directory.path.name, of_each)),
    )
    monkeypatch.setattr(ab, "look", look)
    monkeypatch.setattr(ab, "read_session", Read)
    assert not case.enough()
    assert looks == [("b", "a"), ("c", "a")]
    # Between two looks, or in the middle of a turn, nothing is asked.
    done = {"a": 6, "b": 6, "c": 6}
    assert not case.enough()
    done = {"a": 8, "b": 8, "c": 7}
    assert not case.enough()
    assert len(looks) == 2
    done, answers = {"a": 8, "b": 8, "c": 8}, {"b": True, "c": True}
    assert case.enough()
    assert stopped == [("a", 8), ("b", 8), ("c", 8)]
