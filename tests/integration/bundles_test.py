"""A run is packed, checked, run again and judged; images go to a registry and come back."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.images import docker_cli, ensure
from harness.images import registry as registry_module
from harness.images import verify as verify_module
from harness.images.lock import ImagesLock
from harness.images.recipe import base_recipe, repository_root
from harness.images.registry import pull, push
from harness.images.verify import lock
from harness.reproduce.reader import opened_bundle
from tests.integration.conftest import Bench, run_bench

# Some build images, bench twice and compress 200 MB: half a minute, on a busy machine several.
pytestmark = pytest.mark.timeout(1200)

# Four runs on either side are the fewest that a test can tell apart.
FLAGS = [
    *("--executor", "dask", "--dask-workers", "2", "--ps-connector", "redis"),
    *("--data-management", "owned-proxy", "--repeat", "4"),
    *("--stage-task-counts", "1", "2", "--stage-bytes-sizes", "1MB", "1MB", "1MB"),
    *("--task-sleep", "0.2"),
]
# A busy machine may be slower by much, but not by ten times.
WIDE = ["--threshold", "1000%"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    done = run_bench(tmp_path_factory.mktemp("published"), *FLAGS)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def bundle(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "x.tar.zst"
    done = harness("pack", str(bench.directory), "-o", str(target))
    assert done.returncode == 0, done.stderr
    return target


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_the_same_run_is_the_same_bundle(bench: Bench, bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar.zst"
    assert harness("pack", str(bench.directory), "-o", str(again)).returncode == 0
    assert again.read_bytes() == bundle.read_bytes()
    # Scheduler, workers and runner share an image, and all images share the base.
    assert bundle.stat().st_size <= 80e6


def test_what_is_in_it(bench: Bench, bundle: Path) -> None:
    with opened_bundle(bundle, lambda name: not name.startswith("images/")) as found:
        for path in bench.directory.rglob("*"):
            if path.is_file():
                packed = found.file(f"run/{path.relative_to(bench.directory)}")
                assert packed.read_bytes() == path.read_bytes()
        sources = found.file("run/compose/sources")
        assert (sources / "common.yaml").exists()
        assert (sources / "dask.yaml").exists()
        assert (sources / "connectors/redis.yaml").exists()
        root = repository_root()
        locked = found.file("locks/dask/requirements.lock").read_bytes()
        assert locked == (root / "images/dask/requirements.lock").read_bytes()
        for stack, names in (("dask", {"distributed", "libc6:amd64"}), ("redis", {"redis-server"})):
            bill = json.loads(found.file(f"sbom/{stack}.cdx.json").read_text())
            assert bill["bomFormat"] == "CycloneDX"
            components = {item["name"] for item in bill["components"]}
            # Of another architecture, the C library has another name.
            assert {name.partition(":")[0] for name in names} <= {
                name.partition(":")[0] for name in components
            }
    shown = harness("inspect", str(bundle))
    assert shown.returncode == 0, shown.stderr
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() in shown.stdout
    assert str(bench.manifest["images"]["dask"]["id"]) in shown.stdout


def test_it_is_reproduced_on_its_own_images(bench: Bench, bundle: Path, tmp_path: Path) -> None:
    done = harness("reproduce", str(bundle), "--run-dir", str(tmp_path), *WIDE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: reproduced" in done.stdout
    again = Bench(done.returncode, done.stdout, done.stderr, tmp_path)
    assert [row["outcome"] for row in again.rows("outcomes.csv")] == ["ok"] * 4
    for stack, image in again.manifest["images"].items():
        assert image["id"] == bench.manifest["images"][stack]["id"]
        assert ":bundle-" in image["reference"]
    found = again.json("reproduction.json")
    assert found["bundle_sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert found["verdict"] == "reproduced"
    assert found["conclusion"] == "same"
    assert {row["mode_a"] for row in found["rows"]} == {"owned-proxy"}
    # On the machine it was published from, times count too.
    assert {"net_peak", "peak_per_payload", "makespan"} <= set(found["carries_over"])
    makespan = next(row for row in found["rows"] if row["metric"] == "makespan")
    assert [len(makespan[side]["values"]) for side in ("a", "b")] == [4, 4]
    assert makespan["verdict"] in ("equivalent", "too small to measure here")


def test_another_result_is_not_reproduced(bench: Bench, tmp_path: Path) -> None:
    published = tmp_path / "published"
    shutil.copytree(bench.directory, published)
    results = published / "results.csv"
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with results.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for row in rows:
            # Four times as fast as its tasks slept: no machine gives that again.
            table.writerow(row | {"workflow_makespan_s": "0.1"})
    target = tmp_path / "x.tar.zst"
    assert harness("pack", "--no-images", str(published), "-o", str(target)).returncode == 0
    assert target.stat().st_size < 5e6
    runs = tmp_path / "runs"
    done = harness("reproduce", str(target), "--run-dir", str(runs))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "using this checkout's" in done.stderr
    assert "Verdict: not reproduced" in done.stdout


def test_a_damaged_bundle_loads_nothing(bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    broken = tmp_path / "x.tar.zst"
    broken.write_bytes(data)
    before = bundled_images()
    for command in (
        ["reproduce", str(broken), "--run-dir", str(tmp_path / "runs")],
        ["inspect", str(broken)],
    ):
        done = harness(*command)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"{broken}: is damaged" in done.stderr
    assert not (tmp_path / "runs").exists()
    assert bundled_images() == before


def bundled_images() -> set[str]:
    """Return the names of all images that came out of bundles."""
    return {tag for image in docker_cli.labelled() for tag in image.tags if ":bundle-" in tag}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Debian's registry, unpacked and not installed, on a port of the loopback device."""
    place = tmp_path_factory.mktemp("registry")
    # apt downloads as a user of its own, who cannot read what belongs to root.
    for command in (
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "docker-registry"],
        ["sh", "-c", "dpkg-deb -x docker-registry_*.deb ."],
    ):
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    if not shutil.which("skopeo"):
        install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", "skopeo"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(install, env=environment, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = place / "config.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}"
    config.write_text(f"version: 0.1\n{storage}\nhttp: {{addr: {address}}}\n")
    log = place / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [place / "usr/bin/docker-registry", "serve", config], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while "listening on" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_registry_keeps_the_digests(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lock in the repository may be of an older package.
    file = tmp_path / "images.lock"
    for module in (registry_module, verify_module):
        monkeypatch.setattr(module, "FILE", str(file))
    image = ensure(["redis"], print)["redis"]
    lock(["redis"], print)
    locked = ImagesLock.read(file).architectures[base_recipe(repository_root()).architecture]
    name = push(registry, ["redis"], print)["redis"]
    try:
        digest = locked.stacks["redis"].manifest
        assert name == f"{registry}/workflow-memory-harness/redis@{digest}"
        assert pull(registry, ["redis"], print)["redis"] == image
        found = docker_cli.find(name)
        assert found is not None
        assert found.id == image.id
    finally:
        docker_cli.remove([name])


def test_compose_files_take_an_image_by_digest(registry: str) -> None:
    name = f"{registry}/workflow-memory-harness/dask@sha256:{'0' * 64}"
    done = subprocess.run(
        ["docker", "compose", "-f", "compose/dask.yaml", "config", "--images"],
        cwd=repository_root(),
        env=os.environ | {"HARNESS_IMAGE_DASK": name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {name}
