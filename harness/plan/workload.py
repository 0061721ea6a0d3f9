"""What a workload plug-in is: its options, and the graph of tasks that they describe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from harness.core.flags import Flag, from_args
from harness.core.pairs import Payloads
from harness.core.plug_ins import Registry
from harness.core.user_module import UserModule
from harness.plan.graph import Graph


class Mode(StrEnum):
    """How the data of a workflow is managed."""

    NONE = "none"
    DEFAULT_PROXY = "default-proxy"
    MANUAL_PROXY = "manual-proxy"
    OWNED_PROXY = "owned-proxy"
    FUTURES = "futures"


WITHOUT_STORE = frozenset({Mode.NONE, Mode.FUTURES})
"""Modes whose data never is in a connector."""


class FlagModel(BaseModel):
    """Some of a plan's flags."""

    # A plan file or a bundle may be anybody's: every number in it is finite, and bounded.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Far above what anybody runs, and low enough to be counted, waited for and estimated.
MOST_SECONDS = 10_000_000.0
MOST_BYTES = 10**15
MOST_TASKS = 1_000_000


class Workload(FlagModel):
    """Options of one workload; subclass it and register the subclass under the workload's name.

    Every field that carries a ``Flag`` is a command-line option. These here all workloads have.
    """

    name: ClassVar[str]
    sizes_flag: ClassVar[str]
    """The flag that a too large payload is due to."""

    modes: Annotated[
        tuple[str, ...],
        Flag(
            "--data-management",
            "data management modes, each repeated --repeat times",
            choices=tuple(Mode),
        ),
    ] = Field(default=(Mode.DEFAULT_PROXY, Mode.MANUAL_PROXY, Mode.OWNED_PROXY), min_length=1)
    seed: Annotated[int, Flag("--seed", "seed of all payloads", "N")] = 0
    no_populate_target: Annotated[
        bool,
        Flag(
            "--no-populate-target",
            "make proxies that do not keep the object they were made of (ProxyStore's"
            " populate_target), which psbench's do",
        ),
    ] = False

    @field_validator("modes")
    @classmethod
    def _each_once(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(Mode(mode).value for mode in modes))

    @model_serializer(mode="wrap")
    def _in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put a workload's own options between those that all have, as older versions do."""
        found: dict[str, Any] = handler(self)
        last = [name for name in ("seed", "no_populate_target") if name in found]
        values = {name: found.pop(name) for name in last}
        return found | values

    @classmethod
    def from_flags(cls, args: Mapping[str, Any]) -> Self:
        """Build the options from parsed flags, with all that has to be read for them.

        Raises:
            UsageError: one line that names the flag or file, and the remedy.
        """
        return from_args(cls, args)

    @abstractmethod
    def graph(self) -> Graph:
        """Return the tasks of one cycle, and what they pass on; ask :func:`graph_of` for it."""

    def program(self) -> tuple[UserModule, str] | None:
        """Return a function that is called with a client instead: its module and its name."""
        return None

    @property
    def cycles(self) -> int:
        """Times that the graph is run within one workflow, one after the other."""
        return 1

    @property
    def barriers(self) -> bool:
        """Whether a level of the graph starts only when the one before is done."""
        return True

    def columns(self) -> tuple[str, str, float]:
        """Return what results.csv says of it: task counts, sizes in bytes, sleep in seconds.

        A graph has no one size for a level: after ``total:`` there are the bytes of all start data
        and then of each level's results together. The sleep is the mean of the levels, so that
        levels times sleep is the least that the workflow can take.
        """
        graph = graph_of(self)
        totals = "-".join(str(held.size_bytes) for held in graph.layers())
        counts = "-".join(str(len(level)) for level in graph.levels)
        return counts, f"{TOTAL}{totals}", self.sleep_s / max(1, len(graph.levels))

    def payloads(self) -> Payloads:
        """Return what an executor has to carry at most."""
        graph = graph_of(self)
        sizes = graph.sizes
        inputs = (sum(sizes[read] for read in task.inputs) for task in graph.tasks)
        return Payloads(
            self.modes, max(inputs, default=0), max((t.size for t in graph.tasks), default=0)
        )

    @property
    def largest_bytes(self) -> int:
        """Size of the largest object."""
        return max(graph_of(self).sizes, default=0)

    @property
    def sleep_s(self) -> float:
        """Seconds a workflow takes at least, however many workers there are."""
        return self.cycles * graph_of(self).least_s(barriers=self.barriers)


TOTAL = "total:"
"""What sizes in results.csv begin with that are of all of a level's results together."""

workloads: Registry[Workload] = Registry("harness.workloads", "workflow_memory_harness.workloads")


@lru_cache(maxsize=4)
def graph_of(workload: Workload) -> Graph:
    """Return the graph of a workload's one cycle; it is made once."""
    return workload.graph()
