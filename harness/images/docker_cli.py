"""The few things asked of the engine about images, through its command line client.

The client and not the SDK: builds go through it anyway, and it answers in 20 ms, less than
importing the SDK takes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import InfrastructureError
from harness.images.address import settle

_TERMINATE_S = 20.0
# BuildKit's own names: it keeps their values out of the image and of the cache's keys.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

_PROGRESS = re.compile(r"^(#\d+ )?([\d.]+ )?")
_ERROR = re.compile(r"(E|\w*error)\b.*:", re.IGNORECASE)
_FRAME = re.compile(r"failed to solve|executor failed|did not complete successfully")

STACK_LABEL = "org.workflow-memory-harness.stack"


@dataclass(frozen=True)
class LocalImage:
    """An image the engine has."""

    id: str
    size_bytes: int
    """Sum of its layers, unpacked."""
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    layers: tuple[str, ...]
    """Digests of the unpacked layers, lowest first."""


def inspect(references: Sequence[str]) -> list[LocalImage]:
    """Return those of the named images that exist, in order, without the others.

    Raises:
        InfrastructureError: if the engine does not answer.
    """
    if not references:
        return []
    done = _docker("image", "inspect", *references)
    unexpected = [
        line
        for line in done.stderr.splitlines()
        if line.strip() and "no such image" not in line.lower()
    ]
    if done.returncode and unexpected:
        raise InfrastructureError(f"no Docker engine answers: {unexpected[-1]}")
    return [_local_image(entry) for entry in json.loads(done.stdout or "[]")]


def find(reference: str) -> LocalImage | None:
    """Return one image, or None if the engine does not have it."""
    found = inspect([reference])
    return found[0] if found else None


def labelled() -> list[LocalImage]:
    """Return all images that carry our stack label."""
    done = _docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={STACK_LABEL}")
    _check(done, "list images")
    return inspect(sorted(set(done.stdout.split())))


def tag(reference: str, new: str) -> None:
    """Give an image a further name."""
    _check(_docker("tag", reference, new), f"tag {new}")


def load(archive: Path) -> None:
    """Load an image archive."""
    _check(_docker("load", "--quiet", "--input", str(archive)), f"load {archive}")


def remove(references: Sequence[str]) -> None:
    """Remove names, and the images that have no other; those that are not there are no error."""
    if references:
        _docker("image", "rm", "--no-prune", *references)


def pull(reference: str, log: Path, answer_within_s: float, finish_within_s: float) -> bool:
    """Pull an image; tell whether it worked.

    A registry that answers is given the long time for the transfer; one that does not is given
    up after the short one, because a name that does not resolve, or a firewall that drops
    packets, would otherwise hold up the first build for minutes.

    Args:
        reference: what to pull.
        log: file the client's output is written to.
        answer_within_s: time until the registry must have named the image's layers.
        finish_within_s: time for everything.
    """
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker", "pull", reference],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                waited = time.monotonic() - begin
                answered = waited < answer_within_s or b"Pulling from" in log.read_bytes()
                if not answered or waited > finish_within_s:
                    return False
                time.sleep(0.05)
        finally:
            # Does nothing to one that has ended; the engine drops a pull whose client is gone.
            process.terminate()
            process.wait()
    return process.returncode == 0


def build(
    context: bytes,
    *,
    output: Path,
    target: str = "",
    build_args: Mapping[str, str],
    secrets: Sequence[str],
    log: Path,
    no_cache: bool = False,
) -> None:
    """Build a Dockerfile's stage and write its file system as a tar; the engine keeps no image.

    Args:
        context: tar with a ``Dockerfile`` at its root.
        output: the tar to write.
        target: the stage; the last one where it is empty.
        build_args: values of the Dockerfile's ARGs.
        secrets: BuildKit secrets, as ``--secret`` takes them.
        log: file the build's output is written to.
        no_cache: run every step again.

    Raises:
        InfrastructureError: if the build fails; the message has its last error and the log.
    """
    command = ["docker", "buildx", "build", "--builder", _builder()]
    command += ["--output", f"type=tar,dest={output}"]
    command += ["--progress", "plain", "--file", "Dockerfile"]
    command += ["--target", target] if target else []
    command += ["--no-cache"] if no_cache else []
    for flag, values in (
        ("--build-arg", _pairs(build_args)),
        ("--build-arg", [name for name in _PROXIES if name in os.environ]),
        ("--secret", secrets),
    ):
        for value in values:
            command += [flag, value]
    # An attestation would be one more file beside the tree.
    environment = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    run_logged([*command, "-"], log, f"building {output.stem} failed", context, environment)


def run_logged(
    command: Sequence[str],
    log: Path,
    failure: str,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a long command with its output in a file.

    Raises:
        InfrastructureError: if it fails: ``failure``, the last line of output, the log's path.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        except (FileNotFoundError, PermissionError) as error:
            # Denied: a folder of PATH is another user's, and no other has the command.
            raise InfrastructureError(f"{failure}: {error.filename} is not installed") from error
        try:
            process.communicate(stdin)
        except BaseException:
            # Killed at once, the command could not unmount and remove what it has half made.
            process.terminate()
            try:
                process.wait(timeout=_TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise InfrastructureError(f"{failure}: {last_error(said)} (log: {log})")


def last_error(output: str) -> str:
    """Return the line of a command's output that says best why it failed.

    The last error of pip or apt, rather than the builder's "did not complete successfully";
    the last line of all where nothing looks like an error.
    """
    lines = [_PROGRESS.sub("", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if _ERROR.match(line)]
    return next(
        reversed([e for e in errors if not _FRAME.search(e)] or errors or lines), "no output"
    )


def _builder() -> str:
    """Return the builder of the current context's engine.

    The builder chosen with ``docker buildx use`` may be a container of its own, which sees none
    of the engine's images, the base among them.
    """
    done = _docker("context", "show")
    return done.stdout.strip() or "default"


def _pairs(mapping: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(mapping.items())]


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    settle()
    try:
        return subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise InfrastructureError(
            "docker: command not found: 'make engine' installs a Docker engine"
        ) from error


def _check(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InfrastructureError(f"docker could not {what}: {lines[-1]}")


def _local_image(entry: dict[str, Any]) -> LocalImage:
    return LocalImage(
        id=entry["Id"],
        size_bytes=entry["Size"],
        # Podman says whose they are: this machine's.
        tags=tuple(tag.removeprefix("localhost/") for tag in entry.get("RepoTags") or ()),
        labels=entry["Config"].get("Labels") or {},
        layers=tuple(entry["RootFS"].get("Layers") or ()),
    )
