"""Traced runs in real containers: who holds a peak, in figures that add up to the kernel's."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.analysis.why import OWN_PEAK, read_why
from tests.integration.conftest import run_bench

MB = 1_000_000


def test_a_peak_is_named_down_to_the_line_in_containers_as_they_are(tmp_path: Path) -> None:
    line = (
        "--executor dask --dask-workers 1 --ps-connector redis --data-management default-proxy"
        " --stage-task-counts 2 1 --stage-bytes-sizes 20MB 5MB 1KB --task-sleep 0 --why only"
        " --dask-config distributed.admin.log-length=100 --env redis:EXAMPLE=$5"
    )
    bench = run_bench(tmp_path, *line.split())
    assert bench.code == 0, bench.err
    why = read_why(bench.directory)
    assert why.problems == ()
    own = {a.service: a for a in why.accounts if a.moment == OWN_PEAK}
    assert set(own) == {"runner", "scheduler", "worker"}
    for service in ("runner", "worker"):
        account = own[service]
        assert account.kernel_bytes is not None
        assert account.kernel_bytes > 40 * MB
        assert 0.9 <= account.named_bytes / account.kernel_bytes <= 1.15
    # The two inputs that proxies keep, and one that is being stored.
    inputs = own["runner"].holders[0]
    assert inputs.place.startswith("payload (harness/workflow/tasks.py:")
    assert inputs.copies == {20 * MB: 2}
    assert "the runner holds two inputs of 20.0 MB because proxies keep their targets" in bench.out
    (server,) = why.servers
    assert server.at_peak.dataset_bytes >= 20 * MB
    # It is marked, and not among results.
    within = bench.directory / "why"
    assert not (bench.directory / "results.csv").exists()
    assert ",ok,traced," in (within / "outcomes.csv").read_text()
    assert '"traced": true' in (within / "plan.json").read_text()
    assert not list(within.glob("shared/*"))
    # What the flags set is in the containers.
    project = yaml.safe_load((within / "compose" / "project.yaml").read_text())["services"]
    assert project["redis"]["environment"]["EXAMPLE"] == "$$5"
    for service in ("scheduler", "worker", "runner"):
        environment = project[service]["environment"]
        assert environment["DASK_DISTRIBUTED__ADMIN__LOG_LENGTH"] == "100"
