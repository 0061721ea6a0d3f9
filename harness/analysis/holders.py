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


@dataclass(frozen=True)
class Holder:
    """One line of code, called from somewhere else, and what it holds.

    Attributes:
        library: whose line it is: a package, ``python`` for the standard library.
        place: its function, file and line.
        caller: the nearest frame of another file that says what for; empty if there is none.
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
    if site := _SITE.match(file):
        inner = file[site.end() :]
        return inner.partition("/")[0].removesuffix(".py"), inner
    if standard := _STANDARD.match(file):
        return "python", file[standard.end() :]
    _, found, inner = file.rpartition("/harness/")
    if found:
        return "harness", f"harness/{inner}"
    return ("python", file) if file.startswith("<") else ("?", file.rpartition("/")[2])


def frame_text(frame: Frame) -> str:
    """Return a frame for people: ``serialize (proxystore/serialize.py:283)``."""
    function, file, line = frame
    return f"{function} ({short_file(file)[1]}:{line})"


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
    other = next((f for f in stack[1:] if f[1] != stack[0][1]), None)
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
        function, file: of a frame of the stack; the file's end.
        words: ``{n}`` is replaced by ``4 inputs of 100 MB`` or the like.
        noun: what one payload is called there.
        within: a function further out in the stack, if the place alone does not tell.
        modes: where it is said; all if empty.
        populated: said only where proxies keep their targets, or only where they do not.
    """

    function: str
    file: str
    words: str
    noun: str = "copy"
    within: str = ""
    modes: frozenset[str] = frozenset()
    populated: bool | None = None


_PROXIES = frozenset({"default-proxy", "manual-proxy", "owned-proxy"})
_NONE = frozenset({"none"})

# Each was read in the library's code; the first that fits counts.
KNOWN = (
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} because proxies keep their targets (`populate_target`)",
        "input",
        "_run_stages",
        _PROXIES,
        populated=True,
    ),
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} on its way into the store",
        "input",
        "_run_stages",
        _PROXIES,
        populated=False,
    ),
    Known(
        "payload",
        "harness/workflow/tasks.py",
        "{n} that the workflow has made and passes on",
        "input",
        "_run_stages",
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
    for each in KNOWN:
        if each.modes and mode not in each.modes:
            continue
        if each.populated not in (None, populated):
            continue
        functions = {function for function, _, _ in holder.stack}
        for function, file, _ in holder.stack[:8]:
            there = function == each.function and file.endswith(each.file)
            if there and (not each.within or each.within in functions):
                return each
    return None
