"""Starting and ending a sampler process: it must never outlive or hang its parent.

The child holds the read end of a pipe on its standard input and ends when that closes, which the
kernel does for us however the parent dies. Ending it is bounded: close the pipe, wait, SIGTERM,
wait, SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time

from harness.core.environment import child_environment

_STOP_TIMEOUT_S = 10.0
_PIECE_BYTES = 1 << 16


class SamplerChild:
    """A ``python -m <module>`` child whose standard input is a pipe from here.

    It gets its own session, so that a Ctrl-C at the terminal reaches only the parent, which ends
    it in order.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        # Unbuffered, so that select and read speak of the same bytes.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=child_environment(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process number of the child."""
        return self._process.pid

    def send(self, line: str) -> None:
        """Write a line to the child. Raises BrokenPipeError if it has ended."""
        self.send_bytes(line.encode())

    def send_bytes(self, data: bytes) -> None:
        """Write to the child. Raises OSError if it has ended."""
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def read_some(self) -> bytes:
        """Return what the child has written, waiting for it; nothing at the end."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return b""
        piece = os.read(self._process.stdout.fileno(), _PIECE_BYTES)
        if not piece:
            self._process.stdout.close()
        return piece

    def read_line(self, timeout_s: float) -> str | None:
        """Return the child's next line; ``None`` if it ends or none comes in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = b""
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            # Not select: that takes no descriptor above 1,023.
            if left <= 0 or not poll.poll(left * 1000):
                return None
            byte = self._process.stdout.read(1)
            if not byte:
                return None
            line += byte
        return line.decode()

    def poll(self) -> int | None:
        """Return the exit code if the child has ended."""
        return self._process.poll()

    def stop(self, timeout_s: float) -> int:
        """End the child within about twice ``timeout_s`` and return its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended and left unread input
            self._process.stdin.close()
        self._process.stdout.close()
        return self._wait(timeout_s)

    def finish(self, timeout_s: float) -> int:
        """End the child in the same way, while another thread reads what it still says."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        return self._wait(timeout_s)

    def _wait(self, timeout_s: float) -> int:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()


class ChildStreams:
    """The streams of a child that talks until its standard input ends."""

    def __init__(self, module: str) -> None:
        self._child = SamplerChild(module)

    def receive(self) -> bytes:
        """Return what has come, waiting for it; nothing at the end."""
        return self._child.read_some()

    def send(self, data: bytes) -> None:
        """Send. Raises OSError if the child has ended."""
        self._child.send_bytes(data)

    def close(self) -> int:
        """Let the child end, and return its exit code."""
        return self._child.finish(_STOP_TIMEOUT_S)
