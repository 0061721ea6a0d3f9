"""What Parsl's workers call: keeps a task's result out of reach of Parsl's own caches.

Parsl takes whatever can be called for code, and a proxy can be called. It keeps the last 128
"functions" it serialised, in a dictionary: with a proxy as result that hashes it, keeps its data in
the worker's memory, and compares it with proxies whose objects may be gone. That fails the task
with an error that cannot be unpickled, on which the client's result thread dies, and every future
with it: the program hangs. In a shell that cannot be called the result is data, as it should be.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from harness.executors._sealed import Sealed


def call_sealed(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Sealed:
    """Call ``fn`` and return its result such that it is pickled as data.

    Raises:
        Exception: what ``fn`` raised if it can be unpickled, else a RuntimeError that quotes it.
    """
    try:
        return Sealed(fn(*args, **kwargs))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
        except Exception:  # noqa: BLE001  # a constructor may raise anything
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
