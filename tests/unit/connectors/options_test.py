"""Which options each connector takes, and what is refused before anything starts."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.connectors import connectors
from harness.connectors.multi import MultiConfig
from harness.core.errors import HarnessError, InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.core.redis_server import setting
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.topology.compose import services, topology_files

WORKLOAD = " --stage-task-counts 1 --stage-bytes-sizes 1 1 --task-sleep 0"
UUID = "5a0d2f0e-6a3f-4d55-9a77-0f6d1b0c8e21"


def plan_of(line: str, *, containers: bool = False) -> Plan:
    parser = Parser(prog="harness", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    return parse_plan(parser, (line + WORKLOAD).split(), containers=containers)


def error_of(line: str, *, containers: bool = False) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        plan_of(line, containers=containers)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def globus_config(tmp_path: Path) -> str:
    collection = {"host_regex": ".*", "endpoint_path": "/a", "local_path": "/b"}
    path = tmp_path / "globus.json"
    path.write_text(json.dumps({"one": collection, "two": collection}))
    return str(path)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no optional package be installed and nobody be logged in."""
    optional = {m for _, connector in connectors for m in connector.modules}
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name in optional else find_spec(name, package)

    monkeypatch.setattr("harness.connectors._protocol.find_spec", find)
    monkeypatch.setattr("harness.connectors.globus._TOKENS_FILE", "no-such-file")


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("local", {}),
        ("endpoint --ps-endpoints " + UUID, {"endpoints": (UUID,)}),
        ("zmq --ps-port 5", {"port": 5, "address": None, "interface": None}),
        ("ZMQ --ps-port 5 --ps-address 1.2.3.4", {"address": "1.2.3.4"}),
        ("zmq --ps-port 5 --ps-interface eth0", {"interface": "eth0"}),
    ],
)
def test_options_on_the_command_line(flags: str, options: dict[str, object]) -> None:
    found = plan_of(f"--executor thread --ps-connector {flags}").connector.model_dump()
    assert found | options == found


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("endpoint", ["--ps-endpoints", "is required"]),
        ("endpoint --ps-endpoints nonsense", ["--ps-endpoints", "'nonsense' is not a UUID"]),
        ("zmq", ["--ps-port", "is required"]),
        ("zmq --ps-port 0", ["--ps-port", "greater than 0"]),
        ("margo", ["--ps-port", "is required"]),
        ("margo --ps-port 5 --ps-margo-protocol a/b", ["--ps-margo-protocol", "a/b"]),
        ("ucx", ["--ps-port", "is required"]),
        ("daos --ps-daos-pool p --ps-daos-container c", ["--ps-daos-namespace", "is required"]),
        ("daos --ps-daos-container c --ps-daos-namespace n", ["--ps-daos-pool", "is required"]),
        ("daos --ps-daos-pool p --ps-daos-namespace n", ["--ps-daos-container", "is required"]),
        ("globus", ["--ps-globus-config", "is required"]),
        ("globus --ps-globus-config /no/such.json", ["--ps-globus-config", "No such file"]),
        ("multi --ps-host h --ps-port 1", ["--ps-file-dir", "is required"]),
        ("multi --ps-file-dir d", ["--ps-host", "is required"]),
        ("multi --ps-multi-small ftp", ["--ps-multi-small", "ftp", "choose from", "redis"]),
        ("multi --ps-multi-large multi", ["--ps-multi-large", "multi", "choose from"]),
        ("multi --ps-multi-small file --ps-file-dir d", ["both are file"]),
        ("multi --ps-multi-large zmq --ps-host h --ps-port 1", ["both would take --ps-port"]),
        (
            "multi --ps-multi-threshold 0B --ps-file-dir d --ps-host h --ps-port 1",
            ["--ps-multi-threshold", "greater than 0"],
        ),
    ],
)
def test_what_is_missing_or_wrong_is_a_usage_error_that_names_the_flag(
    flags: str, words: list[str]
) -> None:
    error = error_of(f"--executor thread --ps-connector {flags}")
    assert isinstance(error, UsageError)
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("maxmemory", "is not KEY=VALUE"),
        ("hz=5\n0", "is not KEY=VALUE"),
        ("requirepass=x", "requirepass: is the harness's to set"),
        ("save=60 1", "save: is the harness's to set"),
    ],
)
def test_a_setting_of_redis_that_is_none_is_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        setting(word)


