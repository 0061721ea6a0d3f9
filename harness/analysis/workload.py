"""The workload as results.csv tells it, and what follows from it alone (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBERS = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18}){0,9999}")


@dataclass(frozen=True)
class WorkloadFacts:
    """A workload, whoever ran it.

    Attributes:
        executor: class name of the executor.
        connector: class name of the connector; empty where only mode none was run.
        task_counts: tasks of each stage.
        bytes_sizes: size of the start data, then of each stage's results, in bytes.
        repeat: times the stages were run within one workflow.
        sleep_s: seconds each task slept.
    """

    executor: str
    connector: str
    task_counts: tuple[int, ...]
    bytes_sizes: tuple[int, ...]
    repeat: int
    sleep_s: float

    @property
    def payload_bytes(self) -> int:
        """Bytes that one workflow makes: start data and the results of all tasks.

        This is also what default-proxy holds when the workflow ends.
        """
        counts = (self.task_counts[0], *self.task_counts)
        return self.repeat * sum(c * s for c, s in zip(counts, self.bytes_sizes, strict=True))

    @property
    def ideal_s(self) -> float:
        """Makespan in seconds if nothing cost time but the tasks' sleep."""
        return self.repeat * len(self.task_counts) * self.sleep_s

    def differences(self, other: WorkloadFacts) -> dict[str, tuple[str, str]]:
        """Return what differs from another workload: its name to both values.

        A side that ran without a connector (mode none) agrees with any.
        """
        pairs = {
            "executor": (self.executor, other.executor),
            "connector": (self.connector, other.connector),
            "--stage-task-counts": (_joined(self.task_counts), _joined(other.task_counts)),
            "--stage-bytes-sizes": (_joined(self.bytes_sizes), _joined(other.bytes_sizes)),
            "--stage-repeat": (str(self.repeat), str(other.repeat)),
            "--task-sleep": (f"{self.sleep_s:g}", f"{other.sleep_s:g}"),
        }
        if not (self.connector and other.connector):
            del pairs["connector"]
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a cell such as ``32-1``.

    Raises:
        ValueError: if it is none.
    """
    if not _NUMBERS.fullmatch(text):
        raise ValueError(text)
    return tuple(int(part) for part in text.split("-"))


def _joined(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
