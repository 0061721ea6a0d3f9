"""What TaskVine's libraries call: keeps proxies out of reach of TaskVine and of cloudpickle.

Both ask values what they are (``isinstance``): the library each argument, cloudpickle all that it
pickles. A proxy answers for the object it stands for, and has to fetch it for that. So all but
bytes is pickled before TaskVine sees it.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Packed:
    """A value, pickled."""

    data: bytes


def pack(value: Any) -> Any:
    """Return what is to be given to TaskVine instead of a value: bytes as they are."""
    # Not isinstance, which a proxy answers.
    return value if type(value) is bytes else Packed(pickle.dumps(value))


def unpack(value: Any) -> Any:
    """Return what was packed."""
    return pickle.loads(value.data) if type(value) is Packed else value  # noqa: S301  # our own


def pack_result(value: Any) -> Any:
    """Pack what a task returned: a tuple item by item, so that its payload is not copied."""
    return [*map(pack, value)] if type(value) is tuple else pack(value)


def unpack_result(value: Any) -> Any:
    """Return what was packed by :func:`pack_result`."""
    return tuple(map(unpack, value)) if type(value) is list else unpack(value)


def prepare(warm_up: Packed) -> None:
    """Import what tasks need, in a library before it runs any: forks of it have that.

    What that is, a fork finds out. Nothing else may be left of it: connections cannot be shared.
    """
    with tempfile.TemporaryFile("w+") as found:
        child = os.fork()
        if not child:
            try:
                unpack(warm_up)()
                found.write("\n".join(sys.modules))
                found.flush()
            finally:
                # Not back to whoever called this.
                os._exit(0)
        os.waitpid(child, 0)
        found.seek(0)
        for name in found.read().split():
            # Some are no modules, but stand for one.
            with suppress(ImportError):
                import_module(name)


def call(fn: Packed, args: tuple[Any, ...], kwargs: Packed) -> tuple[bool, Any]:
    """Call a function; return whether it returned, and what it returned or raised, packed."""
    function: Callable[..., Any] = unpack(fn)
    try:
        return True, pack_result(function(*map(unpack, args), **unpack(kwargs)))
    except Exception as error:  # noqa: BLE001  # it is raised where the call came from
        try:
            packed = pack(error)
            unpack(packed)
        except Exception:  # noqa: BLE001  # a constructor may raise anything
            packed = pack(RuntimeError(f"{type(error).__name__}: {error}"))
        return False, packed


def in_library(work: Callable[[], Any], linger_s: float, forked: bool) -> tuple[str, int]:
    """Call it, keep the worker busy for a moment, and return which library it was."""
    work()
    # Long enough that the next call goes to another worker.
    time.sleep(linger_s)
    return os.uname().nodename, os.getppid() if forked else os.getpid()
