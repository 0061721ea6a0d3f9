"""Which Dask workers are alive, whatever the client does meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from harness.executors.dask import DaskConfig, DaskExecutor


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
