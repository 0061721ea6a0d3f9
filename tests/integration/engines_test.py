"""Benches on engines of all kinds, and what each view can see there: the table in docs/engines.md.

`HARNESS_WRITE_DOCS=1 pytest tests/integration/engines_test.py` writes the rows of the engines that
this machine can have; otherwise a row that says something else than what was seen is a failure.
Engines without root, Podman and cgroup v2 need a machine with systemd: `scripts/v2-guest run --
scripts/engines-table` writes their rows.
"""

from __future__ import annotations

import csv
import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from harness.analysis.why import OWN_PEAK, TOPOLOGY_PEAK, read_why
from tests.checkout_copy import copy_checkout
from tests.engines_table import seen, write_row
from tests.integration.conftest import left_behind
from tests.integration.elsewhere import Elsewhere, engine_elsewhere

# They make users and network namespaces.
pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "engines.md"
PLAN = (
    "--executor dask --dask-workers 2 --ps-connector redis --data-management none owned-proxy"
    " --stage-task-counts 1 2 1 --stage-bytes-sizes 1MB 5MB 5MB 1KB --task-sleep 0.2 --no-report"
)


def bench(
    tmp_path: Path, *words: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "bench", *PLAN.split(), "--run-dir", "runs", *words],
        cwd=tmp_path,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def only(runs: Path) -> Path:
    (directory,) = runs.iterdir()
    return directory


def check_row(name: str, directory: Path) -> None:
    """Write the row of an engine, or compare it with what docs/engines.md says."""
    cells = seen(directory)
    if os.environ.get("HARNESS_WRITE_DOCS"):
        write_row(DOCS, name, cells)
    row = f"| {name} | {' | '.join(cells)} |"
    assert row in DOCS.read_text(encoding="utf-8").splitlines()


