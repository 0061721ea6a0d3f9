"""Ray's options and refusals, and what keeps proxies from being looked at on their way."""

from __future__ import annotations

import pickle
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest
import yaml
from proxystore.proxy import Proxy, is_resolved

from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.executors import _ray_kernel
from harness.executors._ray_call import call, sealed
from harness.executors._ray_kernel import SETTINGS, RayFuture
from harness.executors.ray import RayConfig
from harness.plan import Isolate, Plan, add_plan_flags, parse_plan
from harness.plan.estimate import estimate
from harness.plan.schedule import topologies
from harness.topology.compose import COMPOSE_DIR, service_counts, services, topology_files

REST = (
    " --ps-connector file --ps-file-dir x --stage-task-counts 1 1 --stage-bytes-sizes 1MB 60MB 1MB"
    " --task-sleep 0 --data-management none"
)


def plan_of(line: str, *, containers: bool = True) -> Plan:
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=containers)
    return parse_plan(parser, f"--executor ray{REST} {line}".split(), containers=containers)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--ray-address h:1", "--ray-address h:1: 'harness bench' starts a cluster"),
        ("--ray-address here", "--ray-address: 'here' is not HOST:PORT"),
        ("--ray-object-store 1MB", "--ray-object-store"),
        ("--ray-object-store 80MB --stage-bytes-sizes 1MB 100MB 1MB", "100000000 bytes"),
        (
            "--ray-object-store 80MB --stage-bytes-sizes 1MB 100MB 1MB --data-management futures",
            "--ray-object-store 80000000: 100000000 bytes",
        ),
        ("--isolate mode", "--isolate mode: Ray's object store gives no memory back"),
        ("--isolate none", "--isolate none: Ray's object store gives no memory back"),
        ("--warmup 1", "--warmup 1: Ray's object store gives no memory back"),
    ],
)
def test_what_cannot_work_is_one_line(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_proxies_need_no_room_in_the_object_store() -> None:
    sizes = "--ray-object-store 80MB --stage-bytes-sizes 1MB 100MB 1MB"
    assert plan_of(f"{sizes} --data-management owned-proxy").workload.modes == ("owned-proxy",)


def test_each_run_has_a_topology_of_its_own() -> None:
    plan = plan_of("--repeat 3")
    assert plan.topology is not None
    assert plan.topology.isolate == Isolate.RUN
    assert len(topologies(plan)) == 3
    plan_of("--repeat 3 --isolate run")


def test_the_estimate_has_rays_own_processes_in_it() -> None:
    small = "--stage-bytes-sizes 1 1 1"
    assert 1_000_000_000 < estimate(plan_of(small), 4, 1).peak_bytes < 1_500_000_000


def test_a_cluster_that_runs_has_its_own_number_of_workers() -> None:
    refusal = RayConfig(address="h:1", workers=2).refusal(plan_of("").connector)
    assert refusal is not None
    assert "--ray-workers" in refusal


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.ray.find_spec", lambda _name: None)
    with pytest.raises(InfrastructureError, match="pip install ray"):
        plan_of("", containers=False)


def test_the_topology_is_head_workers_and_runner() -> None:
    plan = plan_of("--ray-workers 3 --ray-object-store 100MB")
    files = topology_files("ray", "file")
    assert services(files) == ["head", "runner", "worker"]
    assert service_counts(plan, files) == {"head": 1, "runner": 1, "worker": 3}
    environment = plan.executor.containers().environment
    assert environment["HARNESS_RAY_STORE"] == "100000000"
    # Ray leaves the shared memory alone, and takes the disk, where its store has no room in it.
    assert int(environment["HARNESS_RAY_SHM"]) > 100_000_000
    inside = plan.in_topology().executor
    assert isinstance(inside, RayConfig)
    assert inside.address == "head:6379"


def test_containers_have_the_settings_of_processes() -> None:
    found = yaml.safe_load((COMPOSE_DIR / "ray.yaml").read_text())
    assert found["x-settings"] == SETTINGS
    for service in found["services"].values():
        assert SETTINGS.items() <= service["environment"].items()


class Bytes(Proxy[bytes]):
    """A proxy of bytes."""


def payload() -> bytes:
    return b"payload"


def test_proxies_travel_unseen_and_bytes_as_they_are() -> None:
    data = b"data"
    assert sealed(data) is data
    proxy: Proxy[bytes] = Proxy(payload)
    arrived = pickle.loads(pickle.dumps(sealed(proxy)))
    assert not is_resolved(proxy)
    assert type(arrived) is Proxy
    assert not is_resolved(arrived)
    assert arrived == b"payload"


def test_a_payload_is_kept_apart_from_the_rest_of_a_result() -> None:
    assert call(lambda: (b"x", (1, 2))) == (b"x", ((1, 2),))
    proxy: Proxy[bytes] = Proxy(payload)
    first, rest = call(lambda: (proxy, 5))
    assert rest == (5,)
    assert type(pickle.loads(pickle.dumps(first))) is Proxy
    assert not is_resolved(proxy)
    first, rest = call(lambda: None)
    assert pickle.loads(pickle.dumps(first)) is None
    assert rest is None


class Ref:
    """A reference whose value arrives when it is told to."""

    def __init__(self) -> None:
        self.arrives: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self.arrives


class FakeRay:
    """Counts what is fetched."""

    def __init__(self) -> None:
        self.fetched = 0

    def get(self, ref: Any, timeout: float | None = None) -> Any:
        self.fetched += 1
        return ref


class Here(Executor):
    """Calls at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        fn(*args, **kwargs)
        return Future()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(_ray_kernel, "_ray", lambda: fake)
    return fake


class RemoteCall:
    """Ray's side of a call: keeps what it was given."""

    def __init__(self) -> None:
        self.got: tuple[Any, ...] = ()
        self.refs = Ref(), Ref()

    def options(self, **_options: Any) -> RemoteCall:
        return self

    def remote(self, *args: Any, **_kwargs: Any) -> tuple[Ref, Ref]:
        self.got = args
        return self.refs


def test_references_are_given_to_ray_as_they_are(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteCall()
    monkeypatch.setattr(ray, "remote", lambda **_o: lambda _fn: remote, raising=False)
    executor = _ray_kernel.RayExecutor()
    reference = Ref()
    payload_ref, rest = executor.submit_by_reference(len, reference)
    # In a shell it would not be resolved where the task runs.
    assert remote.got == (len, reference)
    assert payload_ref is remote.refs[0]
    remote.refs[1].arrives.set_result((7,))
    assert rest.result() == (7,)
    assert ray.fetched == 0
    assert type(executor.submit(len, reference).payload) is Ref
    assert type(remote.got[1]) is not Ref


def test_a_payload_is_fetched_when_it_is_asked_for(ray: FakeRay) -> None:
    rest = Ref()
    future = RayFuture("payload", rest, Here())
    called: list[object] = []
    future.add_done_callback(called.append)
    assert not future.done()
    rest.arrives.set_result((7,))
    assert called == [future]
    assert ray.fetched == 0
    assert future.result() == ("payload", 7)


def test_who_is_told_may_wait_for_the_payload(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteCall()
    monkeypatch.setattr(ray, "remote", lambda **_o: lambda _fn: remote, raising=False)
    told: list[tuple[str, Any]] = []
    with _ray_kernel.RayExecutor() as executor:
        future = executor.submit(len, b"x")
        done = threading.Event()

        def tell(done_: Future[Any]) -> None:
            told.append((threading.current_thread().name, done_.result()))
            done.set()

        future.add_done_callback(tell)
        # On whatever thread of Ray's.
        remote.refs[1].arrives.set_result((7,))
        assert done.wait(10)
    ((thread, result),) = told
    assert thread.startswith("ray-results")
    assert result == (remote.refs[0], 7)


def test_a_result_without_a_payload_is_itself(ray: FakeRay) -> None:
    rest = Ref()
    future = RayFuture("whole", rest, Here())
    rest.arrives.set_result(None)
    assert future.result() == "whole"
    assert ray.fetched == 1


def test_a_task_that_fails_fails_its_future(ray: FakeRay) -> None:
    rest = Ref()
    future = RayFuture("payload", rest, Here())
    rest.arrives.set_exception(KeyError("gone"))
    with pytest.raises(KeyError, match="gone"):
        future.result()
    assert ray.fetched == 0


def test_a_node_has_the_address_that_the_head_sees() -> None:
    assert _ray_kernel._address_towards("127.0.0.1:6379") == "127.0.0.1"
    with pytest.raises(
        InfrastructureError, match=r"--ray-address no\.such\.host\.invalid:1: no way"
    ):
        _ray_kernel._address_towards("no.such.host.invalid:1")


class Process:
    """A process that has ended, or not."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [(b"starting\n\nno such head\n\n", 1, "no such head"), (b"", None, "nothing said")],
)
def test_a_node_that_cannot_join_says_why(said: bytes, code: int | None, why: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(said)
        file.flush()
        with pytest.raises(InfrastructureError, match=rf"--ray-address h:1: .*\({why}\)"):
            _ray_kernel._wait_until_started(Process(code), file, "h:1", 0.0)


def test_a_node_has_started_when_it_says_so() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"...\nRay runtime started.\n")
        file.flush()
        _ray_kernel._wait_until_started(Process(None), file, "h:1", 0.0)
