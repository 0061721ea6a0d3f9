"""A workflow in WfFormat, run in containers in all modes, each task as soon as it can run."""

from __future__ import annotations

from pathlib import Path

from docker import DockerClient

from tests.integration.conftest import left_behind, run_bench
from tests.workflows import DIAMOND

MODES = ("none", "default-proxy", "manual-proxy", "owned-proxy")


def test_a_real_graph_in_all_modes(tmp_path: Path, client: DockerClient) -> None:
    flags = [
        *("--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"),
        *("--workload", "wfformat", "--workflow", str(DIAMOND)),
        *("--scale-bytes", "1e5", "--scale-time", "0.2", "--isolate", "none", "--audit-stages"),
    ]
    bench = run_bench(tmp_path, *flags, "--data-management", *MODES)
    assert bench.code == 0, bench.err
    assert [row["outcome"] for row in bench.rows("outcomes.csv")] == ["ok"] * 4
    for row in bench.rows("objects.csv"):
        expected = 8 if row["data_management"] == "default-proxy" else 0
        assert int(row["objects_at_end"]) == int(row["objects_predicted"]) == expected
        assert row["objects_left"] == "0"
    completions = bench.rows("completions.csv")
    assert len(completions) == 3 * 5
    for row in completions:
        assert int(row["least_objects"]) <= int(row["objects"]) <= int(row["most_objects"])
        least, most = int(row["least_bytes"]), int(row["most_bytes"])
        assert 0.99 * least <= int(row["size_bytes"]) <= 1.01 * most
    for row in bench.rows("results.csv"):
        assert row["stage_task_counts"] == "1-2-1-1"
        assert row["stage_bytes_sizes"] == "total:15700000-6000000-1000000-500000-0"
        # The critical path: 0.5 + 2.0 + 0.25 s, a fifth of it.
        assert float(row["workflow_makespan_s"]) > 0.55
    # The file is read on the host; what is run of it has come with the plan.
    assert len(bench.manifest["plan"]["workload"]["sha256"]) == 64
    assert bench.manifest["plan"]["workload"]["instance"]
    assert "worst completion" in bench.out
    assert left_behind(client, bench.project) == set()
