"""What is to be sampled, on its way through a message to the agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.plan.options import General, Topology
from harness.results.directory import RunDirectory
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig, config_from


def test_a_configuration_comes_back_as_it_was() -> None:
    config = SamplerConfig(
        "/shared",
        "/replies",
        [
            ContainerConfig("worker-1", "worker", 7, "abc"),
            ContainerConfig("x", "y", directory="/c"),
        ],
        service_parents={"worker": "/p"},
        topology_parent="/t",
        baseline_bound_bytes=3,
        user=(65532, 1000),
    )
    assert config_from(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_not_said_is_as_the_flags_have_it() -> None:
    config, general = SamplerConfig("/shared", "/replies", []), General()
    assert config.usage_interval_ns == round(Topology().cgroup_interval * 1e9) == 20_000_000
    assert config.baseline_window_ns == round(general.baseline_window * 1e9)
    assert config.baseline_bound_bytes == general.baseline_bound
    assert config.baseline_timeout_ns == round(general.baseline_timeout * 1e9)
    # The parts five times a second, pressure once.
    assert (config.stat_interval_ns, config.slow_interval_ns) == (200_000_000, 1_000_000_000)


def test_marks_are_in_one_folder_and_what_answers_them_in_another() -> None:
    shared, replies = RunDirectory(Path("/shared")), RunDirectory(Path("/replies"))
    config = SamplerConfig("/shared", "/replies", [])
    assert config.marks == str(shared.marks)
    assert config.ack == str(replies.marks_ack)
    assert config.settled == str(replies.settled)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"shared": "/r"},
        {"shared": "/r", "replies": "/r", "containers": []},
        {"shared": "/r", "replies": "/r", "containers": [{}], "user": [0, 0]},
        {"shared": "/r", "replies": "/r", "containers": [], "user": 0},
        {"shared": "/r", "replies": "/r", "containers": [], "user": [0, 0], "unknown": 1},
    ],
)
def test_another_message_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        config_from(values)
