"""What a bundle's plan decides, and what only its reader does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.core.flags import flags_of
from harness.plan import Plan, Topology
from harness.reproduce.decides import BUNDLES, READERS, readers_plan
from harness.reproduce.format import Refused
from harness.reproduce.rerun import _plan

DOCS = Path(__file__).parents[3] / "docs" / "reproduce.md"
DOCUMENT: dict[str, Any] = {
    "executor_name": "thread",
    "executor": {},
    "connector_name": "local",
    "connector": {},
    "workload": {
        "modes": ["none"],
        "stage_task_counts": [1],
        "stage_bytes_sizes": [1, 1],
        "task_sleep": 0.0,
    },
    "general": {},
    "topology": {},
}


def published(section: str, **changes: object) -> dict[str, Any]:
    return DOCUMENT | {section: DOCUMENT[section] | changes}


def plan(section: str, **changes: object) -> Plan:
    return Plan.model_validate(published(section, **changes))


@pytest.mark.parametrize("model", READERS)
def test_every_option_is_decided_by_one(model: Any) -> None:
    assert sorted((*READERS[model], *BUNDLES[model])) == sorted(model.model_fields)


def test_the_documentation_has_the_same_list() -> None:
    rows = {
        cells[0].strip(): set(re.findall(r"--[a-z-]+", cells[1]))
        for line in DOCS.read_text().splitlines()
        if len(cells := line.strip("| ").split("|")) == 2
    }
    for table, who in ((BUNDLES, "the bundle's plan"), (READERS, "you")):
        flags = {
            flag.name
            for model, names in table.items()
            for name, flag in flags_of(model).items()
            if name in names
        }
        assert rows[who] == flags


def test_what_costs_the_reader_is_not_the_bundles_to_say() -> None:
    strangers = plan("topology", force=True, keep=True, fail_fast=True, no_report=True)
    topology = readers_plan(strangers, {}).topology
    assert topology is not None
    assert topology == Topology()
    strangers = plan("general", run_timeout=0, start_timeout=1e6, run_dir="/etc", after=3.0)
    general = readers_plan(strangers, {"run_dir": "here"}).general
    assert (general.run_timeout, general.start_timeout, general.run_dir) == (None, 120.0, "here")
    assert general.after == 3.0


def test_the_reader_has_the_last_word() -> None:
    given = {"repeat": 2, "run_timeout": 9.0, "start_timeout": 5.0, "force": True, "keep": True}
    found = readers_plan(plan("general", repeat=5), given)
    assert found.topology is not None
    assert found.run_count == 2
    assert (found.general.run_timeout, found.general.start_timeout) == (9.0, 5.0)
    assert found.topology.force
    assert found.topology.keep
    with pytest.raises(UsageError, match=r"--repeat: .*, not 0"):
        readers_plan(plan("general"), {"repeat": 0})


def test_many_runs_are_the_readers_to_ask_for() -> None:
    assert readers_plan(plan("general", repeat=1000), {}).run_count == 1000
    with pytest.raises(UsageError, match=r"1001 runs, more than 1000: .* --repeat"):
        readers_plan(plan("general", repeat=1001), {})
    assert readers_plan(plan("general", repeat=1001), {"repeat": 5}).run_count == 5


def test_no_stranger_gets_the_readers_login() -> None:
    uuid = "00000000-0000-0000-0000-000000000001"
    document = DOCUMENT | {"executor_name": "globus", "executor": {"endpoints": [uuid]}}
    with pytest.raises(UsageError, match="a login of yours"):
        readers_plan(Plan.model_validate(document), {})


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("general", {"repeat": 10**9}),
        ("general", {"warmup": 10**9}),
        ("general", {"after": float("inf")}),
        ("general", {"baseline_timeout": 1e300}),
        ("general", {"baseline_window": float("nan")}),
        ("general", {"csv_file": "../x.csv"}),
        ("topology", {"cgroup_interval": float("inf")}),
        ("workload", {"task_sleep": 1e300}),
        ("workload", {"stage_repeat": 10**12}),
        ("workload", {"stage_task_counts": [10**12]}),
        ("workload", {"stage_bytes_sizes": [10**30, 1]}),
        ("workload", {"stage_bytes_sizes": [-1, 1]}),
        ("workload", {"stage_task_counts": [], "stage_bytes_sizes": [1]}),
        ("workload", {"modes": []}),
    ],
)
def test_an_absurd_plan_is_refused_in_one_line(section: str, changes: dict[str, object]) -> None:
    manifest = {"plan": published(section, **changes), "harness_version": "0.1.0\x1b[31m"}
    with pytest.raises(Refused) as caught:
        _plan(Path("x.tar.zst"), manifest, {})
    line = str(caught.value)
    assert line.startswith("x.tar.zst: ")
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 500
