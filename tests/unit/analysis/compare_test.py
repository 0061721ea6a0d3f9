from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.analysis.compare import (
    METRICS,
    Question,
    SessionComparison,
    Steps,
    compare_groups,
    compare_sessions,
)
from harness.analysis.figures import RunFigures, group_runs
from harness.analysis.identity import MAY_DIFFER, Package, Severity, differences, packages
from harness.analysis.readers import read_session
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules, Verdict
from harness.connectors import connectors
from harness.core.errors import UsageError
from harness.core.flags import flags_of
from harness.executors import executors
from harness.plan import General, Topology
from harness.plan.workload import FlagModel
from harness.results.rows import OutcomeRow, RowWriter
from tests.rundirs import MANIFEST, Others, write_run_directory

DOCS = Path(__file__).parents[3] / "docs" / "verdicts.md"
MB = 1_000_000
STEADY = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]


def verdicts(found: SessionComparison) -> dict[tuple[str, str], Verdict]:
    """Return the topology's verdicts by mode and metric."""
    return {(row.mode, row.metric.name): row.verdict for row in found.rows if row.scope == TOPOLOGY}


def of_services(found: SessionComparison) -> dict[tuple[str, str], Verdict]:
    return {
        (row.scope, row.metric.name): row.verdict for row in found.rows if row.scope != TOPOLOGY
    }


def test_two_sessions_of_one_plan_are_equivalent(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY, "owned-proxy": STEADY})
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    said = verdicts(found)
    leftover = {said.pop((mode, "leftover")) for mode in ("none", "owned-proxy")}
    assert set(said.values()) == {Verdict.EQUIVALENT}
    assert len(said) == 2 * 6
    assert leftover <= {Verdict.EQUIVALENT, Verdict.TOO_SMALL}
    assert (found.worse, found.undecided) == (False, False)
    assert found.differences == ()


