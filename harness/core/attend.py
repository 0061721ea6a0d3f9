"""Reaching every Python process of a traced topology, also those that run nothing for others.

Each process waits at a socket of its own in a folder that all containers of the topology share
(``HARNESS_ATTENDING``); the runner goes through the folder and asks each to start or stop its
trace. A socket that nobody waits at any more is that of a process that has ended. A process that
begins while a trace goes on starts its own at once.

It is imported at the start of each of these processes and takes nothing but the standard library.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.core import trace

VARIABLE = "HARNESS_ATTENDING"
"""Names the folder; without it nobody attends."""

_AT_START = Path(__file__).with_name("at_start")
_SUFFIX = ".sock"
_NOW = "tracing"
_ANSWER = b"done\n"
_TIMEOUT_S = 30.0
_MOST_BYTES = 4096
# Programs that hold nothing for anybody, or are the harness's own.
_NOT = (
    "multiprocessing.resource_tracker",
    "harness.workflow.trace_reader",
    "harness.sampling.process_tree",
)

_listening: socket.socket | None = None


def attending_environment(environment: Mapping[str, str], folder: str = "") -> dict[str, str]:
    """Return the environment in which each Python process attends, and so do its children.

    Args:
        environment: as it is.
        folder: for sockets; by default the one that the environment names.
    """
    path = [str(_AT_START), *filter(None, [environment.get("PYTHONPATH")])]
    more = {VARIABLE: folder} if folder else {}
    return {**environment, **more, "PYTHONPATH": os.pathsep.join(path)}


@contextmanager
def attended_children() -> Iterator[None]:
    """Let every Python process that is started here attend, below this process and its children."""
    before = dict(os.environ)
    # A socket's path has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        os.environ.update(attending_environment(before, folder))
        try:
            yield
        finally:
            for name in (VARIABLE, "PYTHONPATH"):
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]


def attend() -> None:
    """Wait to be asked, in a thread, from now until this process ends; in its forks, too.

    Raises:
        OSError: if the folder is none.
    """
    if any(name in word for word in sys.orig_argv for name in _NOT):
        return
    _attend()
    os.register_at_fork(after_in_child=_attend_again)


def _attend() -> None:
    global _listening  # noqa: PLW0603  # one for a process
    folder = Path(os.environ[VARIABLE])
    folder.mkdir(exist_ok=True)
    name = f"{socket.gethostname()}-{os.getpid()}{_SUFFIX}"
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A number may be taken again.
    with suppress(FileNotFoundError):
        (folder / name).unlink()
    waiting.bind(str(folder / name))
    waiting.listen()
    _listening = waiting
    threading.Thread(
        target=_wait, args=(waiting, folder), name="harness attendant", daemon=True
    ).start()


def _attend_again() -> None:
    # What the parent listens with is the parent's.
    if _listening is not None:
        _listening.close()
    with suppress(OSError, RuntimeError):
        _attend()


def _wait(waiting: socket.socket, folder: Path) -> None:
    with suppress(OSError):
        _do((folder / _NOW).read_text(encoding="utf-8"))
    # Whoever closes all of its files, before it becomes another program, closes this one.
    with suppress(OSError, ValueError):
        while True:
            asking, _ = waiting.accept()
            with asking, suppress(OSError):
                _do(asking.recv(_MOST_BYTES).decode(errors="replace"))
                asking.sendall(_ANSWER)


def _do(request: str) -> None:
    word, _, rest = request.strip().partition(" ")
    if word == "stop":
        trace.stop()
    elif word in ("start", "start-native"):
        trace.start(rest, native=word == "start-native")


# --- who asks ---------------------------------------------------------------------------------


def ask_start(folder: Path, traces: str, *, native: bool = False) -> dict[str, str]:
    """Ask every process but this one to start its trace.

    Args:
        folder: of the sockets.
        traces: gets the traces.
        native: trace frames of compiled code, too.

    Returns:
        Host and process number, as ``host-number`` -> what went wrong, empty if nothing did.
    """
    request = f"{'start-native' if native else 'start'} {traces}\n"
    with suppress(OSError):
        (folder / _NOW).write_text(request, encoding="utf-8")
    return _ask_all(folder, request)


def ask_stop(folder: Path) -> dict[str, str]:
    """Ask every process but this one to end its trace; return the same."""
    with suppress(OSError):
        (folder / _NOW).unlink()
    return _ask_all(folder, "stop\n")


def _ask_all(folder: Path, request: str) -> dict[str, str]:
    own = f"{socket.gethostname()}-{os.getpid()}"
    paths = [path for path in sorted(folder.glob(f"*{_SUFFIX}")) if path.stem != own]
    with ThreadPoolExecutor(max(1, len(paths))) as pool:
        answers: Iterable[str | None] = pool.map(lambda path: _ask(path, request), paths)
        found = zip(paths, answers, strict=True)
        return {path.stem: said for path, said in found if said is not None}


def _ask(path: Path, request: str) -> str | None:
    """Return what went wrong; nothing if the process has ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_TIMEOUT_S)
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(OSError):
                path.unlink()
            return None
        except OSError as error:
            return f"cannot be asked ({error.strerror or error})"
        try:
            asking.sendall(request.encode())
            answer = asking.recv(len(_ANSWER))
        except TimeoutError:
            return f"has not answered within {_TIMEOUT_S:g} s"
        except OSError as error:
            return f"has not answered ({error.strerror or error})"
    # One that ends while it is asked was not traced to its end, and is gone.
    return "" if answer == _ANSWER else "ended when it was asked"
