"""Giving a process's free memory back, from within. Imports next to nothing: any process may."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    # musl has none.
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def trim(*, freeze: bool = False) -> bool:
    """Collect garbage and give free memory back to the kernel, wherever in the heap it lies.

    What stays is in use, or in pages that something in use shares: CPython's own arenas of small
    objects are not glibc's to give back.

    Args:
        freeze: let no later collection look at what is alive now, which is libraries' objects if
            nothing has run yet: each would take 50 ms.

    Returns:
        Whether the C library has a way to give it back (glibc's ``malloc_trim``).
    """
    gc.collect()
    if freeze:
        gc.freeze()
    give_back = _malloc_trim()
    if give_back is None:
        return False
    give_back(0)
    return True