def test_a_session_that_needs_more_is_worse(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": [value + 20 * MB for value in STEADY]})
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    said = verdicts(found)
    assert said["none", "net_peak"] is Verdict.WORSE
    assert said["none", "net_mean"] is Verdict.WORSE
    assert said["none", "makespan"] is Verdict.EQUIVALENT
    assert found.worse
    lenient = compare_sessions(found.a, found.b, Question(Rules(threshold=0.5)))
    assert not lenient.worse


def test_the_service_that_needs_more_is_named(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": [value + 20 * MB for value in STEADY]})
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    said = of_services(compare_sessions(a, b))
    assert said["redis", "net_peak"] is Verdict.WORSE
    assert said["redis", "peak"] is Verdict.WORSE
    assert said["redis", "baseline"] is Verdict.EQUIVALENT
    assert said["worker", "net_peak"] is Verdict.EQUIVALENT
    assert {name for _, name in said} == {"net_peak", "peak", "baseline", "net_mean", "leftover"}


def test_one_metric_decides_and_it_may_be_a_services(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": [value + 20 * MB for value in STEADY]})
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    decided = {
        primary: compare_sessions(a, b, Question(primary=primary)).worse
        for primary in ("net_peak", "makespan", "net_peak:redis", "net_peak:worker")
    }
    assert decided == {
        "net_peak": True,
        "makespan": False,
        "net_peak:redis": True,
        "net_peak:worker": False,
    }


# 4 runs of each: a runner that halved, beside peaks of the topology that are a race for memory.
RACE_A = [805 * MB, 1207 * MB, 1209 * MB, 1159 * MB]
RACE_B = [906 * MB, 1206 * MB, 1107 * MB, 1107 * MB]
WHOLE = [602_000_000, 602_100_000, 602_100_000, 602_000_000]
HALF = [301_800_000, 302_000_000, 301_300_000, 301_800_000]


def with_a_runner(
    path: Path,
    totals: list[int],
    runner: list[int],
    baseline: int = 200 * MB,
    modes: tuple[str, ...] = ("none",),
    others: Mapping[str, list[int]] | None = None,
) -> Session:
    """Write a session of which the runner and the whole topology have these net peaks."""
    redis = [whole - own for whole, own in zip(totals, runner, strict=True)]
    more: dict[str, Others] = {"runner": (baseline, runner * len(modes))}
    more |= {name: (50 * MB, each * len(modes)) for name, each in (others or {}).items()}
    write_run_directory(path, dict.fromkeys(modes, redis), others=more, events=False)
    return read_session(path)


def test_a_runner_that_halved_is_better_though_the_topology_scatters(tmp_path: Path) -> None:
    modes = ("none", "default-proxy", "manual-proxy", "owned-proxy")
    a = with_a_runner(tmp_path / "a", RACE_A, WHOLE, 300 * MB, modes)
    b = with_a_runner(tmp_path / "b", RACE_B, HALF, 250 * MB, modes)
    found = compare_sessions(a, b)
    of = {(row.mode, row.name): row for row in found.rows}
    for mode in modes:
        row = of[mode, "net_peak:runner"]
        assert row.comparison is not None
        assert row.verdict is Verdict.BETTER
        assert row.comparison.change == pytest.approx(-0.4987, abs=1e-4)
        assert (row.comparison.a.median, row.comparison.b.median) == (602_050_000, 301_800_000)
        assert of[mode, "net_peak"].verdict is Verdict.UNDECIDED
    assert (found.worse, found.undecided) == (False, True)
    decided = compare_sessions(a, b, Question(primary="net_peak:runner"))
    assert [row.verdict for row in decided.primary] == [Verdict.BETTER] * 4
    assert not decided.undecided
    back = compare_sessions(b, a, Question(primary="net_peak:runner"))
    assert back.worse


def test_the_baseline_of_each_service_and_of_all_is_compared_as_it_is(tmp_path: Path) -> None:
    a = with_a_runner(tmp_path / "a", RACE_A, WHOLE, 300 * MB)
    b = with_a_runner(tmp_path / "b", RACE_B, WHOLE, 250 * MB)
    of = {row.name: row for row in compare_sessions(a, b).rows}
    seen = {
        name: (row.verdict.value, row.comparison.a.median, row.comparison.b.median)
        for name in ("baseline", "baseline:runner", "baseline:redis", "net_peak:runner")
        if (row := of[name]).comparison
    }
    assert seen == {
        "baseline": ("better", 410 * MB, 360 * MB),
        "baseline:runner": ("better", 300 * MB, 250 * MB),
        "baseline:redis": ("equivalent", 10 * MB, 10 * MB),
        "net_peak:runner": ("equivalent", 602_050_000, 602_050_000),
    }


@pytest.mark.parametrize("primary", ["net_peak", "makespan", "net_peak:runner", "leftover:redis"])
def test_a_service_more_changes_no_verdict_of_the_others(tmp_path: Path, primary: str) -> None:
    sides = {"a": (RACE_A, WHOLE), "b": (RACE_B, HALF)}
    few = {n: with_a_runner(tmp_path / f"{n}-few", *each) for n, each in sides.items()}
    noisy = {f"broker{n}": [(n + 90) * MB, 120 * MB, 99 * MB, 140 * MB] for n in range(9)}
    many = {
        n: with_a_runner(
            tmp_path / f"{n}-many",
            [w + sum(each[i] for each in noisy.values()) for i, w in enumerate(total)],
            runner,
            others=noisy,
        )
        for n, (total, runner) in sides.items()
    }
    first, second = (
        {row.name: row for row in compare_sessions(s["a"], s["b"], Question(primary=primary)).rows}
        for s in (few, many)
    )
    for name in ("net_peak:runner", "baseline:runner", "net_mean:runner", "leftover:worker"):
        assert first[name].comparison == second[name].comparison, name
    assert len(second) - len(first) == 9 * 5


def test_metrics_are_chosen_for_all_or_for_one_service(tmp_path: Path) -> None:
    a = with_a_runner(tmp_path / "a", RACE_A, WHOLE)
    b = with_a_runner(tmp_path / "b", RACE_B, HALF)

    def names(*metrics: str, primary: str) -> list[str]:
        found = compare_sessions(a, b, Question(metrics=metrics, primary=primary))
        return [row.name for row in found.rows]

    assert names("net_mean:runner", primary="net_mean:runner") == ["net_mean:runner"]
    assert names("makespan", "baseline:redis", primary="net_peak") == [
        *("net_peak", "makespan", "baseline:redis"),
    ]
    assert names("leftover", primary="leftover") == [
        *("leftover", "leftover:redis", "leftover:runner", "leftover:worker"),
    ]


@pytest.mark.parametrize("name", ["broker", "net_peak:broker", "makespan:redis", "net_peak:"])
@pytest.mark.parametrize("flag", ["--primary", "--metrics"])
def test_a_name_that_is_no_metric_is_refused_with_what_there_is(
    tmp_path: Path, name: str, flag: str
) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    session = read_session(tmp_path / "a")
    question = Question(primary=name) if flag == "--primary" else Question(metrics=(name,))
    with pytest.raises(UsageError) as error:
        compare_sessions(session, session, question)
    assert str(error.value) == (
        f"{flag} {name}: no such metric; there are net_peak, peak, baseline, net_mean, leftover,"
        " area, makespan, peak_per_payload, makespan_per_ideal; of a service (:SERVICE behind:"
        " redis, worker) net_peak, peak, baseline, net_mean, leftover"
    )


def test_three_runs_far_apart_are_worse(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY[:3], "owned-proxy": STEADY[:3]})
    threefold = [3 * value for value in STEADY[:3]]
    write_run_directory(tmp_path / "b", {"none": threefold, "owned-proxy": STEADY[:3]})
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    said = verdicts(found)
    assert said["none", "net_peak"] is Verdict.WORSE
    assert said["owned-proxy", "net_peak"] is Verdict.EQUIVALENT
    assert (found.worse, found.undecided) == (True, False)


def test_peaks_that_fall_into_steps_are_named_by_copies(tmp_path: Path) -> None:
    sizes = (100 * MB, 10 * MB, MB)
    copies = {"a": [2, 3, 2, 3, 2], "b": [3, 2, 3, 3, 2]}
    for name, numbers in copies.items():
        peaks = [100 * MB * n + 5 * MB for n in numbers]
        write_run_directory(tmp_path / name, {"none": peaks}, sizes=sizes)
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    (row,) = found.primary
    assert row.verdict is Verdict.UNDECIDED
    assert row.steps == Steps(100 * MB, {2: 3, 3: 2}, {2: 2, 3: 3})
    assert row.comparison is not None
    # The medians are 205 and 305; half of the pairs of runs do not differ, or less.
    assert (row.comparison.difference, row.comparison.grouped) == (0, True)


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        # The largest payload of which whole copies explain both sides.
        ((50 * MB, 10 * MB, MB), Steps(50 * MB, {16: 1, 23: 1, 24: 2}, {18: 1, 22: 2, 24: 1})),
        ((100 * MB, 50 * MB, MB), Steps(50 * MB, {16: 1, 23: 1, 24: 2}, {18: 1, 22: 2, 24: 1})),
        ((100 * MB, MB, MB), None),
        ((5, 5, 5), None),
    ],
)
def test_steps_are_those_of_a_payload_of_the_plan(
    tmp_path: Path, sizes: tuple[int, int, int], steps: Steps | None
) -> None:
    for name, peaks in (("a", RACE_A), ("b", RACE_B)):
        write_run_directory(tmp_path / name, {"none": peaks}, sizes=sizes)
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    of = {row.name: row.steps for row in found.rows}
    assert of["net_peak"] == of["net_peak:redis"] == steps
    # A side whose runs all hold as many, and other figures, have none to speak of.
    assert of["net_peak:worker"] is of["peak"] is of["baseline"] is of["net_mean"] is None


