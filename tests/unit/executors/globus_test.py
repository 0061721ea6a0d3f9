"""Globus Compute's options, refusals, limits, and what is sent together."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from globus_compute_sdk.sdk.batch import Batch

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.executors import _globus_compute, _globus_login
from harness.executors._globus_compute import BURST_LIMIT, GlobusComputeExecutor
from harness.executors._globus_limits import MAX_SUBMISSION_BYTES, encoded_bytes
from harness.executors.globus import GlobusConfig
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.topology.compose import image_stacks, plan_files, service_counts, services

UUID_ = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
WORKLOAD = (
    " --ps-connector file --ps-file-dir x --stage-task-counts 1 2 1"
    " --stage-bytes-sizes 1MB 1MB 1MB 1MB --task-sleep 0"
)


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "none"))
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", UUID_)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "secret")


def plan_of(line: str, *, containers: bool) -> Plan:
    parser = Parser(prog="harness", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    argv = f"--executor globus{WORKLOAD} {line}".split()
    return parse_plan(parser, argv, containers=containers)


def refusal(line: str, *, containers: bool) -> str:
    with pytest.raises(UsageError) as caught:
        plan_of(line, containers=containers)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_topology_has_a_service_and_endpoints_of_its_own() -> None:
    plan = plan_of("--globus-endpoints 2 --globus-engine thread", containers=True)
    files = plan_files(plan)
    assert services(files) == ["broker", "runner", "service", "worker"]
    counts = service_counts(plan, files)
    assert counts == {"broker": 1, "runner": 1, "service": 1, "worker": 2}
    assert plan.executor.worker_count == 2 * 4
    assert set(image_stacks(files).values()) == {"globus", "globus_service", "rabbitmq"}
    env = plan.executor.containers().environment
    assert (env["HARNESS_GLOBUS_ENDPOINTS"], env["HARNESS_GLOBUS_ENGINE"]) == ("2", "thread")
    (note,) = plan.executor.notes()
    assert "stand-in" in note
    # The runner reads the same plan, and finds the endpoints by asking.
    again = Plan.model_validate_json(plan.in_topology().model_dump_json())
    assert isinstance(again.executor, GlobusConfig)
    assert again.executor.endpoints == ()


@pytest.mark.usefixtures("logged_in")
def test_a_real_endpoint_starts_nothing_of_the_local_service() -> None:
    plan = plan_of(f"--globus-compute-endpoint {UUID_} --data-management none", containers=True)
    assert services(plan_files(plan)) == ["runner"]
    assert plan.executor.containers().environment == {}
    assert plan.executor.notes() == ()
    said = refusal(f"--globus-compute-endpoint {UUID_}", containers=True)
    assert "use '--data-management none'" in said


def test_run_needs_an_endpoint_and_a_login() -> None:
    assert "--globus-compute-endpoint: is required" in refusal("", containers=False)
    assert "'nonsense' is not a UUID" in refusal(
        "--globus-compute-endpoint nonsense", containers=False
    )
    for containers in (False, True):
        with pytest.raises(InfrastructureError) as caught:
            plan_of(
                f"--globus-compute-endpoint {UUID_} --data-management none", containers=containers
            )
        assert "nobody is logged in" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("logged_in")
def test_payloads_beyond_the_limit_are_refused_where_bytes_travel() -> None:
    sizes = "--stage-bytes-sizes 1MB 1MB 4MB 1MB --data-management"
    said = refusal(f"{sizes} none owned-proxy", containers=True)
    # Two objects of 4 MB fan in to one task.
    assert said.startswith(
        "--data-management none: a task gets 8.00 MB, which are 10.8 MB serialised"
    )
    assert "10.5 MB" in said
    assert "proxies" in said
    assert plan_of(f"{sizes} owned-proxy", containers=True)
    assert plan_of(f"{sizes} none --globus-max-submission 20MB", containers=True)
    said = refusal(
        "--stage-bytes-sizes 1 1 1 9MB --data-management none --globus-max-submission 20MB"
        f" --globus-compute-endpoint {UUID_}",
        containers=False,
    )
    assert "a task returns 9.00 MB" in said


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 1000, 123_457])
def test_the_size_of_a_payload_is_the_encoders(size: int) -> None:
    import codecs  # noqa: PLC0415

    assert encoded_bytes(size) == len(codecs.encode(b"x" * size, "base64"))


class FakeClient:
    """Takes what the SDK sends and answers with an error, which ends the SDK's executor."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.fx_serializer = None
        self.function = uuid4()

    def register_function(self, _function: Any) -> str:
        return str(self.function)

    def create_batch(self, task_group_id: Any, **_options: Any) -> Batch:
        return Batch(task_group_id)

    def batch_run(self, _endpoint: Any, batch: Batch) -> Any:
        self.sent.append(len(batch))
        raise OSError("enough")


