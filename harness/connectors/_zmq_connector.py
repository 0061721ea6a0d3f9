"""ProxyStore's ZeroMQ connector, made fit for threads, forks, daemons and counting."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import zmq
from proxystore_ex.connectors.dim.exceptions import ServerTimeoutError
from proxystore_ex.connectors.dim.models import RPC, RPCResponse
from proxystore_ex.connectors.dim.utils import get_ip_address
from proxystore_ex.connectors.dim.zmq import ZeroMQConnector as _ZeroMQConnector
from proxystore_ex.connectors.dim.zmq import wait_for_server

from harness.connectors import _zmq_server
from harness.connectors._protocol import Held
from harness.connectors._zmq_server import HELD, JOIN, TRIM
from harness.core.errors import InfrastructureError

# A server answers one message after the other: with many large objects the last one waits.
_ANSWER_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 30.0
# A server of ours on this host answers within a millisecond.
_LOOK_TIMEOUT_S = 0.2


def own_address(address: str | None, interface: str | None) -> str:
    """Return the IP address that this host's server is to listen on.

    Raises:
        OSError: if there is no such interface, or the host name has no address.
    """
    if address is not None:
        return address
    if interface is not None:
        return get_ip_address(interface)
    import socket  # noqa: PLC0415  # the name is the connector's own below

    return socket.gethostbyname(socket.gethostname())


class ZeroMQConnector(_ZeroMQConnector):
    """Objects stay with the host that made them, in a server process of its own.

    ProxyStore's connector shares one socket between all threads, which ZeroMQ forbids, and waits
    for ever for a server that is gone. Here each thread has its own, and waits a minute.

    Args:
        port, address, interface, chunk_length, timeout: as ProxyStore's.
        home: URL of the server that is told of this host's; the first connector's own.
    """

    def __init__(  # ProxyStore's signature
        self,
        port: int,
        address: str | None = None,
        interface: str | None = None,
        chunk_length: int | None = None,
        timeout: float = _START_TIMEOUT_S,
        *,
        home: str | None = None,
    ) -> None:
        self._thread = threading.local()
        self._process: subprocess.Popen[bytes] | None = None
        host = own_address(address, interface)
        if home is None and _answers(host, port):
            raise InfrastructureError(
                f"--ps-port {port}: a ZeroMQ server answers at {host} already, which is somebody"
                " else's; choose another port"
            )
        if not _answers(host, port):
            self._process = _start_server(host, port, timeout)
        try:
            # A server answers by now: it starts none.
            super().__init__(port, address, interface, chunk_length, timeout)
            self.home = home or self.url
            if self.home != self.url:
                self.ask(self.home, JOIN + self.url.encode())
        except BaseException:
            self._stop_server()
            raise

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """This thread's socket."""
        found: zmq.Socket[bytes] | None = getattr(self._thread, "socket", None)
        if found is None:
            found = self.context.socket(zmq.REQ)
            found.setsockopt(zmq.LINGER, 0)
            found.setsockopt(zmq.RCVTIMEO, round(1000 * _ANSWER_TIMEOUT_S))
            self._thread.socket = found
        return found

    @socket.setter
    def socket(self, value: zmq.Socket[bytes]) -> None:
        # ProxyStore's constructor makes one for all threads.
        value.close()

    def _send_rpcs(self, rpcs: Sequence[RPC]) -> list[RPCResponse]:
        try:
            return super()._send_rpcs(rpcs)
        except zmq.Again:
            # It still waits for an answer and could send nothing else.
            self.socket.close()
            del self._thread.socket
            raise TimeoutError(
                f"no ZeroMQ server answered within {_ANSWER_TIMEOUT_S:g} s:"
                f" {', '.join(sorted({f'{r.key.peer_host}:{r.key.peer_port}' for r in rpcs}))}"
            ) from None

    def ask(self, url: str, message: bytes) -> bytes:
        """Send one of our own messages to a server and return its answer.

        Raises:
            InfrastructureError: if it does not answer.
        """
        with self.context.socket(zmq.REQ) as asked:
            asked.setsockopt(zmq.LINGER, 0)
            asked.setsockopt(zmq.RCVTIMEO, round(1000 * _ANSWER_TIMEOUT_S))
            asked.connect(url)
            try:
                asked.send(message)
                return asked.recv()
            except zmq.Again:
                raise InfrastructureError(f"the ZeroMQ server {url} does not answer") from None

    def held(self) -> Held:
        """Ask the home server, and all it was told of, what they hold.

        Raises:
            InfrastructureError: if one of them does not answer.
        """
        at_home = json.loads(self.ask(self.home, HELD))
        answers = [at_home, *(json.loads(self.ask(url, HELD)) for url in at_home["others"])]
        return Held(sum(a["objects"] for a in answers), sum(a["bytes"] for a in answers))

    def trim(self) -> None:
        """Let the home server, and all it was told of, give free memory back.

        Raises:
            InfrastructureError: if one of them does not answer.
        """
        for url in (self.home, *json.loads(self.ask(self.home, HELD))["others"]):
            self.ask(url, TRIM)

    def config(self) -> dict[str, Any]:
        """Return the configuration, with which another host's connector finds this one's home."""
        return super().config() | {"home": self.home}

    def close(self, kill_server: bool = True) -> None:
        """Close the sockets, and end the server if this connector started it."""
        if kill_server:
            self._stop_server()
        # Also the other threads' sockets: what they ask for is gone.
        self.context.destroy(linger=0)

    def _stop_server(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _stop(process)


def _answers(address: str, port: int) -> bool:
    try:
        wait_for_server(address, port, _LOOK_TIMEOUT_S)
    except ServerTimeoutError:
        return False
    return True


def _start_server(address: str, port: int, timeout_s: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", _zmq_server.__file__, address, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Not in the terminal's group: its Ctrl-C is for the client.
        start_new_session=True,
    )
    deadline = time.monotonic() + timeout_s
    try:
        while not _answers(address, port):
            if process.poll() is not None:
                if _answers(address, port):  # another process of this host was faster
                    return process
                assert process.stderr is not None
                said = process.stderr.read().decode(errors="replace").strip()
                raise InfrastructureError(
                    f"the ZeroMQ server tcp://{address}:{port} did not start:"
                    f" {said.splitlines()[-1] if said else process.returncode}"
                )
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"the ZeroMQ server tcp://{address}:{port} did not start within {timeout_s:g} s"
                )
    except BaseException:
        _stop(process)
        raise
    atexit.register(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let go of the pipe, which ends the server, and wait for it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
