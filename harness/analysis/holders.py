"""Who holds memory, from stacks: the library and line, and which payloads it is (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from harness.results.traces import Frame, Held

# A smaller payload is of a size that anything may have.
LEAST_PAYLOAD = 64 * 1024
# What is serialised is a little larger than its payload; a buffer that grows, by up to an eighth.
_SHORT, _LONG = 0.99, 1.14
_OVERHEAD = 4096
_MOST_MIXED = 40
_MOST_IN_ONE = 50

_SITE = re.compile(r".*/(?:site|dist)-packages/")
_STANDARD = re.compile(r".*/lib/python3\.\d+/")
# Compiled code: a library, and where there are debug symbols a source of CPython's own.
_LIBRARY = re.compile(
    r"(?:.*/)?([^/]+?)(?:-[0-9a-f]{8})?(?:\.cpython-[^/]*|\.abi3)?\.so(?:\.[\d.]+)?"
)
_COMPILED = re.compile(r"\.(?:so[\d.]*|c|h|cc|cpp|hpp|cxx|rs|pyx)$|^<unknown>$")
_CPYTHON = re.compile(r"(?:.*/Python-3[^/]*/|\./)?(?=(?:Objects|Modules|Python|Include)/.*\.[ch]$)")


@dataclass(frozen=True)
class Holder:
    """One line of code, called from somewhere else, and what it holds.

    Attributes:
        library: whose line it is: a package, ``python`` for the standard library.
        place: its function, file and line.
        caller: the nearest frame of another file that says what for, of compiled code the nearest
            of Python; empty if there is none.
        count: number of allocations.
        size_bytes: all of them together.
        copies: size of a payload -> how many of that size these are.
        stack: one of the stacks, the innermost frame first.
    """

    library: str
    place: str
    caller: str
    count: int
    size_bytes: int
    copies: Mapping[int, int]
    stack: tuple[Frame, ...]

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payloads in it."""
        return sum(size * count for size, count in self.copies.items())


def short_file(file: str) -> tuple[str, str]:
    """Return the library a file is of, and its path within what is installed."""
    if compiled := _LIBRARY.fullmatch(file):
        return compiled[1], file.rpartition("/")[2]
    if source := _CPYTHON.match(file):
        return "python", file[source.end() :]
    if site := _SITE.match(file):
        inner = file[site.end() :]
        return inner.partition("/")[0].removesuffix(".py"), inner
    if standard := _STANDARD.match(file):
        return "python", file[standard.end() :]
    _, found, inner = file.rpartition("/harness/")
    if found:
        return "harness", f"harness/{inner}"
    name = file.rpartition("/")[2]
    library = name if file.endswith(f"/bin/{name}") else "?"
    return ("python", file) if file.startswith("<") else (library, name)


NO_NAME = "code without a symbol"


def frame_text(frame: Frame) -> str:
    """Return a frame for people: ``serialize (proxystore/serialize.py:283)``."""
    function, file, line = frame
    inner = short_file(file)[1]
    if line == 0:
        return f"{function or NO_NAME} ({inner})"
    return f"{function} ({inner}:{line})"


def holders(held: Iterable[Held], sizes: Sequence[int]) -> list[Holder]:
    """Return who holds what, the largest first; stacks that end alike are one.

    Args:
        held: allocations by stack.
        sizes: of the payloads.
    """
    merged: dict[tuple[str, str, str], list[Held]] = {}
    for each in held:
        merged.setdefault(_key(each.stack), []).append(each)
    found = []
    for (library, place, caller), alike in merged.items():
        copies: dict[int, int] = {}
        for each in alike:
            for size, count in payloads(each.count, each.size_bytes, sizes).items():
                copies[size] = copies.get(size, 0) + count
        largest = max(alike, key=lambda h: h.size_bytes)
        count, size = sum(h.count for h in alike), sum(h.size_bytes for h in alike)
        found.append(Holder(library, place, caller, count, size, copies, largest.stack))
    return sorted(found, key=lambda h: -h.size_bytes)