def test_what_one_mode_leaves_in_shared_processes_is_not_credited_to_the_other(
    tmp_path: Path,
) -> None:
    # Redis holds the peak until its sample before the end: what is left is the mode's.
    directory = write_run_directory(
        tmp_path / "a",
        {"none": STEADY, "owned-proxy": [value - 20 * MB for value in STEADY]},
        interleaved=True,
    )
    told = []
    for isolate in ("mode", "none"):
        manifest = json.loads(json.dumps(MANIFEST))
        manifest["plan"]["topology"]["isolate"] = isolate
        directory.manifest.write_text(json.dumps(manifest))
        session = read_session(directory.path)
        groups = [
            dataclasses.replace(group, runs=tuple(leaving(f, 30 * MB) for f in group.runs))
            for group in group_runs([session])
        ]
        ((row, *_),) = compare_groups([(groups[0], groups[1])])
        told.append((row.verdict, row.needs))
    assert told[0] == (Verdict.BETTER, "")
    assert told[1][0] is Verdict.NOT_COMPARABLE
    assert "leaves 30 MB in processes that the modes share" in told[1][1]
    assert told[1][1].endswith("--isolate mode")


def leaving(figures: RunFigures, left: int) -> RunFigures:
    scopes = {
        name: dataclasses.replace(scope, left_bytes=scope.baseline_bytes + left)
        for name, scope in figures.scopes.items()
    }
    return dataclasses.replace(figures, scopes=scopes)


