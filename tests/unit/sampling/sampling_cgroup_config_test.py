"""What the host sampler is told, on its way through one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.plan.options import General, Topology
from harness.results.directory import RunDirectory
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig, config_from_json


def test_a_configuration_comes_back_as_it_was() -> None:
    config = SamplerConfig(
        "/run",
        [
            ContainerConfig("worker-1", "worker", 7, "abc"),
            ContainerConfig("x", "y", directory="/c"),
        ],
        service_parents={"worker": "/p"},
        topology_parent="/t",
        baseline_bound_bytes=3,
        marks="/shared/marks.csv",
    )
    line = config.to_json()
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert config_from_json(line) == config


def test_what_is_not_said_is_as_the_flags_have_it() -> None:
    config, general = SamplerConfig("/run", []), General()
    assert config.usage_interval_ns == round(Topology().cgroup_interval * 1e9) == 20_000_000
    assert config.baseline_window_ns == round(general.baseline_window * 1e9)
    assert config.baseline_bound_bytes == general.baseline_bound
    assert config.baseline_timeout_ns == round(general.baseline_timeout * 1e9)
    # The parts five times a second, pressure once.
    assert (config.stat_interval_ns, config.slow_interval_ns) == (200_000_000, 1_000_000_000)


def test_files_that_are_not_said_are_the_run_directorys() -> None:
    directory = RunDirectory(Path("/run"))
    config = SamplerConfig("/run", [], ack="/replies/ack")
    assert config.marks == str(directory.marks)
    assert config.settled == str(directory.settled)
    assert config.ack == "/replies/ack"
    assert config.peaks_file == directory.peaks.name
    assert config.ledger_file == directory.ledger.name
    assert config.samples_file == directory.memory("cgroup").name


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"run_dir": "/r"}', '{"run_dir": "/r", "containers": [{}]}']
)
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        config_from_json(line)
    with pytest.raises(TypeError):
        config_from_json(json.dumps({"run_dir": "/r", "containers": [], "unknown": 1}))
