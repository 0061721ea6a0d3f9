"""Parsl's options and refusals, and what keeps its workers' results data."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest
from proxystore.proxy import Proxy, is_resolved

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.executors._parsl_call import call_sealed
from harness.executors.parsl import POOLS_DIR_VARIABLE, ParslConfig
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.topology.compose import services, topology_files

REST = (
    " --ps-connector file --ps-file-dir x --stage-task-counts 1 --stage-bytes-sizes 1 1"
    " --task-sleep 0"
)
CONFIG = """
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
config = Config(executors=[ThreadPoolExecutor(max_threads=2)])
"""


def plan_of(line: str, *, containers: bool = False) -> Plan:
    parser = Parser(prog="harness run", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    return parse_plan(parser, f"--executor parsl {line}{REST}".split(), containers=containers)


def refusal(line: str, *, containers: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        plan_of(line, containers=containers)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "--parsl-executor: is required"),
        ("--parsl-executor thread", "--parsl-max-workers: is required"),
        ("--parsl-max-workers 2", "--parsl-executor: is required"),
        ("--parsl-executor slurm --parsl-max-workers 2", "slurm"),
        ("--parsl-executor thread --parsl-max-workers 0", "--parsl-max-workers"),
        ("--parsl-executor htex --parsl-max-workers 2", "use 'harness bench'"),
        ("--parsl-executor thread --parsl-config f.py", "leave out --parsl-executor"),
        ("--parsl-config missing.py", "--parsl-config missing.py: No such file"),
    ],
)
def test_refusals_of_run(line: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POOLS_DIR_VARIABLE, raising=False)
    assert words in refusal(line)


def test_a_configuration_file_is_not_for_containers(tmp_path: Path) -> None:
    assert "is for 'harness run'" in refusal(f"--parsl-config {tmp_path}/c.py", containers=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("config = (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("conf = 3", "must define 'config'"),
        ("config = 3", "must define 'config'"),
        (CONFIG.replace("=2)]", "=2), ThreadPoolExecutor(label='b')]"), "has 2 executors"),
    ],
)
def test_a_file_that_is_no_configuration(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(text)
    message = refusal(f"--parsl-config {file}")
    assert message.startswith(f"--parsl-config {file}: ")
    assert words in message


def test_a_file_that_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    plan = plan_of(f"--parsl-config {file} --parsl-max-workers 2")
    assert plan.executor == ParslConfig(config_file=str(file), max_workers=2)


def test_without_parsl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InfrastructureError, match=r"pip install .*\[parsl\]"):
        plan_of("--parsl-executor thread --parsl-max-workers 1")


def test_the_topology_depends_on_the_kind() -> None:
    for kind, roles in (("thread", ["runner"]), ("htex", ["runner", "worker"])):
        plan = plan_of(f"--parsl-executor {kind} --parsl-max-workers 3", containers=True)
        files = topology_files("parsl", "file", topology=plan.executor.containers().name)
        assert services(files) == roles
        env = plan.executor.containers().environment
        assert env == ({"HARNESS_WORKERS": "3"} if kind == "htex" else {})
        assert Plan.model_validate_json(plan.in_topology().model_dump_json()).executor == (
            plan.executor
        )


def test_a_result_is_never_taken_for_code() -> None:
    sealed = call_sealed(lambda: Proxy(lambda: b"data"))
    assert not callable(sealed)
    value = pickle.loads(pickle.dumps(call_sealed(pow, 2, 10)))
    assert value == 1024


def unresolvable() -> bytes:
    raise KeyError("gone")


def proxy_of_nothing() -> Proxy[bytes]:
    return Proxy(unresolvable)


def test_a_proxy_travels_unresolved() -> None:
    proxy = pickle.loads(pickle.dumps(call_sealed(proxy_of_nothing)))
    assert type(proxy) is Proxy
    assert not is_resolved(proxy)


def test_an_error_that_cannot_be_pickled_is_quoted() -> None:
    class LocalError(Exception):
        """Cannot be found by its name."""

    def fails() -> None:
        raise LocalError("no such object")

    with pytest.raises(RuntimeError, match="LocalError: no such object"):
        call_sealed(fails)
    with pytest.raises(ZeroDivisionError):
        call_sealed(lambda: 1 // 0)