def test_modes_that_took_turns_and_drift_together_are_compared(tmp_path: Path) -> None:
    rising = [(100 + 4 * step) * MB for step in range(8)]
    peaks = {"owned-proxy": rising, "none": [value + 22 * MB for value in rising]}
    said = {}
    for name, turns in (("given", False), ("turns", True)):
        write_run_directory(tmp_path / name, peaks, interleaved=turns)
        session = read_session(tmp_path / name)
        found = compare_sessions(session, session, modes=[("owned-proxy", "none")])
        said[name] = (found.primary[0].verdict, found.primary[0].needs)
    assert said["turns"] == (Verdict.WORSE, "")
    assert said["given"][0] is Verdict.UNDECIDED
    assert "the figures drift from run to run" in said["given"][1]


def test_sessions_without_a_common_mode_cannot_be_compared(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"owned-proxy": STEADY})
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    with pytest.raises(UsageError, match=r"no mode in common: .*--modes A B"):
        compare_sessions(a, b)
    with pytest.raises(UsageError, match="no run of manual-proxy went through"):
        compare_sessions(a, b, modes=[("none", "manual-proxy")])


def test_a_run_that_fails_now_is_a_regression(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY})
    with RowWriter(tmp_path / "b" / "outcomes.csv", OutcomeRow) as rows:
        rows.write(OutcomeRow("0006-none-6", "none", 6, "failed", "a worker died"))
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert found.regressions == ("none: 0006-none-6 ended as failed (a worker died)",)
    assert found.worse


def test_scale_free_metrics_forgive_other_sizes(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    doubled = [2 * value for value in STEADY]
    write_run_directory(tmp_path / "b", {"none": doubled}, sizes=(2 * MB, MB, 200_000))
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    free = tuple(metric.name for metric in METRICS if metric.scale_free)
    said = verdicts(
        compare_sessions(a, b, Question(metrics=free, primary=free[0], other_work=True))
    )
    assert set(said.values()) == {Verdict.EQUIVALENT}
    refused = compare_sessions(a, b)
    assert set(verdicts(refused).values()) == {Verdict.NOT_COMPARABLE}
    assert refused.undecided
    forced = compare_sessions(a, b, Question(other_work=True))
    assert verdicts(forced)["none", "net_peak"] is Verdict.WORSE
    assert [(d.what, d.severity) for d in differences(a, b)] == [
        ("--stage-bytes-sizes", Severity.REFUSE)
    ]


def with_plan(directory: Path, section: str, name: str, value: object) -> None:
    other = json.loads(json.dumps(MANIFEST))
    other["plan"].setdefault(section, {})[name] = value
    (directory / "manifest.json").write_text(json.dumps(other))


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        ("workload", "seed", 7, "--seed: 0 and 7"),
        ("executor", "workers", 4, "executor option workers: 2 and 4"),
        ("topology", "worker_memory_limit", 10**9, "--worker-memory-limit: not recorded and 10"),
        ("topology", "isolate", "run", "--isolate: mode and run"),
        ("topology", "cgroup_interval", 0.1, "--cgroup-interval: 0.02 and 0.1"),
        ("general", "order", "interleaved", "--order: given and interleaved"),
        ("general", "warmup", 1, "--warmup: 0 and 1"),
        ("general", "baseline_timeout", 9.0, "--baseline-timeout: 2.0 and 9.0"),
        ("general", "after", 1.0, "--after: 0.0 and 1.0"),
        ("general", "audit_stages", True, "--audit-stages: False and True"),
        ("general", "inside_interval", 1.0, "--inside-interval: not recorded and 1.0"),
    ],
)
def test_a_plan_of_other_work_is_refused(
    tmp_path: Path, section: str, name: str, value: object, said: str
) -> None:
    for side in ("a", "b"):
        write_run_directory(tmp_path / side, {"none": STEADY})
    with_plan(tmp_path / "b", section, name, value)
    (found,) = differences(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert str(found).startswith(said)
    assert found.severity is Severity.REFUSE


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        *((section, name, "anything") for section, name in MAY_DIFFER),
        # What an older plan did not say yet, it did as a new one does.
        ("general", "warmup", 0),
        ("topology", "cgroup_interval", 0.02),
        # With topologies of its own, a mode does not know which others there are.
        ("workload", "modes", ["none", "manual-proxy"]),
    ],
)
def test_what_may_differ_is_no_other_work(
    tmp_path: Path, section: str, name: str, value: object
) -> None:
    for side in ("a", "b"):
        write_run_directory(tmp_path / side, {"none": STEADY})
    with_plan(tmp_path / "b", section, name, value)
    assert not list(differences(read_session(tmp_path / "a"), read_session(tmp_path / "b")))


