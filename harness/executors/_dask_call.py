"""What Dask's workers call: keeps a task's arguments out of reach of Dask's graph.

Dask's client asks each argument what it is (``isinstance``). A proxy answers for the object it
stands for, and has to fetch it for that: every object of the workflow travels to the client and
stays there as long as its proxy, though only workers need it. Inside of a call nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ReferringCall:
    """A function that is called with the payloads of what other such calls returned.

    Args:
        fn: what to call; returns a tuple that begins with its payload.
        kwargs: its keyword arguments.
    """

    def __init__(self, fn: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        self._fn = fn
        self._kwargs = kwargs

    def __call__(self, *results: Any) -> Any:
        """Call the function.

        Args:
            results: of other calls, or bytes as the client gave them.
        """
        payloads = (result[0] if type(result) is tuple else result for result in results)
        return self._fn(*payloads, **self._kwargs)


def rest_of(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return all but the payload: run where that is, it spares the client the payload."""
    return result[1:]


class SealedCall:
    """A function with its arguments, to be called without any.

    Args:
        fn: what to call.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> Any:
        """Call the function.

        Raises:
            Exception: what the function raises.
        """
        return self._fn(*self._args, **self._kwargs)
