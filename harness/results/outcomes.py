"""How a run may end: a closed list, what each means for the exit code and for ``--resume``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from harness.core.errors import HarnessError, InfrastructureError, MeasuredFailure
from harness.core.files import write_whole
from harness.core.text import one_line


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    KILLED = "killed"
    LEAK = "leak"
    INFRASTRUCTURE = "infrastructure"
    INTERRUPTED = "interrupted"


FINISHED = frozenset({Outcome.OK, Outcome.LEAK})
"""The run went to its end: it is in results.csv."""
REPEATED = frozenset({Outcome.INTERRUPTED, Outcome.INFRASTRUCTURE})
"""Says nothing about the run itself: ``--resume`` does it again."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, whose fault it was, and why.

    Attributes:
        outcome: one of the list.
        reason: one line.
        service: container or part of the harness at fault; empty if the workload itself was.
    """

    outcome: Outcome
    reason: str = ""
    service: str = ""

    def error(self) -> HarnessError:
        """Return it as the error that ends a command."""
        return error_for([self], self.reason)


def error_for(endings: Iterable[Ending], message: str) -> HarnessError:
    """Return the error for endings that were not ok: the machine's fault outweighs a run's."""
    if any(ending.outcome == Outcome.INFRASTRUCTURE for ending in endings):
        return InfrastructureError(message)
    return MeasuredFailure(message)


def write_ending(path: Path, ending: Ending) -> None:
    """Tell the host how a run ended."""
    write_whole(path, json.dumps(asdict(ending)) + "\n")


def parse_ending(data: bytes | None) -> Ending | None:
    """Return what the runner said, made safe; None if it said nothing, or not to the end."""
    try:
        found = json.loads((data or b"").decode("utf-8", "replace"))
        reason, service = (one_line(str(found[key]))[:500] for key in ("reason", "service"))
        return Ending(Outcome(found["outcome"]), reason, service)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