def _key(stack: tuple[Frame, ...]) -> tuple[str, str, str]:
    if not stack:
        return "?", "no Python frame", ""
    library = short_file(stack[0][1])[0]
    # Compiled code is called by what was written in Python.
    others = (f for f in stack[1:] if f[1] != stack[0][1])
    native = _COMPILED.search(stack[0][1])
    other = next((f for f in others if not (native and _COMPILED.search(f[1]))), None)
    return library, frame_text(stack[0]), frame_text(other) if other else ""


def payloads(count: int, size_bytes: int, sizes: Iterable[int]) -> dict[int, int]:
    """Return of which payloads some allocations are copies: size -> number; empty if of none.

    Args:
        count: number of allocations.
        size_bytes: all of them together.
        sizes: of the payloads.
    """
    known = sorted({size for size in sizes if size >= LEAST_PAYLOAD})
    if not known or not count or size_bytes < known[0] * count * _SHORT:
        return {}
    average = size_bytes / count
    # The nearest below: what is serialised is larger.
    near = [s for s in known if s * _SHORT <= average <= s * _LONG + _OVERHEAD]
    exact = [s for s in near if average <= s * 1.01 + _OVERHEAD]
    if exact or (near and count == 1):
        return {max(exact or near): count}
    return _of_one(average, known) if count == 1 else _of_several(count, size_bytes, known)


def _of_one(size_bytes: float, known: Sequence[int]) -> dict[int, int]:
    """Return how many payloads are in one piece, such as a message of many arguments."""
    for size in reversed(known):
        times = round(size_bytes / size)
        if 1 < times < _MOST_IN_ONE and abs(size_bytes - times * size) <= 0.005 * size_bytes:
            return {size: times}
    return {}


def _of_several(count: int, size_bytes: int, known: Sequence[int]) -> dict[int, int]:
    """Return what some pieces hold together: the largest payloads that they can."""
    mixed = _mixed(count, size_bytes, known) if count <= _MOST_MIXED else {}
    for size in reversed(known):
        times = size_bytes / size
        exact = abs(size_bytes - round(times) * size) <= 0.005 * size_bytes
        if exact and round(times) >= count:
            return {size: round(times)}
        if mixed:
            return mixed
        # All but one, which is still growing.
        if int(times + 0.01) >= count - 1:
            return {size: int(times + 0.01)}
    return {}


def _mixed(count: int, size_bytes: int, known: Sequence[int]) -> dict[int, int]:
    """Return which two sizes make up a sum; of more than two nobody could tell."""
    for a, b in combinations_with_replacement(reversed(known), 2):
        for first in range(1, count):
            total = first * a + (count - first) * b
            if a != b and total * _SHORT <= size_bytes <= total * 1.01 + count * _OVERHEAD:
                return {a: first, b: count - first}
    return {}


# --- what code that is known does with a payload ----------------------------------------------


@dataclass(frozen=True)
class Known:
    """A place in a library that holds payloads, and in words why.

    Attributes:
        function, file: of a frame of the stack; the file's end. Without a function, a library.
        words: ``{n}`` is replaced by ``4 inputs of 100 MB`` or the like.
        noun: what one payload is called there.
        within: functions further out in the stack, one of which must be there, if the place alone
            does not tell.
        modes: where it is said; all if empty.
        populated: said only where proxies keep their targets, or only where they do not.
    """

    function: str
    file: str
    words: str
    noun: str = "copy"
    within: tuple[str, ...] = ()
    modes: frozenset[str] = frozenset()
    populated: bool | None = None


_RUNS = ("_run_stages", "_run_when_ready")
_PROXIES = frozenset({"default-proxy", "manual-proxy", "owned-proxy"})
_NONE = frozenset({"none", "futures"})

# Of Python's frames, that far from the memory.
_NEAR = 8

