"""Flags to plans: the reference's flags, and one line for everything that is wrong."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from harness.core.errors import UsageError
from harness.core.flags import Parser
from harness.plan import Mode, Plan, add_plan_flags, parse_plan
from harness.plan.options import General
from tests.bench_plans import stages_of
from tests.workflows import DIAMOND

DOCUMENTED = (
    "--executor dask --dask-workers 4 --ps-connector file --ps-file-dir runs/cache"
    " --data-management none default-proxy owned-proxy --stage-task-counts 1 3 1 1"
    " --stage-bytes-sizes 1000 10000 10000 10000 1000 --task-sleep 1.0 --repeat 5"
)
SHORT = (
    "--executor thread --ps-connector file --ps-file-dir x --stage-task-counts 1"
    " --stage-bytes-sizes 1 1 --task-sleep 0"
)


def plan_of(line: str, *, containers: bool = False) -> Plan:
    parser = Parser(prog="harness run", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    return parse_plan(parser, line.split(), containers=containers)


def refusal(line: str, *, containers: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        plan_of(line, containers=containers)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_documented_command() -> None:
    plan = plan_of(DOCUMENTED)
    assert plan.executor.model_dump()["workers"] == 4
    assert plan.connector.model_dump() == {"directory": "runs/cache"}
    assert plan.workload.modes == ("none", "default-proxy", "owned-proxy")
    assert stages_of(plan).stage_bytes_sizes == (1000, 10000, 10000, 10000, 1000)
    assert plan.workload.sleep_s == 4.0
    assert len(plan.runs()) == 15
    assert [run.run_id for run in plan.runs()[4:6]] == ["0005-none-5", "0006-default-proxy-1"]


def test_the_defaults_are_the_references() -> None:
    plan = plan_of(SHORT)
    assert plan.workload.modes == (Mode.DEFAULT_PROXY, Mode.MANUAL_PROXY, Mode.OWNED_PROXY)
    assert stages_of(plan).stage_repeat == 1
    general = plan.general
    assert (general.repeat, general.run_dir, general.csv_file) == (1, "runs/", "results.csv")
    assert (general.log_level, general.log_file, general.log_file_level) == (
        "BENCH",
        "log.txt",
        "INFO",
    )
    assert general.memory_profile_interval == 0.01


def test_sizes_with_units_and_the_equals_form() -> None:
    plan = plan_of(
        "--executor=dask --ps-connector=REDIS --ps-host=h --ps-port=1 --stage-task-counts 4 1"
        " --stage-bytes-sizes 100MB 10MB 1MB --task-sleep=1"
    )
    assert stages_of(plan).stage_bytes_sizes == (100_000_000, 10_000_000, 1_000_000)
    assert plan.connector.model_dump() == {
        "host": "h",
        "port": 1,
        "password_file": None,
        "server_config": [],
    }


def test_a_topology_fills_in_the_connectors_options() -> None:
    line = SHORT.replace("thread", "dask").replace("file --ps-file-dir x", "redis")
    plan = plan_of(line, containers=True)
    assert plan.connector.model_dump() == {
        "host": "redis",
        "port": 6379,
        "password_file": "/harness/secrets/redis",
        "server_config": [],
    }
    inner = plan.in_topology()
    assert inner.executor.model_dump()["scheduler"] == "tcp://scheduler:8786"
    assert inner.executor.model_dump()["workers"] == 4


def test_a_plan_survives_its_file() -> None:
    plan = plan_of(DOCUMENTED, containers=True).in_topology()
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_seed_and_dask_pure_are_part_of_the_plan() -> None:
    plan = plan_of(DOCUMENTED + " --seed 7 --dask-pure")
    assert plan.workload.seed == 7
    assert plan.executor.model_dump()["pure"] is True
    assert plan_of(DOCUMENTED).executor.model_dump()["pure"] is False


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("--executor thread", "--executor slurm", ["--executor", "slurm", "dask", "thread"]),
        ("--executor thread", "", ["--executor", "required"]),
        ("--ps-connector file", "--ps-connector ftp", ["--ps-connector", "ftp", "redis"]),
        ("--ps-file-dir x", "", ["--ps-file-dir", "required"]),
        ("file --ps-file-dir x", "redis --ps-host h", ["--ps-port", "required"]),
        ("file --ps-file-dir x", "redis --ps-host h --ps-port 70000", ["--ps-port", "65536"]),
        ("--stage-bytes-sizes 1 1", "--stage-bytes-sizes 1", ["--stage-bytes-sizes", "need 2"]),
        ("--stage-bytes-sizes 1 1", "--stage-bytes-sizes 1 10XB", ["--stage-bytes-sizes", "10XB"]),
        ("--stage-task-counts 1", "--stage-task-counts 0", ["--stage-task-counts", "zero"]),
        ("--stage-task-counts 1", "--stage-task-counts -3", ["--stage-task-counts"]),
        ("--stage-task-counts 1", "--stage-task-counts x", ["--stage-task-counts", "x"]),
        ("--task-sleep 0", "", ["--task-sleep", "required"]),
        ("--task-sleep 0", "--task-sleep -1", ["--task-sleep"]),
        ("--task-sleep 0", "--task-sleep nan", ["--task-sleep", "nan"]),
        ("--task-sleep 0", "--task-sleep 0 --repeat 0", ["--repeat", "greater than 0"]),
        ("--task-sleep 0", "--task-sleep 0 --stage-repeat 0", ["--stage-repeat", "zero"]),
        ("--task-sleep 0", "--task-sleep 0 --data-management all", ["--data-management", "all"]),
        ("--task-sleep 0", "--task-sleep 0 --csv-file a/b.csv", ["--csv-file", "a/b.csv"]),
        ("--task-sleep 0", "--task-sleep 0 --reapeat 3", ["--reapeat", "did you mean --repeat"]),
        ("--task-sleep 0", "--task-sleep 0 --memory-profile-interval 0", ["--memory-profile"]),
        ("thread", "thread --thread-pool-max-workers 0", ["--thread-pool-max-workers"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_flag(old: str, new: str, words: list[str]) -> None:
    message = refusal(SHORT.replace(old, new))
    for word in words:
        assert word in message


@pytest.mark.parametrize("counts", ["2 3", "1 3 2", "3 1 3 2"])
def test_a_stage_of_many_may_not_follow_another_number(counts: str) -> None:
    sizes = " ".join(["1"] * (len(counts.split()) + 1))
    line = SHORT.replace("--stage-task-counts 1", f"--stage-task-counts {counts}")
    assert "--stage-task-counts" in refusal(line.replace("sizes 1 1", f"sizes {sizes}"))


@pytest.mark.parametrize("counts", ["3 3 1 3", "1 5 5", "7 1"])
def test_stage_orders_that_are_allowed(counts: str) -> None:
    sizes = " ".join(["1"] * (len(counts.split()) + 1))
    line = SHORT.replace("--stage-task-counts 1", f"--stage-task-counts {counts}")
    assert plan_of(line.replace("sizes 1 1", f"sizes {sizes}"))


def test_a_small_worker_limit_is_refused_and_a_large_one_is_bytes() -> None:
    line = SHORT.replace("thread", "dask") + " --worker-memory-limit "
    assert "--worker-memory-limit" in refusal(line + "1MB", containers=True)
    topology = plan_of(line + "512MiB", containers=True).topology
    assert topology is not None
    assert topology.worker_memory_limit == 512 * 2**20


def test_a_bench_refuses_somebody_elses_cluster() -> None:
    line = SHORT.replace("thread", "dask --dask-scheduler tcp://host:8786")
    message = refusal(line, containers=True)
    assert "--dask-scheduler tcp://host:8786" in message
    assert "harness run" in message


@pytest.mark.parametrize("name", ["../../x.csv", "/x.csv", "", ".."])
@pytest.mark.parametrize("option", ["csv_file", "log_file"])
def test_a_plan_file_cannot_name_files_elsewhere(option: str, name: str) -> None:
    with pytest.raises(ValidationError, match="is not a file name"):
        General.model_validate({option: name})


def test_why_alone_is_after_the_measured_runs() -> None:
    assert plan_of(f"{SHORT} --why").general.why == "after"
    assert plan_of(f"{SHORT} --why only").general.why == "only"
    assert plan_of(SHORT).general.why is None
    for word, only, native in (("native", False, True), ("only-native", True, True)):
        why = plan_of(f"{SHORT} --why {word}").general.why
        assert why is not None
        assert (why.only, why.native) == (only, native)
    assert "invalid choice" in refusal(f"{SHORT} --why never")


def test_runs_over_several_nodes_are_not_traced() -> None:
    plan = plan_of(f"{SHORT.replace(' --ps-file-dir x', '')} --why", containers=True)
    topology = plan.topology
    assert topology is not None
    spread = plan.model_copy(update={"topology": topology.model_copy(update={"nodes": "n.toml"})})
    for each in (spread, spread.traced()):
        with pytest.raises(UsageError, match="--why: not over several --nodes"):
            each.check()


def test_the_plan_of_traced_runs_has_each_mode_once_and_says_so() -> None:
    plan = plan_of(f"{SHORT} --repeat 5 --why --order shuffled").traced()

    assert plan.general.traced
    assert plan.general.why is None
    assert [run.run_id for run in plan.runs()] == [
        "0001-default-proxy-1",
        "0002-manual-proxy-1",
        "0003-owned-proxy-1",
    ]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--env worker=1", "is not SERVICE:KEY=VALUE"),
        ("--env worker:1X=1", "is not SERVICE:KEY=VALUE"),
        ("--env worker:HARNESS_USER=0", "not for others to set"),
    ],
)
def test_a_variable_that_is_none_is_refused(flag: str, said: str) -> None:
    dask = "--executor dask --ps-connector file --stage-task-counts 1 --stage-bytes-sizes 1 1"
    assert said in refusal(f"{dask} --task-sleep 0 {flag}", containers=True)


def test_settings_of_dask_are_for_a_cluster_that_is_started() -> None:
    dask = DOCUMENTED.replace("--dask-workers 4", "")
    assert "is not KEY=VALUE" in refusal(f"{dask} --dask-config x")
    for flag in (
        "--dask-config a.b=1",
        "--dask-nworkers 2 --dask-nanny",
        "--dask-nthreads 2",
        "--dask-nanny",
        "--dask-memory-limit 1GB",
    ):
        running = refusal(f"{dask} --dask-scheduler tcp://h:1 {flag}")
        assert flag.split()[0] in running
        assert "give it to the one at tcp://h:1" in running


def test_several_workers_in_a_container_have_nannies_and_are_for_containers() -> None:
    dask = "--executor dask --ps-connector redis --stage-task-counts 1 --stage-bytes-sizes 1 1"
    dask += " --task-sleep 0"
    assert "add --dask-nanny" in refusal(f"{dask} --dask-nworkers 2", containers=True)
    assert plan_of(f"{dask} --dask-nworkers 2 --dask-nanny", containers=True)
    dask = DOCUMENTED.replace("--dask-workers 4", "")
    assert "--dask-workers" in refusal(f"{dask} --dask-nworkers 2 --dask-nanny")
    assert "--dask-nthreads" in refusal(f"{dask} --dask-nthreads 0")
    assert "--dask-memory-limit" in refusal(f"{dask} --dask-memory-limit 1KB")
    assert plan_of(f"{dask} --dask-nthreads 2 --dask-memory-limit 1GB")


def test_a_runner_is_told_only_what_is_not_as_it_is_anyway() -> None:
    more = "--dask-nworkers 2 --dask-nanny --dask-nthreads 3 --dask-workers 2"
    dask = f"--executor dask --ps-connector redis --task-sleep 0 {more}"
    plan = plan_of(f"{dask} --stage-task-counts 1 --stage-bytes-sizes 1 1", containers=True)
    inside = plan.in_topology()
    assert Plan.model_validate_json(inside.text()) == inside
    told = json.loads(inside.text())
    # Four processes join the scheduler, in two containers.
    assert told["executor"] == {
        "scheduler": "tcp://scheduler:8786",
        "workers": 4,
        "nthreads": 3,
        "nanny": True,
    }
    assert told["general"] == {}


@pytest.mark.parametrize("connector", ["file", "redis", "endpoint", "zmq", "multi"])
def test_a_runner_reads_every_connector_of_what_it_is_told(connector: str) -> None:
    flags = "--stage-task-counts 1 --stage-bytes-sizes 1 1 --task-sleep 0"
    plan = plan_of(f"--executor dask --ps-connector {connector} {flags}", containers=True)
    inside = plan.in_topology()
    assert Plan.model_validate_json(inside.text()) == inside


WORKFLOW = f"--workload wfformat --workflow {DIAMOND}"
POOL = "--executor thread --ps-connector file --ps-file-dir x"


def test_a_workflow_of_a_file() -> None:
    plan = plan_of(f"{POOL} {WORKFLOW} --scale-bytes 2 --cap-bytes 100 --barriers")
    assert plan.workload_name == "wfformat"
    assert plan.workload.barriers
    assert plan.workload.largest_bytes == 100
    # Critical path with barriers: a split, the longer of two, a join, a report.
    assert plan.workload.sleep_s == 0.5 + 2.0 + 0.25
    assert plan.workload.payloads().input_bytes == 200
    assert Plan.model_validate_json(plan.text()) == plan


def test_what_is_wrong_with_a_workflow_is_one_line() -> None:
    assert refusal(f"{POOL} --workload wfformat") == (
        "--workflow: is required: the instance that --workload wfformat runs"
    )
    assert "no-such.json: No such file" in refusal(
        f"{POOL} --workload wfformat --workflow no-such.json"
    )
    assert refusal(f"{POOL} {WORKFLOW} --scale-time -1") == (
        "--scale-time: input should be greater than or equal to 0, not -1.0"
    )
    assert "--scale-bytes: input should be" in refusal(f"{POOL} {WORKFLOW} --scale-bytes nan")
    assert refusal(f"{POOL} {WORKFLOW} --task-sleep 1") == (
        "--task-sleep: is for --workload stages, and this one is wfformat"
    )
    assert refusal(f"{SHORT} --scale-bytes 2") == (
        "--scale-bytes: is for --workload wfformat, and this one is stages"
    )
    assert "invalid choice: 'dag'" in refusal(f"{POOL} --workload dag")
