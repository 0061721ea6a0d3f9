"""Globus Compute's SDK behind ``concurrent.futures``. Imported only when it is used.

What the SDK does by itself, and is done differently here:

- It limits its own rate: after four requests of few tasks within 16 seconds, each further one waits
  four seconds and more. The limits are set as wide as they go, and what is submitted within
  ``batch()`` is sent in as few requests as the service's size limit allows.
- Without a login it prints a URL and waits for somebody to paste a code: that is refused.
- When it is shut down while tasks are open it keeps the program from ending.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import globus_compute_sdk
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.sdk.auth.globus_app import get_globus_app
from globus_sdk import ClientApp, GlobusAPIError, GlobusError, NetworkError

from harness.core.errors import InfrastructureError
from harness.executors import _globus_login
from harness.executors._globus_limits import serialised_bytes
from harness.executors._pools import CALL_TIMEOUT_S, trim_pool, warm_pool

# The widest that the SDK takes. Requests of at least as many tasks as the limit do not count.
BURST_LIMIT = 8
BURST_WINDOW_S = 1
_BATCH = 128
_POLL_S = 0.1
_LINGER_S = 0.1

logger = logging.getLogger("run.workflow-memory")


class _BatchingExecutor(globus_compute_sdk.Executor):
    """Waits, before it sends, until a batch is whole.

    The SDK's sending thread asks for ``batch_size`` each time it has got a first task, because it
    "may have changed while waiting", and then takes what else is there.
    """

    def __init__(self, **options: Any) -> None:
        self._whole = threading.Event()
        self._whole.set()
        self._size = _BATCH
        super().__init__(**options)

    @property
    def batch_size(self) -> int:
        """Tasks in one request at most; waits while a batch is put together."""
        self._whole.wait()
        return self._size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._size = size

    def hold(self) -> None:
        """Send nothing until :meth:`release`."""
        self._whole.clear()

    def release(self, size: int) -> None:
        """Send what was submitted, ``size`` tasks in a request."""
        self._size = size
        self._whole.set()


class _DelayCounter(logging.Filter):
    """Counts, and hides, what the SDK says when its rate limit delays a request."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Let pass what is something else."""
        if "rate-limit delay" not in record.msg:
            return True
        self.count += 1
        return False


