"""Globus Compute's faults, in containers: each ends in time, by name, and loses nothing."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from docker import DockerClient
from docker.models.containers import Container
from globus_compute_sdk.serialize import ComputeSerializer

from harness.images import ensure
from harness.topology.compose import ComposeProject, image_stacks, new_project_name, topology_files
from tests.integration.conftest import (
    EXAMPLE,
    containers_of,
    finish_bench,
    left_behind,
    project_of,
    run_bench,
    start_bench,
)

PAYLOAD = bytes(1_000_000)
SERDE = ComputeSerializer()
# The limit is what this call has, to the byte.
LIMIT = len(SERDE.pack_buffers([SERDE.serialize((PAYLOAD,)), SERDE.serialize({})]))
LOST_AFTER_S = 30

RUN = (
    "--executor globus --globus-workers 2 --ps-connector file --ps-file-dir /harness/store"
    " --stage-task-counts 1 4 1 --stage-bytes-sizes 1000 1000 1000 1000"
)
# No environment of a login: what a user has outside of a topology.
STRANGER = "env -u HARNESS_GLOBUS_LOGIN GLOBUS_SDK_VERIFY_SSL=/harness/login/ca.pem"


@dataclass
class Ended:
    """A command that has ended in the runner's container."""

    code: int
    out: str
    seconds: float

    @property
    def last(self) -> str:
        """The last line it wrote."""
        return self.out.strip().splitlines()[-1]


@dataclass
class Topology:
    """A topology whose runner sleeps, and what is done in it."""

    project: ComposeProject
    client: DockerClient

    def container(self, service: str) -> Container:
        found = self.client.containers.get(f"{self.project.name}-{service}-1")
        assert isinstance(found, Container)
        return found

    def output(self, service: str, *command: str) -> str:
        """Run a command in a service's container; return what it wrote."""
        done = self.container(service).exec_run(list(command))
        assert isinstance(done.output, bytes)
        return done.output.decode()

    def execute(self, *command: str) -> Ended:
        """Run a command beside the sleeping runner, to its end."""
        start = time.monotonic()
        done = self.container("runner").exec_run(list(command))
        assert isinstance(done.output, bytes)
        assert done.exit_code is not None
        return Ended(done.exit_code, done.output.decode(), time.monotonic() - start)

    def run(self, directory: str, flags: str, prefix: str = "") -> Ended:
        """Run ``harness run`` with a run directory in the runner's scratch space."""
        line = f"{prefix} python -m harness run --run-dir /tmp/{directory} {RUN} {flags}"
        return self.execute(*shlex.split(line))

    def outcomes(self, directory: str) -> list[str]:
        """Return the rows of a run's outcomes so far, without the header."""
        found = self.execute("sh", "-c", f"cat /tmp/{directory}/*/outcomes.csv")
        return found.out.splitlines()[1:] if found.code == 0 else []

    def accepted(self, directory: str, running: Future[Ended]) -> None:
        """Wait until a task of the workload is accepted, and not done.

        Before the first baseline all tasks are probes, which a busy machine may hold for seconds.
        """
        baseline = f"grep -q ,baseline_end, /tmp/{directory}/*/storage.csv"
        count = (
            "import sqlite3; db = sqlite3.connect('/harness/state/service.db');"
            "print(db.execute('SELECT count(*) FROM tasks WHERE completed IS NULL AND submitted <'"
            " \" strftime('%s', 'now') - 2\").fetchone()[0])"
        )
        deadline = time.monotonic() + 180
        while True:
            begun = self.execute("sh", "-c", baseline).code == 0
            if begun and self.output("service", "python", "-c", count).strip() == "1":
                return
            assert not running.done(), running.result().out
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def started(self, directory: str, runs: int, running: Future[Ended]) -> None:
        """Wait until some of its runs are done, and the next one is under way."""
        deadline = time.monotonic() + 180
        while len(self.outcomes(directory)) < runs:
            assert not running.done(), running.result().out
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture(scope="module")
def topology(client: DockerClient) -> Iterator[Topology]:
    """One topology for all faults: each must leave it usable for the next."""
    files = topology_files("globus")
    stacks = image_stacks(files)
    images = ensure(sorted(set(stacks.values())), print)
    project = ComposeProject(
        new_project_name(),
        files,
        {
            **{variable: images[stack].reference for variable, stack in stacks.items()},
            "HARNESS_RUNNER_COMMAND": "sleep 3600",
            "HARNESS_GLOBUS_ENGINE": "thread",
            "HARNESS_GLOBUS_WORKERS": "2",
            "HARNESS_GLOBUS_MAX_SUBMISSION_BYTES": str(LIMIT),
            "HARNESS_GLOBUS_LOST_AFTER_S": str(LOST_AFTER_S),
        },
    )
    try:
        project.up()
        yield Topology(project, client)
    finally:
        project.down(client)
    assert left_behind(client, project.name) == set()