def manifest(directory: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((directory / "manifest.json").read_text())
    return found


def outcomes(directory: Path) -> list[str]:
    with (directory / "outcomes.csv").open() as file:
        return [row["outcome"] for row in csv.DictReader(file)]


def nothing_left(client: DockerClient) -> bool:
    """Say whether no agent or volume of one is left on an engine that nobody else uses."""
    return not client.containers.list(all=True) and not client.volumes.list()


def cgroups_of(directory: Path) -> list[Path]:
    """Return the cgroups of a bench's topologies, under every controller."""
    names = [
        re.findall(r"^name: (\w+)$", path.read_text(), re.MULTILINE)[0]
        for path in directory.glob("compose/project*.yaml")
    ]
    assert names
    tree = Path("/sys/fs/cgroup")
    return [p for name in names for p in (*tree.glob(f"*/{name}"), *tree.glob(f"*/*/{name}"))]


def test_root_on_the_engines_machine_has_a_child(tmp_path: Path, client: DockerClient) -> None:
    done = bench(tmp_path)
    assert done.returncode == 0, done.stderr
    directory = only(tmp_path / "runs")
    check_row("Docker, as root on its machine (cgroup v1)", directory)
    assert not left_behind(client, str(manifest(directory)["project"]))


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """An ordinary user of this machine in the group docker, with a checkout in its home."""
    name = "wmhuser"
    subprocess.run(["userdel", "--remove", name], capture_output=True, check=False)
    subprocess.run(["useradd", "--create-home", "--groups", "docker", name], check=True)
    home = pwd.getpwnam(name).pw_dir
    copy_checkout(Path(home, "checkout"))
    subprocess.run(["chown", "-R", f"{name}:{name}", f"{home}/checkout"], check=True)
    yield name
    subprocess.run(["userdel", "--remove", name], capture_output=True, check=False)


def test_a_user_in_the_group_docker_has_the_kernels_peaks(
    user: str, client: DockerClient, request: pytest.FixtureRequest
) -> None:
    home = Path(pwd.getpwnam(user).pw_dir)
    kept = ("SSL_CERT", "PIP_", "CURL_CA", "REQUESTS_CA", "HTTP", "http", "NO_PROXY", "DOCKER_")
    variables = [f"{k}={v}" for k, v in os.environ.items() if k.startswith(kept)]
    done = subprocess.run(
        [
            *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"),
            *("env", "-i", f"HOME={home}", "PATH=/usr/local/bin:/usr/bin:/bin", *variables),
            *("make", "-C", str(home / "checkout"), "bench", "EXECUTOR=dask", f"ARGS={PLAN}"),
        ],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    directory = only(home / "checkout" / "runs")
    agent = manifest(directory)["agent"]
    assert isinstance(agent, dict)
    assert (agent["form"], agent["clock"]) == ("container", "this machine's")
    uid = pwd.getpwnam(user).pw_uid
    assert {path.lstat().st_uid for path in directory.rglob("*")} == {uid}
    check_row("Docker, in the group docker on its machine (cgroup v1)", directory)
    assert not left_behind(client, str(manifest(directory)["project"]))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with engine_elsewhere("elsewhere") as engine:
        engine.load("dask", "redis")
        yield engine


def test_an_engine_elsewhere_is_watched_there_and_its_files_come_home(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    done = bench(tmp_path, env=elsewhere.variables)
    assert done.returncode == 0, done.stderr
    directory = only(tmp_path / "runs")
    agent = manifest(directory)["agent"]
    assert isinstance(agent, dict)
    # The other machine's clock is 5,000 s ahead, and that is known as well as it is said.
    assert abs(agent["offset_ns"] + 5_000_000_000_000) <= agent["error_ns"]
    assert agent["error_ns"] < 50_000_000
    check_row("Docker elsewhere, by TCP with TLS (cgroup v1)", directory)
    assert outcomes(directory) == ["ok", "ok"]
    # All views are of one clock: rows of the engine's stream lie in the runs, too.
    with (directory / "memory-docker.csv").open() as file:
        assert any(row["run_id"] for row in csv.DictReader(file))
    assert nothing_left(elsewhere.client)


def test_traces_come_home_from_an_engine_elsewhere(elsewhere: Elsewhere, tmp_path: Path) -> None:
    words = "--data-management default-proxy --stage-bytes-sizes 20MB 5MB 5MB 1KB --why only"
    done = bench(tmp_path, *words.split(), env=elsewhere.variables)
    assert done.returncode == 0, done.stderr
    why = read_why(only(tmp_path / "runs"))
    assert why.problems == ()
    accounts = {(a.container, a.moment): a for a in why.accounts}
    assert {container for container, _ in accounts} == {
        "runner-1",
        "scheduler-1",
        "worker-1",
        "worker-2",
    }
    own = accounts["runner-1", OWN_PEAK].attributed
    assert own is not None
    assert 0.9 <= own <= 1.15
    # Its proxy keeps an input all the time. The clock there is another: read by it, all was over.
    assert accounts["runner-1", TOPOLOGY_PEAK].traced_bytes >= 20_000_000
    assert why.servers
    assert nothing_left(elsewhere.client)


def test_an_engine_behind_ssh_is_elsewhere_too(elsewhere: Elsewhere, tmp_path: Path) -> None:
    path, host = re.findall(r"(?:DOCKER_HOST|PATH)=(\S+)", elsewhere.call("env", "ssh"))[::-1]
    names = {"DOCKER_HOST": host, "PATH": os.path.expandvars(path)}
    done = bench(tmp_path, "--data-management", "owned-proxy", env=names)
    assert done.returncode == 0, done.stderr
    directory = only(tmp_path / "runs")
    check_row("Docker elsewhere, by ssh (cgroup v1)", directory)
    assert outcomes(directory) == ["ok"]
    assert nothing_left(elsewhere.client)


def begun(elsewhere: Elsewhere, tmp_path: Path) -> subprocess.Popen[str]:
    """Start a bench there, and return it when its first run is done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "bench", *PLAN.split(), "--repeat", "9"],
        cwd=tmp_path,
        env=os.environ | elsewhere.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/outcomes.csv")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def test_an_agent_that_is_killed_elsewhere_ends_the_plan_and_leaves_nothing(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    process = begun(elsewhere, tmp_path)
    (agent,) = elsewhere.client.containers.list(filters={"name": "agent"})
    agent.kill()
    killed = time.monotonic()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3, said
    assert time.monotonic() - killed < 60
    with (only(tmp_path / "runs") / "outcomes.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["outcome"], last["service"]) == ("infrastructure", "sampler")
    # Its cgroups are removed by another one.
    assert nothing_left(elsewhere.client)
    assert not cgroups_of(only(tmp_path / "runs"))


def test_what_a_killed_bench_left_elsewhere_is_removed_there(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    process = begun(elsewhere, tmp_path)
    deadline = time.monotonic() + 60
    process.kill()
    process.communicate()
    directory = only(tmp_path / "runs")
    finished = outcomes(directory)
    assert finished
    # The agent ends with its standard input.
    while elsewhere.client.containers.list(filters={"name": "agent"}):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cleaned = subprocess.run(
        [sys.executable, "-m", "harness", "clean"],
        env=os.environ | elsewhere.variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert cleaned.returncode == 0, cleaned.stderr
    assert nothing_left(elsewhere.client)
    assert not cgroups_of(directory)
    # No finished run was lost.
    assert outcomes(directory)[: len(finished)] == finished