CONNECTORS: dict[str, dict[str, object]] = {
    "redis": {"host": "one", "port": 6379, "password_file": None},
    "file": {"directory": "/one"},
    "zmq": {"port": 1, "address": "10.0.0.1", "interface": None},
    "margo": {"port": 1, "address": None, "interface": "eth0", "protocol": "tcp"},
    "ucx": {"port": 1, "address": None, "interface": "eth0"},
    "endpoint": {"endpoints": ["one"], "home": None, "wait_s": 0.0},
    "daos": {"pool": "one", "container": "one", "namespace": "one"},
    "globus": {"config": "one.json"},
    "multi": {
        "small_name": "redis",
        "large_name": "file",
        "threshold": 1000,
        "small": {"host": "one", "port": 6379, "password_file": None},
        "large": {"directory": "/one"},
    },
}
EXECUTORS: dict[str, dict[str, object]] = {
    "dask": {"scheduler": "tcp://one:8786", "workers": None, "pure": False},
    "globus": {"endpoints": ["one"], "engine": "htex", "workers": 2, "count": 1},
    "parsl": {"kind": None, "max_workers": 2, "config_file": "one.py"},
    "process": {"max_workers": 2},
}


def with_options(path: Path, kind: str, name: str, options: Mapping[str, object]) -> Session:
    if not path.exists():
        write_run_directory(path, {"owned-proxy": STEADY[:1]})
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["plan"] |= {f"{kind}_name": name, kind: options}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return read_session(path)


@pytest.mark.parametrize(
    ("kind", "name", "change", "said"),
    [
        ("executor", "dask", {"scheduler": "tcp://two:9999"}, ""),
        ("executor", "globus", {"endpoints": ["two"]}, ""),
        ("connector", "redis", {"host": "two", "port": 7000}, ""),
        ("connector", "file", {"directory": "/two"}, ""),
        ("connector", "zmq", {"port": 2, "address": "10.0.0.2"}, ""),
        ("connector", "margo", {"port": 2, "interface": "eth1"}, ""),
        ("connector", "ucx", {"port": 2, "interface": "eth1"}, ""),
        ("connector", "endpoint", {"endpoints": ["two"]}, ""),
        ("connector", "daos", {"pool": "two", "container": "two", "namespace": "two"}, ""),
        ("connector", "globus", {"config": "two.json"}, ""),
        ("connector", "multi", {"small": {"host": "two", "port": 1, "password_file": "f"}}, ""),
        ("connector", "multi", {"large": {"directory": "/two"}}, ""),
        # A secret may also be there on one side alone.
        ("connector", "redis", {"password_file": "/secret"}, ""),
        # Whether there is a place, and how many there are, is another way to run.
        ("executor", "dask", {"scheduler": None}, "option scheduler: tcp://one:8786 and not rec"),
        ("executor", "globus", {"endpoints": ["one", "two"]}, "option endpoints: one and one two"),
        ("executor", "globus", {"endpoints": []}, "option endpoints: one and "),
        ("connector", "zmq", {"address": None}, "option address: 10.0.0.1 and not recorded"),
        # What is done is not a place.
        ("executor", "dask", {"pure": True}, "option pure: False and True"),
        ("executor", "dask", {"workers": 4}, "option workers: not recorded and 4"),
        ("executor", "globus", {"engine": "thread"}, "option engine: htex and thread"),
        ("executor", "parsl", {"config_file": "two.py"}, "option config_file: one.py and two.py"),
        ("executor", "process", {"max_workers": 3}, "option max_workers: 2 and 3"),
        ("connector", "margo", {"protocol": "verbs"}, "option protocol: tcp and verbs"),
        ("connector", "multi", {"threshold": 5}, "option threshold: 1000 and 5"),
        ("connector", "multi", {"small_name": "nobody's"}, "option small_name: redis and nobody's"),
    ],
)
def test_an_address_is_not_work(
    tmp_path: Path, kind: str, name: str, change: dict[str, object], said: str
) -> None:
    options = {"executor": EXECUTORS, "connector": CONNECTORS}[kind][name]
    a = with_options(tmp_path / "a", kind, name, options)
    b = with_options(tmp_path / "b", kind, name, {**options, **change})
    for found in (differences(a, b), differences(b, a)):
        told = [d for d in found if d.severity is Severity.REFUSE]
        assert len(told) == bool(said)
    assert "".join(map(str, differences(a, b))).startswith(f"{kind} {said}" if said else "")
    assert compare_sessions(a, b).primary[0].why.startswith("other work: " if said else "")


