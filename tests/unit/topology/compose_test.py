from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
import yaml

from harness.core.errors import UsageError
from harness.core.flags import Parser
from harness.executors.dask import DaskConfig
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.topology.compose import (
    COMPOSE_DIR,
    ComposeProject,
    ComposeTimeoutError,
    image_stacks,
    new_project_name,
    override_text,
    plan_files,
    service_counts,
    service_environment,
    services,
    topology_files,
)
from harness.topology.ownership import NONROOT, current_owner


def test_a_topology_is_its_executors_file_and_the_connectors_if_it_needs_one() -> None:
    names = [path.name for path in topology_files("dask", "redis")]
    assert names == ["dask.yaml", "redis.yaml", "redis.worker.yaml"]
    # Without worker containers there is nothing to mount the password into.
    assert [path.name for path in topology_files("thread", "redis")] == [
        "thread.yaml",
        "redis.yaml",
    ]
    assert [path.name for path in topology_files("dask", "file")] == ["dask.yaml"]


def test_an_executor_without_a_topology_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--executor slurm: has no topology.*choose from dask"):
        topology_files("slurm", "file")


def test_images_and_services_are_read_off_the_files() -> None:
    files = topology_files("dask", "redis")
    assert image_stacks(files) == {"HARNESS_IMAGE_DASK": "dask", "HARNESS_IMAGE_REDIS": "redis"}
    assert services(files) == ["redis", "runner", "scheduler", "worker"]


def test_every_service_has_its_own_cgroup_parent_and_labels() -> None:
    for path in [*COMPOSE_DIR.glob("*.yaml"), *COMPOSE_DIR.glob("connectors/*.yaml")]:
        if path.name == "common.yaml":
            continue
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            if "extends" not in service:
                continue  # only adds to another file's service
            assert service["cgroup_parent"] == f"${{HARNESS_CGROUP_{name.upper()}:-}}"
            assert service["labels"]["org.workflow-memory-harness.role"] == name


def test_no_container_gets_the_engines_socket_or_a_port() -> None:
    for path in COMPOSE_DIR.rglob("*.yaml"):
        text = path.read_text()
        assert "docker.sock" not in text
        assert "ports:" not in text
        assert "privileged: true" not in text


def test_project_names_are_distinct_and_without_dashes() -> None:
    names = {new_project_name() for _ in range(100)}
    assert len(names) == 100
    assert not any("-" in name for name in names)


def test_containers_never_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)
    monkeypatch.delenv("SUDO_UID", raising=False)
    owner = current_owner()
    assert (owner.uid, owner.container_uid) == (0, NONROOT)
    assert owner.compose_user == f"{NONROOT}:{NONROOT}"
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1234")
    assert current_owner().compose_user == "1234:1234"
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    monkeypatch.setattr(os, "getegid", lambda: 1002)
    owner = current_owner()
    assert (owner.uid, owner.container_uid, owner.container_gid) == (1001, 1001, 1002)


def test_an_executors_example_options_are_options() -> None:
    found = sorted(COMPOSE_DIR.glob("*.args"))
    assert {"dask", "parsl-run", "ray"} <= {path.stem for path in found}
    for path in found:
        executor, _, command = path.stem.partition("-")
        parser = Parser(prog="harness", allow_abbrev=False)
        add_plan_flags(parser, containers=not command)
        line = f"--executor {executor} {path.read_text()} --ps-connector file --ps-file-dir x"
        line += " --stage-task-counts 1 --stage-bytes-sizes 1 1 --task-sleep 0"
        plan = parse_plan(parser, line.split(), containers=not command)
        assert topology_files(executor, "file", plan.executor.containers().name)


def test_compose_files_are_where_the_package_looks() -> None:
    assert Path(COMPOSE_DIR, "common.yaml").is_file()


def test_a_client_that_hangs_ends_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    # Its child holds the pipe, and would for a minute.
    client.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ComposeTimeoutError, match="docker compose up took longer than 1 s"):
        ComposeProject("wmh00000000", [], {}).up(1)
    _wait_for_the_end_of(int((tmp_path / "child").read_text()))


