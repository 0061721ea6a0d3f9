"""Steps over versions: planted ones are named, and chance makes none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.figures import Group, RunFigures, ScopeFigures
from harness.analysis.history import History, require_same_work
from harness.analysis.series import TOPOLOGY
from harness.analysis.session import Run, Session, WorkloadFacts
from harness.analysis.verdicts import Rules
from harness.core.errors import UsageError

MB = 1e6
Noise = Callable[[np.random.Generator], float]
Levels = dict[str, tuple[float, float]]
SERVICES: Levels = {"runner": (80 * MB, 600 * MB), "scheduler": (70 * MB, 100 * MB)}


def scope(name: str, baseline: float, net_peak: float) -> ScopeFigures:
    peak = baseline + net_peak
    mean = baseline + net_peak / 2
    return ScopeFigures(name, "cgroup", 1, 1, baseline, peak, "max_usage", 0, mean, mean, mean, {})


def history(
    versions: Sequence[Levels | None], noise: Noise, runs: int = 6, seed: int = 1
) -> History:
    """Return a history of runs whose services have baselines and net peaks around these."""
    rng = np.random.default_rng(seed)
    sessions: list[Session | None] = []
    groups: dict[tuple[int, str], Group] = {}
    facts = WorkloadFacts("DaskExecutor", "RedisConnector", (1,), (1, 1), 1, 1.0)
    for place, services in enumerate(versions):
        if services is None:
            sessions.append(None)
            continue
        figures = []
        for number in range(1, runs + 1):
            run = Run(f"{number:04d}", "none", number, makespan_s=2 * (1 + noise(rng)))
            scopes = {
                name: scope(name, baseline * (1 + noise(rng)), net_peak * (1 + noise(rng)))
                for name, (baseline, net_peak) in services.items()
            }
            scopes[TOPOLOGY] = scope(
                TOPOLOGY,
                sum(each.baseline_bytes for each in scopes.values()),
                sum(each.net_peak_bytes for each in scopes.values()),
            )
            figures.append(RunFigures(run, 1, scopes))
        session = Session(Path(f"v{place}"), "harness", facts, tuple(f.run for f in figures), None)
        sessions.append(session)
        groups[place, "none"] = Group("none", session, "none", tuple(figures))
    names = tuple(f"1.{place}.0" for place in range(len(versions)))
    found = History("dask", names, tuple(sessions), Rules())
    # What it would make of files.
    found.__dict__["_groups"] = groups
    return found


def normal(share: float) -> Noise:
    return lambda rng: share * float(rng.standard_normal())


def two_humped(rng: np.random.Generator) -> float:
    return 0.3 * (rng.random() < 0.5) + 0.02 * float(rng.standard_normal())


def skewed(rng: np.random.Generator) -> float:
    return 0.05 * float(rng.exponential())


def with_runner(baseline: float, net_peak: float) -> Levels:
    return SERVICES | {"runner": (baseline, net_peak)}


def named(found: History) -> set[tuple[str, str]]:
    return {(found.versions[change.after], change.line.name) for change in found.changes}


def test_a_planted_step_is_named_with_its_service_and_version() -> None:
    before, after = SERVICES, with_runner(80 * MB, 450 * MB)
    found = history([before] * 4 + [after] * 4, normal(0.02))
    metrics = ("net_peak", "net_mean", "leftover")
    assert named(found) == {
        ("1.4.0", name) for metric in metrics for name in (metric, f"{metric}:runner")
    }
    change = next(c for c in found.changes if c.line.name == "net_peak:runner")
    assert change.row.comparison is not None
    assert change.row.comparison.change == pytest.approx(-0.25, abs=0.03)


def test_up_and_down_again_are_two_changes() -> None:
    odd = with_runner(160 * MB, 600 * MB)
    found = history([SERVICES] * 3 + [odd] + [SERVICES] * 3, normal(0.02))
    said = [(c.after, c.row.verdict.value) for c in found.changes if c.line.scope == "runner"]
    assert said == [(3, "worse"), (4, "better")]
    assert {name for _, name in named(found)} == {"baseline", "baseline:runner"}


def test_a_step_over_a_version_that_is_not_there() -> None:
    after = with_runner(80 * MB, 300 * MB)
    found = history([SERVICES, SERVICES, None, after, after], normal(0.02))
    change = next(c for c in found.changes if c.line.name == "net_peak:runner")
    assert (change.before, change.after) == (1, 3)


def test_two_versions_are_a_history() -> None:
    found = history([SERVICES, with_runner(80 * MB, 300 * MB)], normal(0.02))
    assert ("1.1.0", "net_peak:runner") in named(found)


def test_too_few_runs_say_what_it_would_take() -> None:
    found = history([SERVICES] * 2 + [with_runner(80 * MB, 300 * MB)] * 2, normal(0.02), runs=2)
    assert found.changes == []
    assert {step.needs for step in found.open if step.line.name == "net_peak:runner"} == {
        "1 more run of each"
    }


def test_a_step_within_the_threshold_is_none() -> None:
    found = history([SERVICES] * 4 + [with_runner(80 * MB, 582 * MB)] * 4, normal(0.001))
    assert named(found) == set()


def test_one_version_alone_or_runs_without_noise_are_no_fault() -> None:
    assert history([SERVICES], normal(0)).changes == []
    assert history([SERVICES] * 3, normal(0)).changes == []
    assert ("1.1.0", "net_peak:runner") in named(
        history([SERVICES, with_runner(80 * MB, 300 * MB)], normal(0))
    )


@pytest.mark.parametrize(
    "noise", [normal(0.02), normal(0.2), two_humped, skewed], ids=["2%", "20%", "humps", "skewed"]
)
def test_chance_makes_no_change(noise: Noise) -> None:
    # Twelve versions that do not differ, twelve times: with 5 in 100 one is likely, three are not.
    wrong = [bool(history([SERVICES] * 12, noise, seed=seed).changes) for seed in range(12)]
    assert sum(wrong) <= 2


def test_other_work_is_refused() -> None:
    one, two = (
        Session(Path(name), "harness", WorkloadFacts("D", "R", (1,), (1, 1), 1, sleep), (), None)
        for name, sleep in (("a", 1.0), ("b", 2.0))
    )
    with pytest.raises(UsageError, match=r"b: other work was done than in a .*--task-sleep"):
        require_same_work("dask", [one, two])
