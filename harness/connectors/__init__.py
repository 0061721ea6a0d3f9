"""Connectors: one file per connector, named as on the command line."""

from harness.connectors._protocol import ConnectorConfig, Held, ServerMemory, connectors

__all__ = ["ConnectorConfig", "Held", "ServerMemory", "connectors"]
