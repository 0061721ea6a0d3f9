"""The process that holds a host's objects for the zmq connector.

``python -P _zmq_server.py ADDRESS PORT`` serves until its standard input ends: that is a pipe its
parent holds, so that it ends with the parent, however that ends. It is a script and no module of
the package: that way it imports 20 MB less, and ``-P`` lets ``import zmq`` mean the library.

ProxyStore would fork the server from the client instead, but a forked copy of a Dask worker holds
the worker's connections open, and a process that is a daemon to ``multiprocessing`` (a worker under
Dask's nanny) may not have one.

Beside ProxyStore's own messages it answers three of ours: ``held`` with what it holds, ``join URL``
by remembering another host's server, so that one server knows all of them, and ``trim`` by giving
free memory back.
"""

from __future__ import annotations

import ctypes
import gc
import json
import signal
import sys

import zmq
from proxystore.serialize import deserialize, serialize
from proxystore.utils.data import chunk_bytes
from proxystore_ex.connectors.dim.zmq import MAX_CHUNK_LENGTH_DEFAULT, ZeroMQServer

_LIFELINE = 0
PING, HELD, JOIN, TRIM = b"ping", b"held", b"join ", b"trim"


class Server:
    """ProxyStore's server, and what can be asked about it."""

    def __init__(self) -> None:
        self._objects = ZeroMQServer()
        self._others: set[str] = set()

    def answer(self, message: bytes) -> list[bytes]:
        """Return the parts of the reply to a message."""
        if message == PING:
            return [b"pong"]
        if message == HELD:
            sizes = [len(data) for data in self._objects.data.values()]
            held = {"objects": len(sizes), "bytes": sum(sizes), "others": sorted(self._others)}
            return [json.dumps(held).encode()]
        if message.startswith(JOIN):
            self._others.add(message.removeprefix(JOIN).decode())
            return [b"ok"]
        if message == TRIM:
            gc.collect()
            # As harness.core.trim, which this script cannot import.
            getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
            return [b"ok"]
        reply = serialize(self._objects.handle_rpc(deserialize(message)))
        return [bytes(part) for part in chunk_bytes(reply, MAX_CHUNK_LENGTH_DEFAULT)]


def serve(address: str, port: int) -> None:
    """Answer until standard input ends.

    Raises:
        zmq.ZMQError: if the address cannot be bound.
    """
    # Ctrl-C in a terminal reaches every process of it; the parent still needs the objects then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = Server()
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(f"tcp://{address}:{port}")
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(_LIFELINE, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if _LIFELINE in ready:
                return
            if socket in ready:
                socket.send_multipart(server.answer(b"".join(socket.recv_multipart())))


if __name__ == "__main__":
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    except zmq.ZMQError as error:
        sys.exit(f"{error}")