def test_options_of_a_plug_in_that_is_not_here_are_compared_as_they_are(tmp_path: Path) -> None:
    a = with_options(tmp_path / "a", "executor", "elsewhere", {"address": "one"})
    b = with_options(tmp_path / "b", "executor", "elsewhere", {"address": "two"})
    assert [str(d) for d in differences(a, b)] == ["executor option address: one and two"]


def test_every_place_is_declared_where_the_option_is_and_named_in_the_docs() -> None:
    models = [model for registry in (executors, connectors) for _, model in registry]
    flags = {flag for model in models for flag in flags_of(model).values()}
    places = {flag.name for flag in flags if flag.place or flag.secret}
    assert places >= {"--dask-scheduler", "--ps-host", "--ps-port", "--ps-file-dir"}
    # What says of itself that it is an address, a port, a folder or a secret is declared as one.
    of_places = {"ADDR", "HOST", "PORT", "DIR", "UUID"}
    assert {flag.name for flag in flags if flag.metavar in of_places} <= places
    for name in places:
        assert f"`{name}`" in DOCS.read_text(), name


def test_the_list_of_what_may_differ_names_only_what_there_is() -> None:
    models: dict[str, type[FlagModel]] = {"general": General, "topology": Topology}
    for section, name in MAY_DIFFER:
        if section in models:
            assert name in models[section].model_fields, name
            assert f"`{flags_of(models[section])[name].name}`" in DOCS.read_text()


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        ("workload", "no_populate_target", True, "--no-populate-target: False and True"),
        ("topology", "env", ["redis:A=1"], "--env:  and redis:A=1"),
        ("executor", "config", ["a.b=1"], "executor option config:"),
        ("connector", "server_config", ["hz=50"], "connector option server_config:"),
    ],
)
def test_a_knob_is_named_and_compared(
    tmp_path: Path, section: str, name: str, value: object, said: str
) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": STEADY})
    with_plan(tmp_path / "b", section, name, value)
    (found,) = differences(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert str(found).startswith(said)
    assert found.severity is Severity.WARN


def test_traced_runs_are_compared_with_no_others(tmp_path: Path) -> None:
    write_run_directory(tmp_path / "a", {"none": STEADY})
    write_run_directory(tmp_path / "b", {"none": STEADY})
    with_plan(tmp_path / "b", "general", "traced", True)
    (found,) = differences(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    assert found.severity is Severity.REFUSE


def test_what_differs_beside_the_figures_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run_directory(tmp_path / name, {"none": STEADY})
    other = json.loads(json.dumps(MANIFEST))
    other["images"]["dask"]["id"] = "sha256:bbbb"
    other["engine"]["version"] = "29.0"
    other["plan"]["executor"]["workers"] = 4
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(other))
    a, b = read_session(tmp_path / "a"), read_session(tmp_path / "b")
    assert [str(d) for d in differences(a, b)] == [
        "executor option workers: 2 and 4",
        "image dask: sha256:aaaa and sha256:bbbb",
        "engine: 28.0 and 29.0",
    ]
    del other["runner"]
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(other))
    assert [str(d) for d in differences(a, read_session(tmp_path / "b"))][-2:] == [
        "environment of the runner: recorded and not recorded",
        "packages: recorded and not recorded",
    ]
    (tmp_path / "b" / "manifest.json").unlink()
    (absent,) = differences(a, read_session(tmp_path / "b"))
    assert absent.severity is Severity.WARN
    assert "b has no manifest" in absent.what


