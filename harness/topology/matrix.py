"""The table of executor x connector x mode: what runs in containers, and why the rest does not.

No list is kept anywhere: for each cell the flags of a small bench go through the same checks as
the user's, up to where containers would be started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.connectors import connectors
from harness.core.errors import InfrastructureError, UsageError
from harness.core.flags import Parser
from harness.executors import executors
from harness.plan import Mode, add_plan_flags, parse_plan
from harness.topology.compose import COMPOSE_DIR, plan_files

RUNS = "runs"
REFUSED = "refused"
NEEDS = "needs"

# Payloads large enough to see in a container's memory. Flags of an executor come after these.
WORKLOAD = (
    *("--stage-task-counts", "1", "2", "1"),
    *("--stage-bytes-sizes", "5MB", "5MB", "5MB", "1MB"),
    *("--task-sleep", "0.2"),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        executor: an executor, or one of its variants.
        connector: the connector.
        mode: the data management mode.
        outcome: ``runs``, ``refused`` or ``needs``.
        why: one line, empty for ``runs``.
    """

    executor: str
    connector: str
    mode: str
    outcome: str
    why: str


def executor_flags() -> dict[str, list[str]]:
    """Return the name of each row -> the flags that choose its executor."""
    return {
        row: ["--executor", name, *flags]
        for name, executor in executors
        for row, flags in executor.topology.variants(name).items()
    }


def matrix() -> Iterator[Cell]:
    """Ask for every cell."""
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    for row, flags in executor_flags().items():
        for connector in connectors.names():
            for mode in Mode:
                argv = [*WORKLOAD, *flags, "--ps-connector", connector, "--data-management", mode]
                yield Cell(row, connector, mode.value, *_outcome(parser, argv))


def _outcome(parser: Parser, argv: list[str]) -> tuple[str, str]:
    try:
        plan_files(parse_plan(parser, argv, containers=True))
    except UsageError as error:
        # The table is the same wherever the checkout is.
        return REFUSED, str(error).replace(f"{COMPOSE_DIR}", "compose/")
    except InfrastructureError as error:
        return NEEDS, str(error)
    return RUNS, ""
