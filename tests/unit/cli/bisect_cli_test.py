"""harness bisect from its flags to what it says; benches are replaced by run directories."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.readers import read_session
from harness.cli import _traced, bisect, main
from harness.core.errors import InfrastructureError, UsageError
from harness.results.directory import RunDirectory
from harness.results.rows import OutcomeRow, RowWriter
from harness.topology import sides
from harness.topology.bisect import Failure
from harness.topology.resume import write_bench_file
from tests.repositories import line, repository
from tests.rundirs import write_run_directory
from tests.traces import write_traced

MB = 1_000_000
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")
PLAN = [
    *("--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"),
    *("--data-management", "none", "--stage-task-counts", "1", "--task-sleep", "0"),
    *("--stage-bytes-sizes", "1MB", "1KB"),
]


def git(place: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(place), *IDENTITY, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a repository of six commits on main, the first of them tagged v1."""
    place = tmp_path / "some @ repo#1"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch", "main")
    for number in range(6):
        git(place, "commit", "--quiet", "--allow-empty", "-m", f"Commit {number}")
    git(place, "tag", "v1", "main~5")
    return place


def commits(repo: Path) -> list[str]:
    return git(repo, "rev-list", "--reverse", "main").split()


class World:
    """What stands for containers: a bench writes a run directory of planted peaks."""

    def __init__(self, levels: dict[str, float]) -> None:
        self.levels = levels
        self.broken: dict[str, str] = {}
        self.stops_before = ""
        self.words: list[list[str]] = []
        self.benched: list[tuple[str, int]] = []

    def variant_of(self, plan: Any, _say: Any) -> None:
        self.words.append(plan.topology.stack)
        commit = plan.topology.stack[0].rpartition("@")[2]
        if commit in self.broken:
            raise InfrastructureError(f"--stack {plan.topology.stack[0]!r}: cannot be built: no")

    def turns(self, benches: Sequence[Any], _seed: int, _enough: Any) -> Any:
        world = self

        class Turns:
            def run(self) -> None:
                for bench in benches:
                    world.bench(bench)

        return Turns()

    def bench(self, bench: Any) -> None:
        commit = bench.plan.topology.stack[0].rpartition("@")[2]
        if commit == self.stops_before:
            raise KeyboardInterrupt
        place, runs = bench.directory.path, bench.plan.general.repeat
        self.benched.append((commit, runs))
        bench.directory.log.unlink()
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
        peaks = [round(self.levels[commit] * MB) + number * 10_000 for number in range(runs)]
        write_run_directory(place, {"none": peaks}, events=False)
        write_bench_file(bench.directory.bench, bench.plan, {})