@pytest.fixture(scope="module")
def beside() -> Iterator[ThreadPoolExecutor]:
    """Wait for a run while the test does harm."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_submission_one_byte_over_the_limit(topology: Topology) -> None:
    script = f"""
import sys
from harness.executors.globus import GlobusConfig

def size(data):
    return len(data)

with GlobusConfig(max_submission={10 * LIMIT}).start(120) as executor:
    print(executor.submit(size, bytes({len(PAYLOAD)})).result(120))
    client = executor._sdk.client
    function = client.register_function(size)
    body = {{"tasks": {{function: ["x" * ({LIMIT} + 1)]}}}}
    try:
        client._compute_web_client.v3.submit(executor.endpoints[0], body)
    except Exception as error:
        print(error.http_status, error.text)
"""
    found = topology.execute("python", "-c", script)
    accepted, refused = found.out.strip().splitlines()[-2:]
    assert accepted == str(len(PAYLOAD)), found.out
    assert refused.startswith("413")
    assert "PAYLOAD_TOO_LARGE" in refused
    assert f"{LIMIT + 1} bytes" in refused
    # A plan that was told of another limit: the run ends, and says so.
    ended = topology.run(
        "large", "--task-sleep 0 --stage-bytes-sizes 2MB 1 1 1 --data-management none"
    )
    assert ended.code == 1, ended.out
    (outcome,) = topology.outcomes("large")
    assert ",failed," in outcome
    assert "413" in outcome
    # The plan knows it before.
    flags = f"--task-sleep 0 --stage-bytes-sizes 2MB 1 1 1 --globus-max-submission {LIMIT}"
    ended = topology.run("refused", f"{flags} --data-management none")
    assert ended.code == 2
    assert "--data-management none: a task gets 2.00 MB" in ended.last


def test_a_wrong_endpoint(topology: Topology) -> None:
    unknown = uuid4()
    ended = topology.run("uuid", f"--task-sleep 0 --globus-compute-endpoint {unknown}")
    assert ended.code == 3
    assert f"endpoint {unknown} is not registered" in ended.last
    assert "Traceback" not in ended.out
    assert ended.seconds < 120


def test_a_wrong_secret(topology: Topology) -> None:
    login = f"GLOBUS_COMPUTE_CLIENT_ID={uuid4()} GLOBUS_COMPUTE_CLIENT_SECRET=wrong"
    flags = f"--task-sleep 0 --globus-compute-endpoint {uuid4()}"
    ended = topology.run("secret", flags, f"{STRANGER} {login}")
    assert ended.code == 3
    assert "unknown client or wrong secret" in ended.last
    assert "Traceback" not in ended.out
    assert ended.seconds < 120


@pytest.mark.parametrize("service", ["service", "broker"])
def test_a_service_that_is_killed_and_started_again(
    service: str, topology: Topology, beside: ThreadPoolExecutor
) -> None:
    # A broker that is killed may forget an acknowledgement: a task runs twice then, and in a mode
    # with a store its second object would stay behind.
    flags = "--task-sleep 1 --data-management none --repeat 2"
    running = beside.submit(topology.run, service, flags)
    topology.started(service, 1, running)
    container = topology.container(service)
    container.kill()
    container.start()
    ended = running.result(200)
    assert ended.code == 0, ended.out
    outcomes = topology.outcomes(service)
    assert [line.split(",")[3] for line in outcomes] == ["ok"] * 2
    manifest = json.loads(
        topology.output("runner", "sh", "-c", f"cat /tmp/{service}/*/manifest.json")
    )
    assert "stand-in" in manifest["notes"][0]
    results = topology.execute("sh", "-c", f"cat /tmp/{service}/*/results.csv").out
    assert len(results.splitlines()) == 3


def test_a_user_endpoint_that_cannot_start(topology: Topology) -> None:
    template = "/tmp/globus_compute/harness/user_config_template.yaml.j2"
    script = """
import time
from harness.executors.globus import GlobusConfig

with GlobusConfig().start(120) as executor:
    # Another user configuration: another user endpoint is started.
    executor._sdk.user_endpoint_config = {"other": True}
    start = time.monotonic()
    print(executor.submit(len, b"").exception(150))
    assert time.monotonic() - start < 150
