"""A failed build says why in one line; a registry that does not answer is given up soon."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.images.docker_cli import last_error, pull, run_logged

PIP = """\
#6 [venv 3/3] RUN sh /build/venv.sh
#6 1.949 ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
#6 1.949         Expected sha256 0000
#6 ERROR: executor failed running [/bin/sh -c sh /build/venv.sh]: exit code: 1
------
1.949 ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
------
ERROR: failed to solve: executor failed running [/bin/sh -c sh /build/venv.sh]: exit code: 1
"""
APT = """\
#6 2.8 Reading package lists...
#6 3.1 E: Unable to locate package no-such-package
#6 ERROR: process "/bin/sh -c sh /build/packages.sh" did not complete successfully: exit code: 100
ERROR: failed to solve: process "/bin/sh" did not complete successfully: exit code: 100
"""
FRONTEND = """\
#1 [internal] load build definition from Dockerfile
ERROR: failed to solve: dockerfile parse error on line 3: unknown instruction: RUNN
"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (PIP, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
        (APT, "E: Unable to locate package no-such-package"),
        (
            FRONTEND,
            "ERROR: failed to solve: dockerfile parse error on line 3: unknown instruction: RUNN",
        ),
        ("first\nlast\n\n", "last"),
        ("", "no output"),
    ],
)
def test_the_line_that_says_why(output: str, line: str) -> None:
    assert last_error(output) == line


def test_a_failed_command_is_one_line_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "print('E: disk full: /var'); raise SystemExit(3)"]
    with pytest.raises(InfrastructureError) as caught:
        run_logged(command, log, "building failed")
    assert str(caught.value) == f"building failed: E: disk full: /var (log: {log})"


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no-such-command is not installed"):
        run_logged(["no-such-command"], tmp_path / "log", "building failed")


@pytest.mark.parametrize(
    ("client", "worked"),
    [
        ("echo 'trixie: Pulling from library/python'", True),
        ("echo 'trixie: Pulling from library/python'; sleep 0.3", True),
        ("echo 'trixie: Pulling from library/python'; exec sleep 20", False),
        ("echo 'no such host' >&2; exit 1", False),
        ("exec sleep 20", False),
    ],
)
def test_pull_waits_for_a_registry_that_answers(
    client: str, worked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{client}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    begin = time.monotonic()
    answer = pull("python:3", tmp_path / "log", answer_within_s=0.1, finish_within_s=1.0)
    assert answer is worked
    assert time.monotonic() - begin < 10