# Each was read in the library's code; of those that fit one frame the first counts.
KNOWN = (
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} because proxies keep their targets (`populate_target`)",
        "input",
        _RUNS,
        _PROXIES,
        populated=True,
    ),
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} on its way into the store",
        "input",
        _RUNS,
        _PROXIES,
        populated=False,
    ),
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} that the workflow has made and passes on",
        "input",
        _RUNS,
        _NONE,
    ),
    Known("payload", "harness/workflow/tasks.py", "{n} that its task has made", "result"),
    Known(
        "serialize",
        "proxystore/serialize.py",
        "{n} while ProxyStore puts an object into the store (`Store.put`)",
        "serialised copy",
    ),
    Known("deserialize", "proxystore/serialize.py", "{n} that ProxyStore has read", "object"),
    Known(
        "_read_from_socket",
        "redis/_parsers/socket.py",
        "{n} while redis-py reads a reply (its buffer, what is read of that, and what is"
        " put together)",
    ),
    Known(
        "read",
        "redis/_parsers/socket.py",
        "{n} while redis-py reads a reply (its buffer, what is read of that, and what is"
        " put together)",
    ),
    # A socket's own copies, and what its threads have that no frame of Python is in.
    Known("", "libzmq", "{n} in messages of ZeroMQ"),
    Known(
        "pack_buffers",
        "parsl/serialize/facade.py",
        "{n} packed for a task (`pack_buffers`)",
        "argument",
    ),
    Known(
        "send_pyobj",
        "zmq/sugar/socket.py",
        "{n} pickled for ZeroMQ to send (`send_pyobj`)",
    ),
    Known("send", "zmq/sugar/socket.py", "{n} in messages that ZeroMQ is sending"),
    Known(
        "_deserialize",
        "zmq/sugar/socket.py",
        "{n} that came as messages of ZeroMQ (`recv_pyobj`)",
    ),
    Known(
        "process_tasks_to_send",
        "parsl/executors/high_throughput/interchange.py",
        "{n} pickled by the interchange for a manager (`process_tasks_to_send`)",
        "argument",
    ),
    Known(
        "interchange_communicator",
        "parsl/executors/high_throughput/process_worker_pool.py",
        "{n} that the manager of the pool has unpickled (`interchange_communicator`)",
    ),
    Known(
        "_feed",
        "multiprocessing/queues.py",
        "{n} pickled for a queue between processes (`multiprocessing`)",
    ),
    Known(
        "get",
        "multiprocessing/queues.py",
        "{n} taken from a queue between processes (`multiprocessing`)",
    ),
    Known(
        "serve_client",
        "multiprocessing/managers.py",
        "{n} in the process in which Parsl notes the tasks in progress (`tasks_in_progress`)",
        "argument",
    ),
    Known(
        "unpack_buffers",
        "parsl/serialize/facade.py",
        "{n} while Parsl takes a task apart (`unpack_buffers`)",
    ),
    Known(
        "_result_queue_worker",
        "parsl/executors/high_throughput/executor.py",
        "{n} that came back as results (`_result_queue_worker`)",
    ),
    Known(
        "_graph_to_futures",
        "distributed/client.py",
        "{n} pickled into graphs that are being sent to the scheduler (`_graph_to_futures`)",
        "argument",
    ),
    Known(
        "update_graph",
        "distributed/scheduler.py",
        "{n} that the scheduler keeps of graphs (`update_graph`)",
        "argument",
    ),
    Known(
        "create_pickled_sub_frames",
        "distributed/protocol/core.py",
        "{n} in messages that are packed whole for sending (`create_pickled_sub_frames`)",
    ),
    Known(
        "host_array",
        "distributed/protocol/utils.py",
        "{n} as it came from the network (`comm/tcp.py`)",
    ),
    Known(
        "_decode_default",
        "distributed/protocol/core.py",
        "{n} taken out of messages (`_decode_default`)",
    ),
)


def known(holder: Holder, mode: str, *, populated: bool = True) -> Known | None:
    """Return what is known of the place that holds something; None if nothing is.

    Args:
        holder: the place.
        mode: the run's.
        populated: whether proxies keep their targets.
    """
    functions = {function for function, _, _ in holder.stack}
    said = [
        each
        for each in KNOWN
        if (not each.modes or mode in each.modes)
        and each.populated in (None, populated)
        and (not each.within or not functions.isdisjoint(each.within))
    ]
    near = 0
    for frame in holder.stack:
        near += not _COMPILED.search(frame[1])
        if near > _NEAR:
            break
        # Whoever is nearer to the memory knows better what it is.
        found = next((each for each in said if _fits(each, frame)), None)
        if found is not None:
            return found
    return None


def _fits(known: Known, frame: Frame) -> bool:
    function, file, _ = frame
    if not known.function:
        return short_file(file)[0] == known.file
    return function == known.function and file.endswith(known.file)
