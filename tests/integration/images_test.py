"""Images are built for real, used as topologies use them, and built again to compare."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.images import Image, docker_cli, ensure, known_stacks
from harness.images.lock import DIFFERS
from harness.images.verify import verify

STACKS = ("dask", "redis")
USER = "12345:54321"


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    return ensure(STACKS, print)


def run(image: Image, *command: str) -> str:
    """Run a command as a service runs: any user, nothing writable, no capability, no network."""
    flags = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    flags += ["--security-opt=no-new-privileges", f"--user={USER}", "--rm"]
    done = subprocess.run(
        ["docker", "run", *flags, image.reference, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_names_ids_and_labels(images: dict[str, Image]) -> None:
    for stack, image in images.items():
        assert re.fullmatch(rf"workflow-memory-harness/{stack}:[0-9a-f]{{12}}", image.reference)
        latest = docker_cli.find(f"workflow-memory-harness/{stack}:latest")
        assert latest is not None
        assert latest.id == image.id
        assert latest.size_bytes == image.size_bytes
        assert latest.labels[docker_cli.STACK_LABEL] == stack
        assert latest.labels["org.opencontainers.image.created"] == "2025-10-09T08:53:20Z"
        assert latest.labels["org.opencontainers.image.base.digest"].startswith("sha256:")
        assert len(latest.labels["org.opencontainers.image.revision"]) == 12
    assert images["dask"].size_bytes <= 230e6


def test_an_unchanged_image_is_not_built_again(images: dict[str, Image]) -> None:
    said: list[str] = []
    assert ensure(STACKS, said.append) == images
    assert said == []  # it says so before it builds


def test_dask_image_has_what_a_worker_needs(images: dict[str, Image]) -> None:
    program = (
        "import os, distributed, proxystore.store, redis, harness.workflow; print(os.getuid())"
    )
    assert run(images["dask"], "python", "-c", program) == "12345\n"
    assert "--stage-task-counts" in run(images["dask"], "python", "-m", "harness", "run", "--help")


def test_sampler_imports_in_both_images(images: dict[str, Image]) -> None:
    for image in images.values():
        run(image, "python", "-c", "import harness.sampling.inside")


def test_redis_image_has_a_server(images: dict[str, Image]) -> None:
    script = (
        "redis-server --save '' --dir /tmp --daemonize yes --logfile /tmp/log >/dev/null;"
        "for i in 1 2 3 4 5 6 7 8 9; do redis-cli ping && break; sleep 0.2; done"
    )
    assert "PONG" in run(images["redis"], "sh", "-c", script)
    recorded = run(images["redis"], "cat", "/usr/share/harness/debian-packages.txt")
    assert re.search(r"^redis-server\t5:8\.0\.\S+$", recorded, re.MULTILINE)


def test_directories_that_topologies_mount(images: dict[str, Image]) -> None:
    for image in images.values():
        modes = run(image, "stat", "-c", "%a %n", "/harness/run", "/harness/store").splitlines()
        assert modes == ["1777 /harness/run", "1777 /harness/store"]
        assert run(image, "ls", "-A", "/harness/store") == ""


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use other certificates than those that the images were first built with."""
    given = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    file = tmp_path / "ca.crt"
    file.write_text(f"# private authority of this test\n{Path(given).read_text()}")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


# A base and two images from nothing: a minute, and on a busy machine several.
# Names bytecode files that hold the time of their source, or a hash to be checked.
CHECKED = """
import pathlib, struct
for path in pathlib.Path("/opt/venv").rglob("*.pyc"):
    with path.open("rb") as file:
        flags = struct.unpack("<I", file.read(8)[4:])[0]
    if flags != 1:
        print(path)
"""


@pytest.mark.parametrize("stack", known_stacks())
def test_no_bytecode_depends_on_when_it_was_compiled(stack: str) -> None:
    assert run(ensure([stack], print)[stack], "python", "-c", CHECKED) == ""


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("authority")
def test_building_again_gives_the_same_bits_whatever_the_machines_own(
    images: dict[str, Image],
) -> None:
    said: list[str] = []
    results = verify(STACKS, said.append)
    assert [result.stack for result in results] == ["base", *STACKS]
    assert sum("again" in line for line in said) == len(results)
    for result in results:
        assert result.difference is None
        # A mirror or the package may have moved on since the lock was written; the same files
        # never give other bits than are locked.
        assert result.lock != DIFFERS, result
    for stack, result in zip(STACKS, results[1:], strict=True):
        assert images[stack].id in (result.image.id, result.image.manifest)
        assert images[stack].layers[-1] == result.image.layers[-1].digest
