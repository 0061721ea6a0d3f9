"""Which Dask workers are alive, whatever the client does meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import metadata

import pytest
from distributed import Client, LocalCluster

from harness.core.errors import InfrastructureError
from harness.executors.dask import DaskConfig, DaskExecutor, _check_one_stack


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_workers_are_alive_also_while_the_client_keeps_an_answer_without_them(
    client: Client,
) -> None:
    ended = threading.Event()

    def forget() -> None:
        # What the client does every two seconds.
        while not ended.is_set():
            client.sync(client._update_scheduler_info)

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        found = [len(DaskConfig().alive(DaskExecutor(client))) for _ in range(200)]
    finally:
        ended.set()
        thread.join()
    assert set(found) == {2}


def double(*data: bytes, times: int) -> tuple[bytes, int, str]:
    return b"".join(data) * times, sum(map(len, data)), "event"


def test_references_are_passed_on_and_stand_for_payloads(client: Client) -> None:
    executor = DaskExecutor(client)
    first = executor.put(b"ab")
    made, rest = executor.submit_by_reference(double, first, first, times=3)
    assert rest.result() == (4, "event")
    more, rest = executor.submit_by_reference(double, made, executor.put(b"c"), times=1)
    assert rest.result() == (13, "event")
    assert more.result()[0] == b"abab" * 3 + b"c"


def test_a_call_by_reference_that_fails_says_so(client: Client) -> None:
    executor = DaskExecutor(client)
    _, rest = executor.submit_by_reference(double, executor.put(b"ab"), times="x")
    with pytest.raises(TypeError):
        rest.result()


def test_a_cluster_of_two_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        _check_one_stack(client)
        (address,) = client.scheduler_info()["workers"]
        theirs = metadata.version("distributed")
        # Client and scheduler are in this process, the worker is in one of its own.
        monkeypatch.setattr("distributed.__version__", "2024.3.0")
        with pytest.raises(InfrastructureError) as refused:
            _check_one_stack(client)
    assert str(refused.value) == (
        f"the Dask worker {address} has distributed {theirs}, this process 2024.3.0: start all of"
        " them with one version"
    )