def test_a_client_that_has_ended_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    # What it leaves behind holds its output, in a session that nobody can end with it.
    client.write_text("#!/bin/sh\nsetsid sleep 5 &\necho services:\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    begin = time.monotonic()
    assert ComposeProject("wmh00000000", [], {}).config() == "services:\n"
    assert time.monotonic() - begin < 4


def _wait_for_the_end_of(child: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{child}").exists()


def _bench_plan(more: str) -> Plan:
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    line = "--executor dask --ps-connector redis --stage-task-counts 1 --stage-bytes-sizes 1 1"
    return parse_plan(parser, f"{line} --task-sleep 0 {more}".split(), containers=True)


def test_variables_of_a_plan_are_a_compose_file_of_their_own() -> None:
    plan = _bench_plan(
        "--env worker:A=1 --env redis:B=x$y --dask-config distributed.comm.compression=lz4"
    )
    found = service_environment(plan, plan_files(plan))

    dask = {"DASK_DISTRIBUTED__COMM__COMPRESSION": "lz4"}
    assert found == {
        "scheduler": dask,
        "runner": dask,
        "worker": dask | {"A": "1"},
        "redis": {"B": "x$y"},
    }
    more = "--redis-config hz=50 --redis-config maxmemory=2gb --env redis:B=1"
    plan = _bench_plan(more)
    assert plan.connector.model_dump()["server_config"] == ["hz=50", "maxmemory=2gb"]
    assert service_environment(plan, plan_files(plan)) == {
        "redis": {"HARNESS_REDIS_SETTINGS": "hz=50\nmaxmemory=2gb", "B": "1"}
    }
    parsed = yaml.safe_load(override_text(found))
    # Compose takes a dollar for a variable of its own.
    assert parsed["services"]["redis"] == {"environment": {"B": "x$$y"}}
    assert service_environment(_bench_plan(""), plan_files(plan)) == {}


def test_a_variable_of_a_service_that_is_not_there_is_refused() -> None:
    plan = _bench_plan("--env broker:A=1")
    with pytest.raises(UsageError, match="no service broker: choose from redis, runner, sched"):
        service_environment(plan, plan_files(plan))


@pytest.mark.parametrize("checked", [True, False])
def test_only_services_that_say_so_are_waited_for(
    checked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "$HARNESS_UNCHECKED $@" > {tmp_path}/words\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ComposeProject("wmh00000000", [], {}, checked=checked).up(10)
    variable, *words = (tmp_path / "words").read_text().split()
    assert ("--wait" in words) == checked
    # The files disable the checks by it.
    assert variable == ("false" if checked else "true")
    assert "disable: ${HARNESS_UNCHECKED:-false}" in (COMPOSE_DIR / "common.yaml").read_text()


def test_worker_containers_are_as_dask_is_told() -> None:
    def told(more: str) -> tuple[list[str], dict[str, int]]:
        plan = _bench_plan(more)
        files = plan_files(plan)
        (command,) = (
            found["command"]
            for name, found in yaml.safe_load(files[0].read_text())["services"].items()
            if name == "worker"
        )
        variables = plan.executor.containers().environment
        words = [
            re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1], m[2]), word)
            for word in command[3:]
        ]
        assert isinstance(plan.executor, DaskConfig)
        # As processes they are told the same.
        assert set(plan.executor.worker_words()) <= set(words)
        return words, service_counts(plan, files)

    words, counts = told("")
    assert words == [
        *("--no-nanny", "--nworkers=1", "--nthreads=1", "--no-dashboard"),
        *("--local-directory=/tmp", "--memory-limit=0"),
    ]
    assert counts["worker"] == 4
    words, counts = told(
        "--dask-workers 3 --dask-nworkers 2 --dask-nthreads 5 --dask-nanny"
        " --dask-memory-limit 300MB"
    )
    assert words == [
        *("--nanny", "--nworkers=2", "--nthreads=5", "--no-dashboard"),
        *("--local-directory=/harness/state", "--memory-limit=300000000"),
    ]
    assert counts["worker"] == 3
