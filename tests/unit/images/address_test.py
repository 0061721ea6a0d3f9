"""One engine for SDK, client and compose, whoever names it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.images import address
from harness.topology.engine import connect

CLIENT = """#!/bin/sh
[ "$3" = known ] || { echo "context \\"$3\\" does not exist" >&2; exit 1; }
echo '[{"Endpoints": {"docker": {"Host": "unix:///other.sock"}}, "Storage": {"TLSPath": "%s"}}]'
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a machine without an engine whose client knows one context."""
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(CLIENT % tmp_path)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    variables = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    for name in (*variables, "HARNESS_ENGINE_BEHIND_SSH"):
        # Set first, so that what is set in the test is taken back after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    address.settle.cache_clear()
    yield tmp_path
    address.settle.cache_clear()


def stand_in_for_ssh(machine: Path, script: str) -> None:
    """Put a command ``ssh`` on PATH."""
    path = machine / "bin" / "ssh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_word_it_is_this_machines_engine() -> None:
    assert address.settle() == "unix:///var/run/docker.sock"
    assert "DOCKER_HOST" not in os.environ


def test_the_variable_outweighs_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "known")
    assert address.settle() == "unix:///named.sock (DOCKER_HOST)"


@pytest.mark.parametrize("by", ["variable", "file"])
def test_a_contexts_engine_is_everybodys(
    by: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "docker").mkdir()
    if by == "variable":
        monkeypatch.setenv("DOCKER_CONTEXT", "known")
    else:
        (machine / "config.json").write_text(json.dumps({"currentContext": "known"}))
    assert address.settle().startswith("unix:///other.sock (context known, ")
    assert os.environ["DOCKER_HOST"] == "unix:///other.sock"
    assert os.environ["DOCKER_CERT_PATH"] == str(machine / "docker")
    assert "DOCKER_CONTEXT" not in os.environ


@pytest.mark.parametrize("text", ["", "[]", "{", '{"currentContext": 3}', '{"currentContext": ""}'])
def test_a_configuration_of_any_text_is_read(text: str, machine: Path) -> None:
    (machine / "config.json").write_text(text)
    assert address.settle() == "unix:///var/run/docker.sock"


def test_an_unknown_context_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "none")
    with pytest.raises(
        InfrastructureError, match="DOCKER_CONTEXT: there is no Docker context none"
    ):
        address.settle()


@pytest.mark.parametrize("host", ["unix:///nowhere.sock", "tcp://127.0.0.1:1", "nonsense"])
def test_an_engine_that_does_not_answer_is_named(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(InfrastructureError) as caught:
        connect(2)
    assert str(caught.value).startswith(f"no Docker engine answers at {host} (DOCKER_HOST): ")
    assert "\n" not in str(caught.value)


def test_ssh_forwards_a_socket_that_everybody_takes(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atexit.register", lambda *_, **__: None)
    stand_in_for_ssh(
        machine,
        f'echo "$@" >{machine}/words; shift 8; touch "${{1%%:*}}"; cat',
    )
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@there:2222/run/its.sock")
    assert address.settle() == "ssh://me@there:2222/run/its.sock (DOCKER_HOST)"
    here = os.environ["DOCKER_HOST"].removeprefix("unix://")
    assert Path(here).exists()
    shutil.rmtree(Path(here).parent)
    words = (machine / "words").read_text().split()
    assert words[-7:] == ["-p", "2222", "-L", f"{here}:/run/its.sock", "--", "me@there", "cat"]
    assert "BatchMode=yes" in words


def test_what_ssh_says_is_in_the_one_line(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_ssh(machine, "echo noise >&2; echo me@there: Permission denied >&2; exit 255")
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@there:2222")
    with pytest.raises(InfrastructureError) as caught:
        address.settle()
    assert str(caught.value) == (
        "ssh://me@there:2222: ssh forwards no socket to /var/run/docker.sock there"
        " (me@there: Permission denied): 'ssh -p 2222 me@there' must work without a question"
    )


def test_a_machine_without_ssh_is_told_to_have_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine / "bin"))
    monkeypatch.setenv("DOCKER_HOST", "ssh://there")
    with pytest.raises(InfrastructureError, match="ssh: command not found: install an ssh client"):
        address.settle()
