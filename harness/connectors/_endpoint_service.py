"""A topology's endpoint: ProxyStore's own service, which also says what it holds, and trims.

``python -m harness.connectors._endpoint_service DIRECTORY HOST PORT UUID`` writes the endpoint's
configuration where its clients look for it, below DIRECTORY, and serves in the foreground with
what ``proxystore-endpoint configure`` chooses: storage in memory, no relay.
"""

from __future__ import annotations

import sys
from pathlib import Path

import quart
from proxystore.endpoint.config import EndpointConfig, write_config
from proxystore.endpoint.serve import routes_blueprint, serve
from proxystore.endpoint.storage import DictStorage

from harness.core.trim import trim

NAME = "endpoint"


async def held() -> quart.Response:
    """Count the storage's objects. ProxyStore's API has only questions about one key."""
    storage = quart.current_app.config["endpoint"]._storage
    assert isinstance(storage, DictStorage)
    sizes = [len(data) for data in storage._data.values()]
    return quart.jsonify({"objects": len(sizes), "bytes": sum(sizes)})


async def give_back() -> quart.Response:
    """Give free memory back to the kernel."""
    return quart.jsonify({"trimmed": trim()})


def main(directory: str, host: str, port: str, uuid: str) -> None:
    """Configure and serve until terminated."""
    routes_blueprint.add_url_rule("/held", "held", held)
    routes_blueprint.add_url_rule("/trim", "trim", give_back)
    config = EndpointConfig(name=NAME, uuid=uuid, host=host, host_type="static", port=int(port))
    write_config(config, str(Path(directory) / NAME))
    serve(config, log_level="WARNING")


if __name__ == "__main__":
    main(*sys.argv[1:])
