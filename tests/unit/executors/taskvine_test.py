"""TaskVine's options and refusals, its futures, and what keeps proxies from being looked at."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from proxystore.proxy import Proxy, is_resolved

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.executors import _taskvine_kernel
from harness.executors._taskvine_call import call, in_library, pack, prepare, unpack, unpack_result
from harness.executors._taskvine_kernel import FOLDER_VARIABLE, TaskVineExecutor, WorkerDiedError
from harness.executors.taskvine import TOPOLOGY_PORT, TaskVineConfig
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.topology.compose import COMPOSE_DIR, service_counts, services, topology_files

REST = (
    " --ps-connector file --ps-file-dir x --stage-task-counts 1 1 --stage-bytes-sizes 1MB 60MB 1MB"
    " --task-sleep 0 --data-management none"
)


def plan_of(line: str, *, containers: bool = True) -> Plan:
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    return parse_plan(parser, f"--executor taskvine{REST} {line}".split(), containers=containers)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--taskvine-port 9123", "--taskvine-port 9123: 'harness bench' starts workers of its own"),
        ("--taskvine-port 70000", "--taskvine-port"),
        ("--taskvine-workers 0", "--taskvine-workers"),
        ("--taskvine-exec-mode thread", "--taskvine-exec-mode"),
    ],
)
def test_what_cannot_work_is_one_line(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Zmq:
    """A connector's options."""

    name: ClassVar[str] = "zmq"


class Redis:
    """Those of another."""

    name: ClassVar[str] = "redis"


def test_a_fork_keeps_no_server() -> None:
    refusal = TaskVineConfig().refusal(Zmq())
    assert refusal is not None
    assert refusal.startswith("--ps-connector zmq: ")
    assert "--taskvine-exec-mode direct" in refusal
    assert TaskVineConfig(exec_mode="direct").refusal(Zmq()) is None
    assert TaskVineConfig().refusal(Redis()) is None


def test_without_taskvine_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.taskvine.find_spec", lambda _name: None)
    with pytest.raises(InfrastructureError, match=r"^--executor taskvine: .*python3-workqueue.*$"):
        plan_of("", containers=False)


def test_the_topology_is_workers_and_runner() -> None:
    plan = plan_of("--taskvine-workers 3")
    files = topology_files("taskvine", "file")
    assert services(files) == ["runner", "worker"]
    assert service_counts(plan, files) == {"runner": 1, "worker": 3}
    inside = plan.in_topology().executor
    assert isinstance(inside, TaskVineConfig)
    assert (inside.port, inside.workers) == (TOPOLOGY_PORT, 3)


def test_containers_find_the_manager_and_their_files() -> None:
    found = yaml.safe_load((COMPOSE_DIR / "taskvine.yaml").read_text())["services"]
    assert found["worker"]["command"][-1].endswith(f" runner {TOPOLOGY_PORT}")
    assert found["worker"]["environment"]["HARNESS_READY_PEER_PORT"] == str(TOPOLOGY_PORT)
    assert f"--taskvine-port {TOPOLOGY_PORT} " in found["runner"]["command"]
    folder = found["runner"]["environment"][FOLDER_VARIABLE]
    for service in found.values():
        # Not in /tmp, which is memory and runs no programs.
        assert f"scratch:{folder}" in service["volumes"]
        # TaskVine is Debian's, and the interpreter that of an environment.
        assert service["environment"]["PYTHONPATH"] == "/usr/lib/python3/dist-packages"


class Bytes(Proxy[bytes]):
    """A proxy of bytes."""


def payload() -> bytes:
    return b"payload"


def test_proxies_travel_unseen_and_bytes_as_they_are() -> None:
    data = b"data"
    assert pack(data) is data
    proxy: Proxy[bytes] = Proxy(payload)
    packed = pack(proxy)
    # Whoever asks what it is asks the shell.
    assert packed.__class__ is type(packed)
    assert not is_resolved(proxy)
    arrived = unpack(pickle.loads(pickle.dumps(packed)))
    assert type(arrived) is Proxy
    assert not is_resolved(arrived)
    assert arrived == b"payload"


def test_a_call_returns_its_payload_apart() -> None:
    data = b"data"
    returned, packed = call(pack(_two), (data,), pack({"more": 7}))
    assert returned
    # Not a copy of it.
    assert packed[0] is data
    assert unpack_result(packed) == (b"data", 7)
    assert call(pack(len), (b"abc",), pack({})) == (True, pack(3))


