"""A containerised, reproducible benchmark harness for the memory use of task executors."""

__version__ = "0.1.0"