"""
    before = topology.output("worker", "cat", template)
    write = f"import sys; open('{template}', 'w').write(sys.argv[1])"
    topology.output("worker", "python", "-c", write, "engine: {type: NoSuchEngine}")
    try:
        ended = topology.execute("python", "-c", script)
    finally:
        topology.output("worker", "python", "-c", write, before)
    assert ended.code == 0, ended.out
    assert "USER_ENDPOINT_FAILED" in ended.out
    # The other user endpoint has not noticed.
    ended = topology.run("unharmed", "--task-sleep 0 --data-management none")
    assert ended.code == 0, ended.out


def test_a_user_endpoint_that_is_killed(topology: Topology, beside: ThreadPoolExecutor) -> None:
    flags = "--task-sleep 100 --data-management none"
    running = beside.submit(topology.run, "killed", flags)
    topology.accepted("killed", running)
    kill = (
        "import os, pathlib, signal\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    pid = int(path.parent.name)\n"
        "    if b'uep.' in path.read_bytes() and pid != os.getpid():\n"
        "        print(pid)\n"
        "        os.kill(pid, signal.SIGKILL)\n"
    )
    assert topology.output("worker", "python", "-c", kill), "there is no user endpoint to kill"
    start = time.monotonic()
    ended = running.result(200)
    assert ended.code == 1, ended.out
    assert time.monotonic() - start < LOST_AFTER_S + 90
    last = topology.outcomes("killed")[-1]
    assert ",failed," in last
    assert "USER_ENDPOINT_LOST" in last
    assert "Traceback" not in ended.out
    # And the next run starts another one.
    ended = topology.run("again", "--task-sleep 0 --data-management none")
    assert ended.code == 0, ended.out


def test_nothing_secret_is_in_logs_configuration_or_container(topology: Topology) -> None:
    secrets = json.loads(topology.output("service", "cat", "/harness/keys/secrets.json"))
    hidden = [secrets["client"]["client_secret"], *secrets["passwords"].values()]
    assert len(hidden) == 4
    shown = [topology.project.config()]
    for container in containers_of(topology.client, topology.project.name):
        shown += [container.logs().decode(errors="replace"), json.dumps(container.attrs)]
    for secret in hidden:
        assert not any(secret in text for text in shown)
    # Only service and broker have keys; nobody else can read a password of theirs.
    for service in ("runner", "worker"):
        listed = topology.container(service).exec_run(["ls", "/harness/keys"])
        assert listed.exit_code != 0


def test_the_cloud_is_called_and_nothing_local_is_started(
    client: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a-secret-of-nobody"
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", str(uuid4()))
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", secret)
    flags = [*EXAMPLE[4:], "--executor", "globus", "--globus-compute-endpoint", str(uuid4())]
    flags += ["--ps-connector", "file", "--stage-bytes-sizes", "1", "1", "1", "1", "1"]
    bench = run_bench(tmp_path, *flags, "--data-management", "none")
    # Where there is no network nobody answers; where there is, nobody knows this client.
    assert bench.code == 3, bench.err
    last = bench.err.splitlines()[-1]
    assert "infrastructure: --executor globus: the " in last
    assert "auth.globus.org" in last or "401" in last
    assert "Traceback" not in bench.err
    assert [path.name for path in (bench.directory / "logs").iterdir()] == ["runner-1.log"]
    assert bench.manifest["notes"] == []
    for path in bench.directory.rglob("*"):
        assert not path.is_file() or secret not in path.read_text()
    assert left_behind(client, bench.project) == set()


def test_a_worker_that_is_killed_in_a_bench(client: DockerClient, tmp_path: Path) -> None:
    flags = [*EXAMPLE[4:], "--executor", "globus", "--globus-engine", "process"]
    flags += ["--globus-endpoints", "2", "--globus-workers", "1", "--ps-connector", "redis"]
    # A fan-in of three payloads of 2.5 MB is within the limit for one task.
    flags += ["--stage-bytes-sizes", "1MB", "2.5MB", "2.5MB", "2.5MB", "1000", "--repeat", "50"]
    flags += ["--fail-fast"]
    process = start_bench(tmp_path, *flags)
    project = project_of(tmp_path)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.read_text().count("\n") >= 2 for path in tmp_path.glob("*/outcomes.csv")):
            break
        time.sleep(0.05)
    client.containers.get(f"{project}-worker-2").kill()
    bench = finish_bench(process, tmp_path, timeout_s=180)
    assert bench.code == 1, bench.err
    outcomes = bench.rows("outcomes.csv")
    assert [row["outcome"] for row in outcomes] == ["ok"] * (len(outcomes) - 1) + ["killed"]
    assert outcomes[-1]["service"] == "worker-2"
    assert "stand-in" in bench.out
    assert any("stand-in" in note for note in bench.manifest["notes"])
    assert left_behind(client, project) == set()
