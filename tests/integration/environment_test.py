"""Benches in surroundings that are not a developer's own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from docker import DockerClient

from harness.topology.engine import OWNER_LABEL
from harness.topology.records import BenchProcess, State
from tests.integration.conftest import left_behind

SHORT = (
    "--executor dask --dask-workers 1 --ps-connector redis --data-management none"
    " --stage-task-counts 1 --stage-bytes-sizes 1KB 1KB --task-sleep 0 --no-report"
)

PLUGINS = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"), "cli-plugins")
BARE = {
    # Where root cannot make one either.
    "HOME": "/proc/nonexistent",
    "TMPDIR": "/proc/nonexistent",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}
# Where an ordinary user has compose whose system has none.
if PLUGINS.is_dir():
    BARE["DOCKER_CONFIG"] = str(PLUGINS.parent)


def harness(
    *words: str, cwd: Path, before: Sequence[str] = (), env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    variables = dict(os.environ) | dict(env or {})
    return subprocess.run(
        [*before, sys.executable, "-m", "harness", *words],
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_a_bench_under_any_umask_in_a_folder_of_any_name(
    umask: int, tmp_path: Path, client: DockerClient
) -> None:
    runs = "runs of: a $HOME, 'b'"
    before = os.umask(umask)
    try:
        done = harness(
            *("bench", *SHORT.split(), "--run-dir", runs),
            cwd=tmp_path,
            env=BARE,
        )
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / runs).iterdir()
    assert "0001-none-1,none,1,ok," in (directory / "outcomes.csv").read_text()
    assert not left_behind(client, json.loads((directory / "manifest.json").read_text())["project"])


def test_the_context_names_the_engine_for_all(tmp_path: Path) -> None:
    config = str(tmp_path / "docker")
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    for name, address in (("right", host), ("wrong", f"unix://{tmp_path}/nobody.sock")):
        subprocess.run(
            ["docker", "context", "create", name, "--docker", f"host={address}"],
            env=dict(os.environ) | {"DOCKER_CONFIG": config},
            check=True,
            capture_output=True,
        )
    surroundings: dict[str, str | None] = {"DOCKER_CONFIG": config, "DOCKER_HOST": None}
    bench = ("bench", *SHORT.split(), "--run-dir", "runs")
    done = harness(*bench, cwd=tmp_path, env=surroundings | {"DOCKER_CONTEXT": "right"})
    assert done.returncode == 0, done.stderr
    done = harness(*bench, cwd=tmp_path, env=surroundings | {"DOCKER_CONTEXT": "wrong"})
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/nobody.sock (context wrong, DOCKER_CONTEXT)" in done.stderr


@pytest.mark.root
def test_an_engine_that_sees_other_files_has_them_brought_home(
    tmp_path: Path, client: DockerClient
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # A file system that is in this process's namespace alone, as another machine's would be; what
    # is left there is copied out, because it ends with the process.
    mount = (
        *("unshare", "-m", "sh", "-c"),
        'mkdir ../out && mount -t tmpfs none . && cd "$PWD" && "$@" && cp -r runs ../out/',
        "sh",
    )
    names = ("--csv-file", "mine.csv", "--log-file", "mine.txt")
    bench = ("bench", *SHORT.split(), *names, "--run-dir", "runs")
    done = harness(*bench, cwd=elsewhere, before=mount)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "out" / "runs").iterdir()
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["agent"]["form"] == "container"
    assert manifest["cgroup_view_lacks"] == {}
    with (directory / "peaks.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"kernel"}
    whole = ("mine.csv", "mine-memory.csv", "mine.txt", "marks.csv")
    for name in (*whole, "memory-cgroup.csv", "memory-inside.csv"):
        assert (directory / name).stat().st_size > 0, name
    assert set(json.loads((directory / "sampling.json").read_text())) >= {"cgroup", "inside"}
    # Nothing is left: no folder here, no volume or container there.
    assert not (directory / "shared").exists()
    assert not left_behind(client, manifest["project"])
    volumes = [v for v in client.volumes.list() if str(v.name).endswith("-node")]
    owners = [BenchProcess.parse((v.attrs["Labels"] or {}).get(OWNER_LABEL, "")) for v in volumes]
    # Those of benches that run beside this test are theirs.
    assert not [owner for owner in owners if owner is None or owner.state() != State.RUNNING]