class GlobusComputeExecutor(Executor):
    """Submits to one or more endpoints in turn.

    Args:
        client: a client that is logged in.
        endpoints: their UUIDs.
        max_submission_bytes: the service's limit for one request.
    """

    def __init__(
        self,
        client: globus_compute_sdk.Client,
        endpoints: Sequence[UUID],
        max_submission_bytes: int,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._limit = max_submission_bytes
        self._delays = _DelayCounter()
        sdk_executor.log.addFilter(self._delays)
        self._next = cycle(self.endpoints)
        self._batch: list[int] | None = None
        self._sdk: Any = _BatchingExecutor(
            client=client, api_burst_limit=BURST_LIMIT, api_burst_window_s=BURST_WINDOW_S
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call to the endpoint whose turn it is."""
        if self._batch is not None:
            self._batch.append(serialised_bytes(args))
        self._sdk.endpoint_id = next(self._next)
        future: Future[Any] = self._sdk.submit(fn, *args, **kwargs)
        return future

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Send what is submitted in this context together, as far as the limit allows."""
        self._batch = []
        self._sdk.hold()
        try:
            yield
        finally:
            sizes, self._batch = self._batch, None
            largest = max(sizes, default=1)
            self._sdk.release(max(1, min(len(sizes), self._limit // largest)))

    @property
    def delays(self) -> int:
        """How many requests the SDK's own rate limit has delayed so far."""
        return self._delays.count

    def wait_ready(
        self, warm_up: Callable[..., Any], workers: int, timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait until ``workers`` workers of each endpoint have called ``warm_up``.

        Raises:
            InfrastructureError: if they have not in time, or an endpoint cannot run tasks.
        """
        started = time.monotonic()
        try:
            warm_pool(self, workers * len(self.endpoints), warm_up, timeout_s, _LINGER_S)
        except InfrastructureError:
            raise
        except Exception as error:
            raise InfrastructureError(
                f"--executor globus: a probe task failed: {one_line(error)}"
            ) from error
        return {
            "endpoints": list(map(str, self.endpoints)),
            "workers": workers * len(self.endpoints),
            "ready_after_s": round(time.monotonic() - started, 3),
            "api_burst_limit": BURST_LIMIT,
            "api_burst_window_s": BURST_WINDOW_S,
            "max_submission_bytes": self._limit,
        }

    def call_in_each(self, call: Callable[..., Any], workers: int) -> tuple[str, ...]:
        """Call it in ``workers`` workers of each endpoint; say which were not reached."""
        number = workers * len(self.endpoints)
        try:
            return trim_pool(self, number, call, CALL_TIMEOUT_S, _LINGER_S)
        except Exception as error:  # noqa: BLE001  # the service's, whatever it is
            return (f"{number} workers of the endpoints ({one_line(error)})",)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the SDK's threads, whatever is still open."""
        group = self._sdk.task_group_id
        self._sdk.shutdown(wait=False, cancel_futures=True)
        # Otherwise its thread waits for every open task before the program may end.
        watcher = sdk_executor._RESULT_WATCHERS.get(group)
        if watcher is not None:
            watcher.shutdown(wait=False, cancel_futures=True)
        sdk_executor.log.removeFilter(self._delays)


def one_line(error: BaseException) -> str:
    """Return an error in one line; the service's in its own words."""
    if isinstance(error, GlobusAPIError):
        text = error.message or error.text
        return f"the service refuses it ({error.http_status}): {' '.join(text.split())}"
    lines = [line for line in str(error).splitlines() if line.strip(" -\n")]
    return f"{type(error).__name__}: {' '.join(' '.join(lines[-1:]).split())}"


def connect(timeout_s: float) -> globus_compute_sdk.Client:
    """Return a client that is logged in.

    Raises:
        InfrastructureError: if there is no login, or the service does not answer or refuses it.
    """
    # The two tell, with tracebacks, of what the SDK then handles or raises.
    logging.getLogger("globus_sdk").setLevel(logging.ERROR)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        _globus_login.use_topology_login(timeout_s)
        app = get_globus_app()
        # A client identity logs in by its secret, asking nobody.
        if not isinstance(app, ClientApp) and app.login_required():
            raise InfrastructureError(
                "--executor globus: nobody is logged in, or the login has expired: run"
                " 'globus-compute-endpoint login'"
            )
        return globus_compute_sdk.Client(app=app)
    except NetworkError as error:
        raise InfrastructureError(
            f"--executor globus: the Globus Compute service cannot be reached: {_cause(error)}"
        ) from error
    except GlobusError as error:
        raise InfrastructureError(f"--executor globus: {one_line(error)}") from error
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"--executor globus: {error}") from error


def _cause(error: NetworkError) -> str:
    """Return the host and the innermost reason of a connection that failed."""
    found: BaseException = error.underlying_exception
    request = getattr(found, "request", None)
    host = urlsplit(request.url).hostname if request is not None else "no host"
    while (inner := found.__cause__ or found.__context__) is not None:
        found = inner
    return f"{host}: {' '.join(str(found).split())}"


def find_endpoints(
    client: globus_compute_sdk.Client, count: int, timeout_s: float
) -> Sequence[UUID]:
    """Wait until the client's user has registered ``count`` endpoints; return them.

    Raises:
        InfrastructureError: if there are fewer after ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = sorted(UUID(endpoint["uuid"]) for endpoint in client.get_endpoints())
        except GlobusError as error:
            raise InfrastructureError(f"--executor globus: {one_line(error)}") from error
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"{len(found)} of {count} endpoints registered within {timeout_s:g} s"
            )
        time.sleep(_POLL_S)
