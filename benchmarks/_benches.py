"""What several of these programs do: run a bench to its end, start containers that sample."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.models.containers import Container

from harness.results.directory import RunDirectory
from harness.topology.engine import RUN_LABEL

DASK_IMAGE = "workflow-memory-harness/dask:latest"


def bench(flags: list[str], place: Path) -> RunDirectory:
    """Run a bench in a new directory; one that has to be ended takes its containers down first.

    Raises:
        subprocess.CalledProcessError: if it does not end well.
    """
    command = [sys.executable, "-m", "harness", "bench", *flags, "--run-dir", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise subprocess.CalledProcessError(code, command)
    (directory,) = (path for path in place.iterdir() if path.is_dir())
    return RunDirectory(directory)


@contextmanager
def idle_containers(
    client: docker.DockerClient, count: int, folder: str, interval_s: float
) -> Iterator[list[Container]]:
    """Start containers that only sample themselves; remove them in the end."""
    Path(folder).chmod(0o777)
    containers: list[Container] = []
    try:
        for number in range(count):
            containers.append(
                client.containers.run(
                    DASK_IMAGE,
                    ["python", "-m", "harness.sampling.inside", "--", "sleep", "infinity"],
                    detach=True,
                    network_mode="none",
                    volumes={folder: {"bind": "/harness/run", "mode": "rw"}},
                    environment={
                        "HARNESS_RUN_DIR": "/harness/run",
                        "HARNESS_INSIDE_INTERVAL": str(interval_s),
                        "HARNESS_CONTAINER": f"idle-{number}",
                    },
                    labels={RUN_LABEL: f"benchmark-{os.getpid()}"},
                )
            )
        for container in containers:
            container.reload()
        yield containers
    finally:
        for container in containers:
            container.remove(force=True)
