"""Serve until told to end: ``python -m harness.globus_service``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn

from harness.globus_service.credentials import CERTIFICATE_FILE, KEY_FILE, ensure_secrets
from harness.globus_service.relay import Relay
from harness.globus_service.routes import Routes
from harness.globus_service.settings import Settings
from harness.globus_service.state import State

_BACKLOG = 128


def main() -> int:
    """Make or read the topology's secrets, then serve."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # At INFO these two name every request, and URLs with their passwords.
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    # Clients connect as soon as they find their login: the port must be open before.
    listener = socket.create_server(("0.0.0.0", settings.port), backlog=_BACKLOG)  # noqa: S104
    secrets = ensure_secrets(settings.keys, settings.login)
    state = State(settings.state / "service.db")
    relay = Relay(settings, secrets, state)

    async def lifespan() -> AsyncIterator[None]:
        running = asyncio.create_task(relay.run())
        running.add_done_callback(_end_with)
        yield
        running.cancel()

    config = uvicorn.Config(
        Routes(settings, secrets, state, relay).application(lifespan),
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.keys / CERTIFICATE_FILE,
        ssl_keyfile=settings.keys / KEY_FILE,
        # The SDK keeps a connection for the next call.
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        state.close()
    return 0


def _end_with(running: asyncio.Task[None]) -> None:
    """End the service when what carries its messages has failed: it would only look healthy."""
    if not running.cancelled() and running.exception() is not None:
        logging.getLogger(__name__).critical("failed", exc_info=running.exception())
        signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
