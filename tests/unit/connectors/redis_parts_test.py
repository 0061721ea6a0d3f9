from __future__ import annotations

from harness.connectors.redis import parts_of

MB = 1_000_000


def client(query: int = 0, free: int = 0, output: int = 0) -> dict[str, str]:
    return {"qbuf": str(query), "qbuf-free": str(free), "omem": str(output)}


def test_buffers_are_the_clients_and_the_rest_is_objects_and_the_server() -> None:
    memory = {
        "used_memory": 900 * MB,
        "used_memory_rss": 910 * MB,
        "used_memory_dataset": 400 * MB,
        "mem_clients_normal": 490 * MB,
    }
    clients = [client(output=200 * MB), client(output=200 * MB), client(60 * MB, 30 * MB)]

    found = parts_of(memory, clients)

    assert (found.output_buffer_bytes, found.query_buffer_bytes) == (400 * MB, 90 * MB)
    assert (found.dataset_bytes, found.other_bytes) == (400 * MB, 10 * MB)
    assert (found.clients, found.readers, found.writers) == (3, 2, 1)


def test_what_the_servers_sums_have_missed_is_not_of_the_data_set() -> None:
    memory = {
        "used_memory": 900 * MB,
        "used_memory_rss": 910 * MB,
        "used_memory_dataset": 800 * MB,
        "mem_clients_normal": 0,
    }

    found = parts_of(memory, [client(output=400 * MB)])

    assert (found.dataset_bytes, found.output_buffer_bytes) == (400 * MB, 400 * MB)
    assert found.used_bytes == found.dataset_bytes + found.output_buffer_bytes + found.other_bytes