@pytest.fixture
def client() -> Any:
    return FakeClient()


def nothing(*_args: Any) -> None:
    pass


def test_a_stage_is_sent_in_one_request(client: Any) -> None:
    with GlobusComputeExecutor(client, [uuid4()], MAX_SUBMISSION_BYTES) as executor:
        with executor.batch():
            futures = [executor.submit(nothing, number) for number in range(300)]
            assert client.sent == []
        for future in futures:
            with pytest.raises(OSError, match="enough"):
                future.result(30)
    assert client.sent == [300]


def test_a_stage_that_is_too_large_is_sent_in_parts(client: Any) -> None:
    with GlobusComputeExecutor(client, [uuid4()], MAX_SUBMISSION_BYTES) as executor:
        with executor.batch():
            # 2.7 MB each when they are serialised: three are within 10 MiB.
            futures = [executor.submit(nothing, bytes(2_000_000)) for _ in range(8)]
        with pytest.raises(OSError, match="enough"):
            futures[0].result(30)
    assert client.sent == [3]


def test_endpoints_take_turns(client: Any) -> None:
    endpoints = [uuid4(), uuid4()]
    with GlobusComputeExecutor(client, endpoints, MAX_SUBMISSION_BYTES) as executor:
        with executor.batch():
            futures = [executor.submit(nothing) for _ in range(10)]
        with pytest.raises(OSError, match="enough"):
            futures[0].result(30)
    assert client.sent == [5]
    assert BURST_LIMIT == 8


@pytest.mark.usefixtures("logged_in")
def test_a_refused_connection_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        port = closed.getsockname()[1]
        monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", f"http://127.0.0.1:{port}/")
        # The SDK tries six times, longer and longer apart.
        monkeypatch.setattr("globus_sdk.transport.requests.time.sleep", lambda _seconds: None)
        with pytest.raises(InfrastructureError) as caught:
            _globus_compute.connect(10)
    said = str(caught.value)
    assert said.startswith("--executor globus: the Globus Compute service cannot be reached: ")
    assert said.endswith("127.0.0.1: [Errno 111] Connection refused")


@pytest.mark.usefixtures("logged_in")
def test_a_lent_login_is_private_and_gone_afterwards() -> None:
    with _globus_login.lent_login(os.getuid(), os.getgid()) as variables:
        directory = Path(variables["HARNESS_GLOBUS_LOGIN_DIR"])
        (found,) = directory.iterdir()
        assert "secret" in found.read_text()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        assert "secret" not in str(variables)
    assert not directory.exists()


def test_token_storage_is_lent_and_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "storage.db").write_bytes(b"tokens")
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(home))
    _globus_login.require_login()
    with _globus_login.lent_login(os.getuid(), os.getgid()) as variables:
        monkeypatch.setenv("HARNESS_GLOBUS_LOGIN", variables["HARNESS_GLOBUS_LOGIN_DIR"])
        monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "inside"))
        _globus_login.use_topology_login(1)
    assert (tmp_path / "inside" / "storage.db").read_bytes() == b"tokens"
