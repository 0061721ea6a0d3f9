from __future__ import annotations

import pytest

from harness.analysis.holders import frame_text, holders, known, payloads, short_file
from harness.results.traces import Frame, Held

MB = 1_000_000
SITE = "/opt/venv/lib/python3.13/site-packages/"


@pytest.mark.parametrize(
    ("count", "size", "sizes", "expected"),
    [
        (1, 100 * MB, [100 * MB], {100 * MB: 1}),
        (4, 400 * MB + 132, [100 * MB, 10 * MB], {100 * MB: 4}),
        # A pickle is a little larger, a buffer that grew by up to an eighth.
        (1, 100 * MB + 180, [100 * MB], {100 * MB: 1}),
        (1, 111_600_000, [100 * MB], {100 * MB: 1}),
        # Several in one message.
        (1, 400 * MB + 900, [100 * MB, 10 * MB], {100 * MB: 4}),
        # Two sizes in one place.
        (5, 90 * MB, [20 * MB, 10 * MB], {20 * MB: 4, 10 * MB: 1}),
        # One message of two and two of one.
        (3, 80 * MB, [20 * MB], {20 * MB: 4}),
        (3, 400 * MB + 1000, [100 * MB, 10 * MB, MB], {100 * MB: 4}),
        # Four, and one that is still growing.
        (5, 450 * MB, [100 * MB, 10 * MB, MB], {100 * MB: 4}),
        (1, 133_300_000, [MB], {}),
        (1, 50 * MB, [100 * MB], {}),
        (1, 130 * MB, [100 * MB], {}),
        (3, 1000, [100 * MB], {}),
        # What anything may have is no payload.
        (4, 4000, [1000], {}),
        (0, 0, [100 * MB], {}),
        (1, 100 * MB, [], {}),
    ],
)
def test_payloads_are_known_by_size_and_number(
    count: int, size: int, sizes: list[int], expected: dict[int, int]
) -> None:
    assert payloads(count, size, sizes) == expected


def test_files_are_named_within_their_library() -> None:
    assert short_file(f"{SITE}redis/_parsers/socket.py") == ("redis", "redis/_parsers/socket.py")
    assert short_file("/usr/lib/python3.13/linecache.py") == ("python", "linecache.py")
    assert short_file("/home/x/harness/workflow/tasks.py") == (
        "harness",
        "harness/workflow/tasks.py",
    )
    assert short_file("/opt/venv/bin/dask") == ("dask", "dask")
    assert frame_text(("read", f"{SITE}redis/_parsers/socket.py", 109)) == (
        "read (redis/_parsers/socket.py:109)"
    )


def test_compiled_code_is_named_by_its_library_and_called_from_python() -> None:
    zmq = f"{SITE}pyzmq.libs/libzmq-2f02442c.so.5.2.5"
    inner: Frame = ("", zmq, 0)
    binding: Frame = ("", f"{SITE}zmq/backend/cython/_zmq.cpython-313-x86_64-linux-gnu.so", 0)
    send: Frame = ("send", f"{SITE}zmq/sugar/socket.py", 713)
    (sent, thread) = holders(
        [Held((inner, binding, send), 1, 100 * MB), Held((inner,), 1, 50 * MB)], [100 * MB]
    )

    assert (sent.library, sent.place) == (
        "libzmq",
        "code without a symbol (libzmq-2f02442c.so.5.2.5)",
    )
    assert sent.caller == "send (zmq/sugar/socket.py:713)"
    assert (thread.library, thread.caller) == ("libzmq", "")
    found = known(sent, "none")
    assert found is not None
    assert found.words == "{n} in messages of ZeroMQ"
    assert short_file("Objects/bytesobject.c") == ("python", "Objects/bytesobject.c")
    assert short_file("/b/Python-3.13.0/Modules/_pickle.c") == ("python", "Modules/_pickle.c")
    assert short_file("/usr/lib/x86_64-linux-gnu/libffi.so.8")[0] == "libffi"
    assert frame_text(("ffi_call", "/usr/lib/libffi.so.8", 0)) == "ffi_call (libffi.so.8)"


def test_who_is_nearer_to_the_memory_says_what_it_is() -> None:
    socket: Frame = ("_deserialize", f"{SITE}zmq/sugar/socket.py", 840)
    loop: Frame = (
        "process_tasks_to_send",
        f"{SITE}parsl/executors/high_throughput/interchange.py",
        1,
    )
    (holder,) = holders([Held((socket, loop), 1, 100 * MB)], [100 * MB])

    found = known(holder, "none")

    assert found is not None
    assert found.words == "{n} that came as messages of ZeroMQ (`recv_pyobj`)"


def test_stacks_that_end_alike_are_one_holder() -> None:
    leaf: Frame = ("read", f"{SITE}redis/_parsers/socket.py", 109)
    inner: Frame = ("read", f"{SITE}redis/_parsers/socket.py", 90)
    caller: Frame = ("_read_response", f"{SITE}redis/_parsers/resp3.py", 103)
    held = [
        Held((leaf, inner, caller), 1, 100 * MB),
        Held((leaf, caller, ("x", "/x.py", 1)), 1, 100 * MB),
        Held((), 1, 5 * MB),
    ]

    first, second = holders(held, [100 * MB])

    assert (first.size_bytes, first.count, first.copies) == (200 * MB, 2, {100 * MB: 2})
    assert first.library == "redis"
    assert first.caller == "_read_response (redis/_parsers/resp3.py:103)"
    assert (second.library, second.place) == ("?", "no Python frame")


def test_why_inputs_are_kept_depends_on_the_mode() -> None:
    stack: tuple[Frame, ...] = (
        ("payload", "/x/harness/workflow/tasks.py", 68),
        ("_run_stages", "/x/harness/workflow/workflow.py", 64),
    )
    (holder,) = holders([Held(stack, 1, 100 * MB)], [100 * MB])

    proxies, none = known(holder, "owned-proxy"), known(holder, "none")

    assert proxies is not None
    assert "populate_target" in proxies.words
    assert none is not None
    assert "populate_target" not in none.words
    without = known(holder, "owned-proxy", populated=False)
    assert without is not None
    assert without.words == "{n} on its way into the store"


def test_a_result_is_no_input() -> None:
    stack: tuple[Frame, ...] = (
        ("payload", "/x/harness/workflow/tasks.py", 68),
        ("task_proxy", "/x/harness/workflow/tasks.py", 202),
    )
    (holder,) = holders([Held(stack, 1, 100 * MB)], [100 * MB])
    found = known(holder, "owned-proxy")

    assert found is not None
    assert found.noun == "result"
    assert known(holders([Held((("f", "/x.py", 1),), 1, 9)], [])[0], "none") is None
