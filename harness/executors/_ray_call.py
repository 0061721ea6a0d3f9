"""What Ray's workers call: keeps proxies out of reach of Ray, which asks values what they are.

Ray asks each argument and each result whether it is bytes (``isinstance``). A proxy answers for the
object it stands for, has to fetch it for that, and then fails to be sent: it is no bytes. In a
shell nobody asks. Bytes go as they are: Ray copies those that are alone once, those in a tuple
twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.executors._sealed import Sealed


def sealed(value: Any) -> Any:
    """Return what is to be given to Ray instead of a value; it arrives as that value."""
    # Not isinstance, which a proxy answers.
    return value if type(value) is bytes else Sealed(value)


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Call ``fn``; return its payload and the rest of what it returned, for Ray to keep apart.

    Args:
        fn: returns a tuple whose first item is its payload, or anything else.
        args, kwargs: what it is called with.
    """
    result = fn(*args, **kwargs)
    if type(result) is tuple and result:
        return sealed(result[0]), result[1:]
    return sealed(result), None