def _two(data: bytes, more: int) -> tuple[bytes, int]:
    return data, more


class StubbornError(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("cannot travel")
        self.lock = threading.Lock()


def _stubborn() -> None:
    raise StubbornError


def test_an_error_is_packed_or_quoted() -> None:
    returned, packed = call(pack(len), (), pack({}))
    assert not returned
    assert isinstance(unpack(packed), TypeError)
    returned, packed = call(pack(_stubborn), (), pack({}))
    assert not returned
    assert repr(unpack(packed)) == "RuntimeError('StubbornError: cannot travel')"


def test_a_library_imports_what_a_fork_of_it_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    prepare(pack(_warm))
    assert "colorsys" in sys.modules
    assert _WARMED == []


_WARMED: list[str] = []


def _warm() -> None:
    importlib.import_module("colorsys")
    _WARMED.append("here")


def test_a_fork_is_counted_by_its_library() -> None:
    called: list[int] = []
    host = os.uname().nodename
    assert in_library(lambda: called.append(1), 0, forked=False) == (host, os.getpid())
    assert in_library(lambda: called.append(1), 0, forked=True) == (host, os.getppid())
    assert called == [1, 1]


class Task:
    """TaskVine's side of a call: runs it when it is waited for."""

    def __init__(self, _manager: Any, library: str, name: str, *words: Any) -> None:
        self.id = 0
        self.called = library, name
        self.words = words
        self.hostname, self.result, self.exit_code = "host-1", "success", 0
        self.output_file: Any = SimpleNamespace(contents=self._contents)
        self.answer: dict[str, Any] = {}
        self.deleted = False

    def __del__(self) -> None:
        self.deleted = True

    def run(self) -> None:
        self.answer = {"Success": True, "Reason": None, "Result": call(*self.words)}

    def completed(self) -> bool:
        return self.result == "success"

    def successful(self) -> bool:
        return self.completed() and self.exit_code == 0

    def _contents(self, load: Callable[[Any], Any]) -> Any:
        return load(io.BytesIO(pickle.dumps(self.answer)))


class Manager:
    """A manager with two workers that does nothing by itself."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.submitted_at_wait: list[int] = []
        self.given_up: list[Any] = []
        self.fetched: list[Any] = []
        self.spoils: Callable[[Task], object] = lambda _task: None
        self.stats = SimpleNamespace(workers_connected=2)
        self.library: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def submit(self, task: Task) -> int:
        task.id = len(self.fetched) + len(self.waiting) + 1
        self.waiting.append(task)
        return task.id

    def wait(self, _timeout: int) -> Task | None:
        self.submitted_at_wait.append(len(self.waiting))
        if not self.waiting:
            return None
        task = self.waiting.pop(0)
        task.run()
        self.spoils(task)
        return task

    def fetch_file(self, file: Any) -> None:
        self.fetched.append(file)

    def undeclare_file(self, file: Any) -> None:
        self.given_up.append(file)

    def create_library_from_functions(self, name: str, function: Any, **options: Any) -> Any:
        self.library = {"name": name, "function": function, **options}
        nothing = lambda _n: None  # noqa: E731
        return SimpleNamespace(set_cores=nothing, set_function_slots=nothing)

    def install_library(self, _library: Any) -> None:
        self.library["installed"] = True

    def status(self, _what: str) -> list[dict[str, Any]]:
        return self.rows


@contextmanager
def executing(manager: Manager, exec_mode: str = "fork") -> Iterator[TaskVineExecutor]:
    with TaskVineExecutor(manager, exec_mode) as executor:
        yield executor


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    monkeypatch.setattr(_taskvine_kernel, "_vine", lambda: SimpleNamespace(FutureFunctionCall=Task))
    return Manager()


def test_a_result_is_fetched_told_and_given_up(manager: Manager) -> None:
    told: list[tuple[str, Any]] = []
    done = threading.Event()
    tasks: list[Task] = []
    manager.spoils = tasks.append
    with executing(manager) as executor:
        future = executor.submit(_two, b"x", more=7)

        def tell(done_: Any) -> None:
            told.append((threading.current_thread().name, done_.result()))
            done.set()

        future.add_done_callback(tell)
        assert done.wait(10)
    assert [result for _, result in told] == [(b"x", 7)]
    assert manager.given_up == manager.fetched
    assert [task.output_file for task in tasks] == manager.given_up
    # Not when the collector comes by.
    assert [task.deleted for task in tasks] == [True]


def test_what_belongs_together_is_submitted_before_anything_is_waited_for(
    manager: Manager,
) -> None:
    with executing(manager) as executor:
        with executor.batch():
            futures = [executor.submit(len, b"x" * n) for n in range(3)]
            time.sleep(0.05)
            assert manager.submitted_at_wait == []
        assert [future.result(10) for future in futures] == [0, 1, 2]
    assert manager.submitted_at_wait[0] == 3


def test_a_task_that_fails_fails_its_future(manager: Manager) -> None:
    with executing(manager) as executor, pytest.raises(TypeError):
        executor.submit(len).result(10)


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        ("max retries", 0, r"host-1 ended \(max retries\)"),
        ("success", 9, r"host-1 ended \(exit code 9\)"),
        ("success", 0, "lost with its worker on host-1"),
    ],
)
def test_a_death_is_told_by_its_name(manager: Manager, result: str, code: int, words: str) -> None:
    def spoil(task: Task) -> None:
        task.result, task.exit_code = result, code
        task.output_file = SimpleNamespace(contents=lambda _load: 1 / 0)

    manager.spoils = spoil
    with executing(manager) as executor, pytest.raises(WorkerDiedError, match=words) as caught:
        executor.submit(len, b"").result(10)
    assert type(caught.value).__name__ in TaskVineConfig.death_errors


def test_a_library_that_could_not_call_says_why(manager: Manager) -> None:
    manager.spoils = lambda task: task.answer.update(Success=False, Reason="no\nmodule")
    with executing(manager) as executor, pytest.raises(RuntimeError, match="no module"):
        executor.submit(len, b"").result(10)


def test_workers_that_do_not_join_are_counted(manager: Manager) -> None:
    with (
        executing(manager) as executor,
        pytest.raises(InfrastructureError, match=r"2 of 3 TaskVine workers joined"),
    ):
        executor.wait_ready(3, int, -1)


def test_each_library_is_called(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = iter([("a", 1), ("a", 1), ("b", 1), ("a", 1)])
    monkeypatch.setattr(Task, "run", lambda task: task.answer.update(_returned(next(libraries))))
    with executing(manager, "direct") as executor:
        assert executor.wait_ready(2, int, 10) == {"workers": 2, "taskvine_exec_mode": "direct"}
    assert manager.library["installed"]
    assert manager.library["exec_mode"] == "direct"
    # Where calls run in it, it has all that the first one left.
    assert manager.library["library_context_info"] is None


def test_a_library_that_forks_is_prepared(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Task, "run", lambda task: task.answer.update(_returned(("a", task.id))))
    with executing(manager) as executor:
        executor.wait_ready(2, int, 10)
    assert manager.library["library_context_info"] == [prepare, [pack(int)], {}]


def _returned(value: Any) -> dict[str, Any]:
    return {"Success": True, "Result": (True, pack(value))}


def test_forks_cannot_be_trimmed_and_libraries_can(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with executing(manager, "fork") as executor:
        assert "processes of their own" in " ".join(executor.trim(int))
        assert manager.fetched == []
    libraries = iter([("a", 1), ("b", 1)])
    monkeypatch.setattr(Task, "run", lambda task: task.answer.update(_returned(next(libraries))))
    with executing(manager, "direct") as executor:
        assert executor.trim(int) == ("TaskVine's workers",)
        assert len(manager.fetched) == 2


def test_a_worker_is_told_from_its_successor(manager: Manager) -> None:
    worker = {"addrport": "10.0.0.2:4", "hostname": "abc"}
    library = {"current_task_000_command": "python library_code.py", "current_task_000_id": 7}
    manager.rows = [{**worker, **library}]
    with executing(manager) as executor:
        assert executor.alive() == {"10.0.0.2:4/7": "worker 10.0.0.2:4/7"}
        manager.rows = [{**worker, **library, "current_task_000_id": 9}]
        assert list(executor.alive()) == ["10.0.0.2:4/9"]
        assert TaskVineConfig().host_of(executor, "10.0.0.2:4/7") == "abc"
