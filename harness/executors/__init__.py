"""Executors: one file per executor, named as on the command line."""

from harness.executors._protocol import (
    ExecutorConfig,
    ExecutorTopology,
    ObjectStore,
    ReferringExecutor,
    executors,
    together,
)

__all__ = [
    "ExecutorConfig",
    "ExecutorTopology",
    "ObjectStore",
    "ReferringExecutor",
    "executors",
    "together",
]
