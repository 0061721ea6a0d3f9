"""What ``harness history`` does with its directory: fill it, add to it, refuse another plan."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from harness.cli import history, main
from harness.core.errors import InfrastructureError, UsageError
from harness.images.variant import Variant
from harness.plan import Plan
from harness.report.history import DOCUMENT, PAGE
from harness.topology import sides
from harness.topology.bench import Bench
from harness.topology.resume import write_bench_file
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
PLAN = [
    *("--executor", "dask", "--ps-connector", "redis", "--data-management", "none"),
    *("--stage-task-counts", "1", "1", "--stage-bytes-sizes", "1MB", "1KB", "1KB"),
    *("--task-sleep", "0.1", "--repeat", "3"),
]


class Machine:
    """Stands for index, engine and containers: says what was measured, and in which session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.releases = ["2024.2.0", "2024.3.0", "2024.3.1", "2024.4.0", "2024.10.0"]
        self.broken: dict[str, Exception] = {}
        self.sessions: list[list[str]] = []
        self.stacks: list[list[str]] = []
        nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
        replaced: dict[str, Any] = {
            "released": lambda _name: [Version(each) for each in self.releases],
            "admit": lambda *_: [],
            "variant_of": self.variant_of,
            "write_quality": nothing,
            "Turns": lambda benches, _seed, _enough: _Turns(self, benches),
        }
        for name, value in replaced.items():
            monkeypatch.setattr(history, name, value)
        for name in ("ensure", "require_images", "clear_the_way"):
            monkeypatch.setattr(sides, name, lambda *_, **__: {})

    def variant_of(self, plan: Plan, _say: object) -> Variant | None:
        assert plan.topology is not None
        self.stacks.append(plan.topology.stack)
        version = plan.topology.stack[-1].removeprefix("dask==")
        if version in self.broken:
            raise self.broken[version]
        return None


class _Turns:
    def __init__(self, machine: Machine, benches: list[Bench]) -> None:
        self.machine, self.benches = machine, benches

    def run(self) -> None:
        self.machine.sessions.append([bench.directory.path.name for bench in self.benches])
        for bench in self.benches:
            path = bench.directory.path
            shutil.rmtree(path)
            write_run_directory(path, {"none": [30 * MB] * 3}, events=False)
            document = MANIFEST | {"plan": bench.plan.model_dump(mode="json")}
            bench.directory.manifest.write_text(json.dumps(document))
            write_bench_file(bench.directory.bench, bench.plan, {})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def run(place: Path, *words: str, first: str = "2024.3") -> int:
    command = ["history", "--stack", "dask", "--from", first, "--run-dir", str(place)]
    return main.main([*command, *words, *PLAN])


def test_a_history_is_filled_and_grows(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "h"
    assert run(place, "--to", "2024.4", "--with", "proxystore==1.2.0") == 0
    assert machine.sessions == [["2024.3.1", "2024.4.0"]]
    assert machine.stacks[0] == ["proxystore==1.2.0", "dask==2024.3.1"]
    assert {path.name for path in place.iterdir()} == {
        *("2024.3.1", "2024.4.0", "history.json", "history.csv", "history.html")
    }
    found = json.loads((place / DOCUMENT).read_text())
    assert found["plan"]["general"]["repeat"] == 3
    assert found["plan"]["topology"]["isolate"] == "run"
    assert found["with"] == ["proxystore==1.2.0"]
    # The same command does what is new, and only that.
    assert run(place, "--with", "proxystore==1.2.0") == 0
    assert machine.sessions[1:] == [["2024.10.0"]]
    assert run(place, "--with", "proxystore==1.2.0") == 0
    assert len(machine.sessions) == 2
    out = capsys.readouterr().out
    assert re.search(r"^2024\.4\.0 .*\n2024\.10\.0 ", out, re.MULTILINE), out


def test_all_releases_and_those_left_out_are_said(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "h", "--every", "release", first="2024.2") == 0
    assert machine.sessions == [["2024.3.0", "2024.3.1", "2024.4.0", "2024.10.0"]]
    said = "Left out: dask 2024.2.0 (1): the harness runs with dask>=2024.3."
    captured = capsys.readouterr()
    assert said in captured.err
    assert said in captured.out
    assert said in (tmp_path / "h" / PAGE).read_text().replace("&gt;", ">")


def test_what_cannot_be_had_is_skipped_with_its_reason_and_tried_again(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "h"
    machine.broken = {
        "2024.3.1": UsageError("no wheel of it"),
        "2024.4.0": InfrastructureError("the build failed"),
    }
    assert run(place) == 0
    assert machine.sessions == [["2024.10.0"]]
    skipped = {"2024.3.1": "no wheel of it", "2024.4.0": "the build failed"}
    assert json.loads((place / DOCUMENT).read_text())["skipped"] == skipped
    assert "skipped: no wheel of it" in capsys.readouterr().out
    assert not (place / "2024.3.1").exists()
    del machine.broken["2024.4.0"]
    assert run(place) == 0
    assert machine.sessions[1:] == [["2024.4.0"]]
    assert json.loads((place / DOCUMENT).read_text())["skipped"] == {"2024.3.1": "no wheel of it"}


def test_nothing_at_all_that_can_be_had_is_an_error(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.broken = dict.fromkeys(machine.releases, UsageError("no index"))
    assert run(tmp_path / "h") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "harness history: error: no version of dask was measured: no index"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--repeat", "4"], "another plan (--repeat: 3 and 4)"),
        (["--with", "redis==8.0"], "another plan (--with"),
        (["--task-sleep", "0.2"], "another plan (--task-sleep"),
        (["--data-management", "owned-proxy"], "another plan (--data-management"),
    ],
)
def test_another_plan_is_refused(
    words: list[str],
    said: str,
    machine: Machine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path / "h") == 0
    capsys.readouterr()
    command = ["history", "--stack", "dask", "--from", "2024.3", "--run-dir", str(tmp_path / "h")]
    assert main.main([*command, *PLAN, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert len(machine.sessions) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stack", "numpy-x"], "--stack numpy-x: no image of this plan has it (dask, redis)"),
        (["--stack", "dask==2025.1"], "--stack dask==2025.1: name a package without a version"),
        (["--stack", "psbench"], "--stack psbench: name a package without a version"),
        (["--until", "5%"], "--until: every version gets as many runs: use --repeat"),
        (["--from", "x"], "--from x: is no version"),
        (["--from", "2030"], "--from 2030 --to latest: no release of dask in this range"),
        (["--every", "day"], "--every"),
        (["--run-dir", "."], "holds no history.json of a history: name a new directory"),
    ],
)
def test_wrong_words_are_one_line_and_leave_nothing(
    words: list[str],
    said: str,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    command = ["history", "--stack", "dask", "--from", "2024.3"]
    assert main.main([*command, *PLAN, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main.main(["history", "--help"])
    assert done.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "example: harness history plan.toml --stack dask --from 2024.3 --to latest" in out
    # Each is told once, with its meaning here.
    assert out.count("the package, such as dask, without a version") == 1
    assert "run other versions of packages" not in out