Installed = dict[str, str] | None


def with_packages(path: Path, installed: Installed, python: str | None = "3.13.5") -> Session:
    write_run_directory(path, {"none": STEADY[:1]})
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["runner"] = {"packages": installed, "python": python}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return read_session(path)


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ([{"dask": "1"}, {"dask": "1"}], []),
        ([{"dask": "1"}, {"dask": "2"}], [("dask", "1", "2")]),
        # The executor's own first, then ProxyStore, then all others by name.
        (
            [
                {"attrs": "1", "dask": "1", "distributed": "1", "proxystore": "1", "zict": "1"},
                {"attrs": "2", "dask": "2", "distributed": "2", "proxystore": "2", "zict": "2"},
            ],
            [(name, "1", "2") for name in ("distributed", "dask", "proxystore", "attrs", "zict")],
        ),
        # Names are spelt in several ways.
        ([{"Dask": "1", "proxystore_ex": "1"}, {"dask": "1", "proxystore-ex": "1"}], []),
        ([{"dask": "1"}, {"dask": "1", "toolz": "2"}], [("toolz", "none", "2")]),
        ([{"dask": "1"}, {"dask": "2"}, {"dask": "1"}], [("dask", "1", "2", "1")]),
        # What was not recorded differs from nothing.
        ([{"dask": "1"}, None], []),
        ([{"dask": "1"}, None, {"dask": "2"}], [("dask", "1", "not recorded", "2")]),
    ],
)
def test_packages_that_differ_are_found(
    tmp_path: Path, installed: list[Installed], found: list[tuple[str, ...]]
) -> None:
    sessions = [with_packages(tmp_path / str(n), each) for n, each in enumerate(installed)]
    assert packages(sessions) == [Package(name, tuple(versions)) for name, *versions in found]


@pytest.mark.parametrize(
    ("wheel", "said"),
    [
        ({"file": "my_pkg-1-py3-none-any.whl", "commit": "a" * 40, "dirty": False}, "aaaaaaaaaa"),
        (
            {"file": "My_Pkg-1-py3-none-any.whl", "commit": "a" * 40, "dirty": True},
            "aaaaaaaaaa, with changes",
        ),
        ({"file": "my_pkg-1-py3-none-any.whl", "sha256": "0123456789"}, "wheel 01234567"),
    ],
)
def test_wheels_of_one_version_are_told_apart(
    tmp_path: Path, wheel: dict[str, object], said: str
) -> None:
    sessions = [with_packages(tmp_path / name, {"my_pkg": "1"}) for name in ("a", "b")]
    strange: object
    for strange in (None, {}, {"wheels": None}, {"wheels": [None, {}]}):
        sessions[1].documents["manifest"]["variant"] = strange
        assert packages(sessions) == []
    sessions[1].documents["manifest"]["variant"] = {"wheels": [wheel]}
    assert packages(sessions) == [Package("my-pkg", ("1", f"1 ({said})"))]


def test_python_is_a_package_too_and_comes_before_others(tmp_path: Path) -> None:
    a = with_packages(tmp_path / "a", {"dask": "1", "attrs": "1"}, "3.12.1")
    b = with_packages(tmp_path / "b", {"dask": "2", "attrs": "2"}, "3.13.5")
    assert [str(each.name) for each in packages([a, b])] == ["dask", "python", "attrs"]
    # Other packages are the same work.
    assert list(differences(a, b)) == []
    assert compare_sessions(a, b).packages[1] == Package("python", ("3.12.1", "3.13.5"))