@pytest.fixture
def world(repo: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(dict(zip(commits(repo), [100, 100, 100, 100, 150, 150], strict=True)))
    monkeypatch.setattr(bisect, "variant_of", found.variant_of)
    monkeypatch.setattr(bisect, "Turns", found.turns)
    monkeypatch.setattr(bisect, "admit", lambda *_: [])
    for name in ("ensure", "require_images", "clear_the_way"):
        monkeypatch.setattr(sides, name, lambda *_, **__: {})
    return found


def run(repo: Path, tmp_path: Path, *more: str) -> int:
    where = ("--repo", str(repo), "--good", "v1", "--bad", "main", "--run-dir", str(tmp_path / "r"))
    return main.main(["bisect", *where, *PLAN, *more])


def place_of(tmp_path: Path) -> Path:
    (place,) = (tmp_path / "r").iterdir()
    return place


def test_it_finds_the_commit_and_keeps_every_step(
    repo: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(repo, tmp_path, "--metric", "net_peak:redis", "--with", "dask==2025.4.0") == 0
    out, err = capsys.readouterr()
    names = commits(repo)
    lines = out.splitlines()
    assert lines[0].startswith(f"good end: {names[0][:10]} Commit 0: 100 MB (6 runs), good, ")
    assert lines[1].startswith(f"bad end: {names[5][:10]} Commit 5: 150 MB (6 runs), bad, ")
    assert f"{names[4]} is the first bad commit" in lines
    assert (
        "It makes 100 % of the difference between the ends; beside its parent it is worse." in lines
    )
    place = place_of(tmp_path)
    short = [name[:10] for name in names]
    assert f"See also: harness compare {place / short[3]} {place / short[4]}" in lines
    assert lines[-1] == f"Directory: {place}"
    assert "5 commits after v1 up to main; net_peak:redis in mode none decides" in err
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["bisect.json", *{commit[:10] for commit, _ in world.benched}]
    )
    kept = json.loads((place / "bisect.json").read_text())
    assert kept["schema_version"] == 1
    assert kept["asked"] == {
        "repo": str(repo),
        "good": {"ref": "v1", "commit": names[0]},
        "bad": {"ref": "main", "commit": names[5]},
        "metric": "net_peak:redis",
        "threshold": 0.05,
        "repeat": 3,
        "most": 12,
        "siblings": [],
        "with": ["dask==2025.4.0"],
    }
    assert [end["mark"] for end in kept["ends"]] == ["good", "bad"]
    assert kept["result"]["commits"] == [names[4]]
    assert kept["result"]["before"] == [names[3]]
    assert kept["result"]["found"] is True
    # The place is quoted, as an address needs it; others are pinned for all commits alike.
    word = f"git+file://{tmp_path}/some%20%40%20repo%231@{names[0]}"
    assert world.words[0] == [word, "dask==2025.4.0"]


def test_each_commit_is_run_with_the_siblings_commit_of_its_time(
    repo: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    sibling = tmp_path / "dask"
    (beside,) = repository(sibling, line(1))
    world.stops_before = commits(repo)[3]
    assert run(repo, tmp_path, "--sibling", str(sibling), "--with", "numpy") == 130
    world.stops_before = ""
    assert main.main(["bisect", "--resume", str(place_of(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert f"Commit 4 (with dask {beside[:10]}): 150 MB (3 runs), bad, " in out
    assert f"Commit 0 (with dask {beside[:10]}): 100 MB (6 runs), good, " in out
    assert {tuple(words[1:]) for words in world.words} == {
        (f"git+file://{sibling}@{beside}", "numpy")
    }
    kept = json.loads((place_of(tmp_path) / "bisect.json").read_text())
    assert kept["asked"]["siblings"] == [str(sibling)]
    assert {tuple(step["siblings"]) for step in kept["steps"]} == {(f"dask {beside[:10]}",)}


def test_each_run_has_a_topology_and_the_first_failure_ends_a_commit(
    repo: Path, tmp_path: Path, world: World
) -> None:
    run(repo, tmp_path)
    place = place_of(tmp_path)
    plan = json.loads((place / commits(repo)[0][:10] / "bench.json").read_text())["plan"]
    assert plan["topology"]["isolate"] == "run"
    assert plan["topology"]["fail_fast"] is True
    assert plan["general"]["repeat"] == 6
    assert plan["general"]["order"] == "given"


def test_what_cannot_be_built_is_skipped_and_the_list_is_exit_code_5(
    repo: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    names = commits(repo)
    world.broken = {names[3]: "no"}
    assert run(repo, tmp_path) == 5
    out = capsys.readouterr().out
    assert f"Commit 3: skip (--stack '{names[3][:10]}': cannot be built: no), " in out
    assert "The first bad commit is one of these 2: 1 skipped" in out
    assert json.loads((place_of(tmp_path) / "bisect.json").read_text())["result"]["commits"] == [
        names[3],
        names[4],
    ]


def test_an_end_that_cannot_be_built_is_a_wrong_flag(
    repo: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    names = commits(repo)
    world.broken = {names[5]: "no"}
    assert run(repo, tmp_path) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"harness bisect: error: --bad {names[5][:10]}: --stack '{names[5][:10]}': cannot be built:"
        " no: name another commit, or pin with --with what it needs"
    )
    assert world.benched == []


def test_after_an_interruption_it_goes_on(
    repo: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    names = commits(repo)
    world.stops_before = names[3]
    assert run(repo, tmp_path) == 130
    place = place_of(tmp_path)
    assert f"'harness bisect --resume {place}' goes on from here" in capsys.readouterr().err
    world.stops_before = ""
    before = list(world.benched)
    assert main.main(["bisect", "--resume", str(place)]) == 0
    assert f"{names[4]} is the first bad commit" in capsys.readouterr().out
    assert {commit for commit, _ in world.benched[len(before) :]}.isdisjoint(
        commit for commit, _ in before
    )
    # Nothing is left to be measured: it says the same again.
    count = len(world.benched)
    assert main.main(["bisect", "--resume", str(place)]) == 0
    assert len(world.benched) == count


def test_why_traces_the_commit_and_its_parent_and_has_the_last_word(
    repo: Path,
    tmp_path: Path,
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = commits(repo)
    traced: list[tuple[str, Any]] = []

    def trace(plan: Any, directory: Any, *_: Any) -> None:
        commit = plan.topology.stack[0].rpartition("@")[2]
        traced.append((commit, plan.traced().general))
        size = 150 if commit == names[4] else 100
        within = write_traced(directory.path, "none", size * MB)
        assert within.outcomes.exists()

    monkeypatch.setattr(_traced, "trace", trace)
    monkeypatch.setattr(_traced, "clear_the_way", lambda *_: None)

    assert run(repo, tmp_path, "--why", "native") == 0

    assert [commit for commit, _ in traced] == [names[3], names[4]]
    assert all(general.traced and general.native for _, general in traced)
    lines = capsys.readouterr().out.splitlines()
    place = lines.index(f"Why, by one traced run of {names[3][:10]} and {names[4][:10]}:")
    assert lines[place + 1] == (
        "none: the runner needs 100 MB more at its peak: 100 MB more in `payload`, called from"
        " `_run_stages`."
    )
    kept = json.loads((place_of(tmp_path) / "bisect.json").read_text())
    assert kept["result"]["why"] == [lines[place + 1]]


def test_a_trace_that_fails_takes_nothing_from_what_was_found(
    repo: Path,
    tmp_path: Path,
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trace(*_: Any) -> None:
        raise InfrastructureError("the engine is gone")

    monkeypatch.setattr(_traced, "trace", trace)
    monkeypatch.setattr(_traced, "clear_the_way", lambda *_: None)

    assert run(repo, tmp_path, "--why") == 0

    out = capsys.readouterr().out
    assert f"{commits(repo)[4]} is the first bad commit" in out
    assert "What holds the difference could not be traced: the engine is gone" in out


def test_ends_that_were_measured_are_read_after_an_interruption(
    repo: Path, tmp_path: Path, world: World
) -> None:
    world.stops_before = commits(repo)[5]
    assert run(repo, tmp_path) == 130
    world.stops_before = ""
    assert main.main(["bisect", "--resume", str(place_of(tmp_path))]) == 0
    assert [commit for commit, _ in world.benched].count(commits(repo)[0]) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--good", "v9"], "--good v9: "),
        (["--good", "main"], "are the same commit; name two"),
        (["--good", "main", "--bad", "v1"], "swap them: --good is the older one"),
        (["--metric", "peek"], "--metric peek: no such metric; there are net_peak, peak,"),
        (["--metric", "net_peak:broker"], "(:SERVICE behind: redis, runner, scheduler, worker)"),
        (["--metric", "area:runner"], "--metric area:runner: no such metric"),
        (["--data-management", "none", "owned-proxy"], "one mode decides"),
        (["--stack", "dask==1"], "--stack: leave it out: the commits of --repo are the stack"),
        (["--until", "5%"], "--until: leave it out: --most says"),
        (["--keep"], "--keep: leave it out: "),
        (["--why", "only"], "--why only: 'harness bisect' needs measured runs, too: use --why aft"),
        (["--most", "2"], "--most 2: is less than --repeat 3"),
        (["--most", "1", "--repeat", "1"], "--most 1: so few runs say nothing; take 2 or more"),
        (["--sibling", "/nowhere"], "--sibling /nowhere: there is no such directory"),
        (["--repo", "/nowhere"], "--repo /nowhere: there is no such directory"),
        (["--mots", "3"], "unknown flag or value '--mots': did you mean --most?"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    more: list[str],
    said: str,
    repo: Path,
    tmp_path: Path,
    world: World,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(repo, tmp_path, *more) == 2
    err = capsys.readouterr().err
    assert err.startswith("harness bisect: error: ")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"asked": 1}', '{"asked": {"good": []}}'])
def test_a_directory_that_is_none_of_ours_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bisect.json").write_text(text)
    assert main.main(["bisect", "--resume", str(tmp_path)]) == 2
    assert "has no bisect.json of 'harness bisect': name its directory" in capsys.readouterr().err


def test_a_resumption_takes_no_other_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["bisect", "--resume", "x", "--most", "9"]) == 2
    assert "takes what the earlier one asked: leave out --most" in capsys.readouterr().err


# --- what a run directory says of a commit ----------------------------------------------------


def read(place: Path, repo: Path, runs: int, error: Any = None) -> Any:
    words = ["--repo", str(repo), "--good", "v1", "--bad", "main", *PLAN]
    measure = bisect._Runs(place, bisect._question(words))
    return measure._read("a" * 40, runs, error)


def test_values_are_those_of_the_metric(tmp_path: Path, repo: Path) -> None:
    write_run_directory(tmp_path / ("a" * 10), {"none": [5 * MB, 7 * MB, 6 * MB]}, events=False)
    found = read(tmp_path, repo, 3)
    assert found.values == (5 * MB, 7 * MB, 6 * MB)
    # What the counters of two workers and Redis resolve, as 'harness compare' has it.
    cpus = read_session(tmp_path / ("a" * 10)).documents["manifest"]["machine"]["cpus"]
    assert found.floor == 256 * 1024 * 3 * cpus


@pytest.mark.parametrize(
    ("outcome", "machine"),
    [("failed", False), ("memory", False), ("timeout", False), ("infrastructure", True)],
)
def test_a_run_that_ended_badly_is_a_failure(
    tmp_path: Path, repo: Path, outcome: str, machine: bool
) -> None:
    directory = RunDirectory(tmp_path / ("a" * 10))
    write_run_directory(directory.path, {"none": [5 * MB, 7 * MB]}, events=False)
    with RowWriter(directory.outcomes, OutcomeRow) as rows:
        rows.write(OutcomeRow("0003-none-3", "none", 3, outcome, "too bad"))
    assert read(tmp_path, repo, 3) == Failure(f"a run ended as {outcome}: too bad", machine)


def test_runs_that_are_not_there_may_be_the_machines_fault(tmp_path: Path, repo: Path) -> None:
    (tmp_path / ("a" * 10)).mkdir()
    assert read(tmp_path, repo, 3) == Failure("its runs did not come to their end", machine=True)
    error = UsageError("the engine is gone")
    assert read(tmp_path, repo, 3, error) == Failure("the engine is gone", machine=True)


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bisect.main(["--help"])
    assert "example: harness bisect plan.toml --repo ../distributed --good 2025.3.0" in " ".join(
        capsys.readouterr().out.split()
    )