def test_settings_of_redis_are_for_a_server_that_is_started() -> None:
    redis = "--executor thread --ps-connector redis --redis-config maxmemory=2gb"
    assert "give it to the one at h" in str(error_of(f"{redis} --ps-host h --ps-port 1"))
    inside = plan_of(redis, containers=True).connector
    assert inside.service_environment == {"redis": {"HARNESS_REDIS_SETTINGS": "maxmemory=2gb"}}
    both = plan_of(redis.replace("redis ", "multi ", 1), containers=True).connector
    assert both.service_environment == inside.service_environment
    refused = error_of(f"{redis} --redis-config port=1", containers=True)
    assert str(refused) == "--redis-config: port: is the harness's to set"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "is not JSON"),
        ("[]", "each collection"),
        ('{"one": {}}', "each collection"),
        ('{"one": {"host_regex": "a", "endpoint_path": "b", "local_path": "c"}}', "two are needed"),
    ],
)
def test_the_globus_file_is_checked(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "globus.json"
    path.write_text(text)
    error = error_of(f"--executor thread --ps-connector globus --ps-globus-config {path}")
    assert isinstance(error, UsageError)
    assert str(path) in str(error)
    assert word in str(error)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("zmq --ps-port 5", ["the Python packages pyzmq and proxystore-ex"]),
        ("margo --ps-port 5 --ps-margo-protocol verbs", ["py-mochi-margo"]),
        ("ucx --ps-port 5 --ps-interface ib0", ["ucx-py-cu12"]),
        ("daos --ps-daos-pool p --ps-daos-container c --ps-daos-namespace n", ["pydaos"]),
        ("globus --ps-globus-config CONFIG", ["proxystore-globus-auth login"]),
    ],
)
def test_what_is_not_installed_is_named_with_exit_code_3(
    flags: str, words: list[str], globus_config: str
) -> None:
    flags = flags.replace("CONFIG", globus_config)
    error = error_of(f"--executor thread --ps-connector {flags}")
    assert isinstance(error, InfrastructureError)
    assert error.exit_code == 3
    for word in (f"--ps-connector {flags.split()[0]}: needs", *words):
        assert word in str(error)


@pytest.mark.parametrize("name", ["margo", "ucx", "daos", "globus"])
def test_containers_say_what_hardware_they_lack(name: str) -> None:
    error = error_of(f"--executor dask --ps-connector {name}", containers=True)
    assert isinstance(error, InfrastructureError)
    assert f"--ps-connector {name}: needs" in str(error)
    assert "harness run" in str(error)
    assert connectors.get(name).needs(containers=True)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("file", {"runner", "scheduler", "worker"}),
        ("redis", {"redis", "runner", "scheduler", "worker"}),
        ("endpoint", {"endpoint", "runner", "scheduler", "worker"}),
        ("zmq", {"runner", "scheduler", "worker"}),
        ("multi", {"redis", "runner", "scheduler", "worker"}),
        (
            "multi --ps-multi-small endpoint --ps-multi-large redis",
            {"endpoint", "redis", "runner", "scheduler", "worker"},
        ),
    ],
)
def test_in_containers_the_name_is_enough(flags: str, found: set[str]) -> None:
    plan = plan_of(f"--executor dask --ps-connector {flags}", containers=True)
    assert set(services(topology_files("dask", *plan.connector.compose_files()))) == found
    inner = plan.in_topology()
    assert Plan.model_validate_json(inner.model_dump_json()) == inner


def test_the_topologys_endpoint_has_the_uuid_its_clients_look_for() -> None:
    options = connectors.get("endpoint").for_topology().model_dump()
    path = topology_files("dask", "endpoint")[-1]
    (uuid,) = options["endpoints"]
    assert uuid in path.read_text()
    assert options["home"] in path.read_text()


def test_multi_takes_the_inner_connectors_flags_and_a_threshold() -> None:
    line = "--executor process --ps-connector multi --ps-multi-small ZMQ --ps-port 5"
    connector = plan_of(f"{line} --ps-file-dir d --ps-multi-threshold 10KB").connector
    assert isinstance(connector, MultiConfig)
    assert connector.threshold == 10_000
    assert connector.small.model_dump()["port"] == 5
    assert connector.large.model_dump() == {"directory": "d"}


@pytest.mark.parametrize("executor", ["process", "dask", "dask --dask-workers 2"])
@pytest.mark.parametrize(
    "connector", ["local", "multi --ps-multi-small local --ps-multi-large file --ps-file-dir d"]
)
def test_local_is_refused_where_workers_have_their_own_memory(
    executor: str, connector: str
) -> None:
    error = error_of(f"--executor {executor} --ps-connector {connector}")
    assert isinstance(error, UsageError)
    assert re.search(r"--ps-connector local: .*--executor (process|dask)", str(error))


@pytest.mark.parametrize("executor", ["thread", "dask --dask-use-threads"])
def test_local_is_for_threads(executor: str) -> None:
    assert plan_of(f"--executor {executor} --ps-connector local")


def test_threads_of_a_dask_cluster_are_worker_containers_in_a_topology() -> None:
    line = "--executor dask --dask-use-threads --ps-connector local"
    assert "--ps-connector local" in str(error_of(line, containers=True))


def test_a_cluster_that_runs_already_has_its_own_number_of_workers() -> None:
    line = "--executor dask --dask-scheduler tcp://h:1 --dask-workers 2 --ps-connector local"
    error = error_of(line)
    assert isinstance(error, UsageError)
    assert "--dask-workers" in str(error)
    assert "--dask-scheduler tcp://h:1" in str(error)
