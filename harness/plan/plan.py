"""All runs of one invocation, in order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.connectors import ConnectorConfig, connectors
from harness.core.errors import UsageError
from harness.core.pairs import pair_refusal
from harness.core.plug_ins import Registry
from harness.executors import ExecutorConfig, executors
from harness.plan.options import General, Isolate, Order, Topology
from harness.plan.workload import WITHOUT_STORE, FlagModel, Mode, Workload, workloads
from harness.results.directory import name_refusal

DEFAULT_WORKLOAD = "stages"
_PLUG_INS: dict[str, Registry[Any]] = {
    "executor": executors,
    "connector": connectors,
    "workload": workloads,
}


class Run(FlagModel):
    """One workload under one mode, once; a warm-up is measured, too, but in no result."""

    run_id: str
    mode: str
    repetition: int
    warm_up: bool = False


class Plan(BaseModel):
    """All runs of one invocation, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    SCHEMA_VERSION: ClassVar[int] = 1

    executor_name: str
    executor: SerializeAsAny[ExecutorConfig]
    connector_name: str
    connector: SerializeAsAny[ConnectorConfig]
    workload_name: str = DEFAULT_WORKLOAD
    workload: SerializeAsAny[Workload]
    general: General
    topology: Topology | None = None

    @model_validator(mode="before")
    @classmethod
    def _plug_ins(cls, data: Any) -> Any:
        """Read the plug-ins' options with the plug-ins' own classes (plan files)."""
        if isinstance(data, dict):
            data = dict(data)
            data.setdefault("workload_name", DEFAULT_WORKLOAD)
            for key, registry in _PLUG_INS.items():
                if isinstance(data.get(key), dict):
                    data[key] = registry.get(data[f"{key}_name"])(**data[key])
        return data

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the name of the only workload that older versions know."""
        found: dict[str, Any] = handler(self)
        if found.get("workload_name") == DEFAULT_WORKLOAD:
            del found["workload_name"]
        return found

    def text(self) -> str:
        """Return the plan as its runner reads it.

        What is as it is anyway is left out: a published image may know fewer flags.
        """
        return self.model_dump_json(indent=2, exclude_defaults=True) + "\n"

    def runs(self) -> list[Run]:
        """Return the runs that count, in order."""
        modes, repeat = self.workload.modes, range(1, self.general.repeat + 1)
        pairs = [(mode, repetition) for mode in modes for repetition in repeat]
        if self.general.order == Order.INTERLEAVED:
            pairs = [(mode, repetition) for repetition in repeat for mode in modes]
        elif self.general.order == Order.SHUFFLED:
            random.Random(self.workload.seed).shuffle(pairs)
        return [
            Run(run_id=f"{number:04d}-{mode}-{repetition}", mode=mode, repetition=repetition)
            for number, (mode, repetition) in enumerate(pairs, 1)
        ]

    def stopped_after(self, repeat: int) -> Plan:
        """Return the plan of the runs that were done, where ``repeat`` of each mode were enough."""
        return self.model_copy(
            update={"general": self.general.model_copy(update={"repeat": repeat})}
        )

    def traced(self) -> Plan:
        """Return the plan of the traced runs (``--why``): each mode once, whatever is compared."""
        general: dict[str, Any] = {"why": None, "traced": True, "repeat": 1, "order": Order.GIVEN}
        general["native"] = self.general.why is not None and self.general.why.native
        found: dict[str, Any] = {"general": self.general.model_copy(update=general)}
        if self.topology is not None:
            topology = {"until": None, "budget": None, "against": None, "isolate": Isolate.MODE}
            found["topology"] = self.topology.model_copy(update=topology)
        return self.model_copy(update=found)

    def with_stack(self, words: Sequence[str]) -> Plan:
        """Return the plan with other words for the same packages; only one with a topology."""
        assert self.topology is not None
        topology = self.topology.model_copy(update={"stack": list(words)})
        return self.model_copy(update={"topology": topology})

    @property
    def run_count(self) -> int:
        """Number of runs that count."""
        return len(self.workload.modes) * self.general.repeat

    def check(self) -> None:
        """Refuse what cannot work, before anything is started; wherever the plan comes from.

        Raises:
            UsageError: one line that names the flag and what would be right.
            InfrastructureError: if the executor needs what is not there.
        """
        containers = self.topology is not None
        refusal = name_refusal(self.general.csv_file, self.general.log_file)
        if refusal:
            raise UsageError(refusal)
        self.executor.check(containers=containers)
        launched = self.executor.containers().inside() if containers else None
        refusal = (
            self._why_refusal()
            or self._until_refusal()
            or self._sharing_refusal()
            or self._reference_refusal()
            or self._size_refusal()
            or pair_refusal(self.executor, self.connector, launched)
            or self.executor.payload_refusal(self.workload.payloads(), containers=containers)
        )
        if refusal:
            raise UsageError(refusal)

    def _until_refusal(self) -> str | None:
        """Return why runs cannot be repeated until they are enough."""
        if self.topology is None or self.topology.until is None:
            alone = [name for name in ("budget", "against") if getattr(self.topology, name, None)]
            return f"--{alone[0]}: only with --until" if alone else None
        if self.general.order != Order.INTERLEAVED:
            return f"--order {self.general.order}: with --until the modes take turns: leave it out"
        return None

    def _sharing_refusal(self) -> str | None:
        """Return why runs cannot follow each other in one topology."""
        why = self.executor.keeps_memory
        if self.topology is None or not why or self.general.traced:
            return None
        if self.topology.isolate != Isolate.RUN:
            return (
                f"--isolate {self.topology.isolate}: {why}, so that a run would be measured with"
                " memory of the one before it; leave it out: each run gets a topology of its own"
            )
        if self.general.warmup:
            return f"--warmup {self.general.warmup}: {why}, of a warm-up neither; leave it out"
        return None

    def _reference_refusal(self) -> str | None:
        """Return why data cannot stay with the executor."""
        if Mode.FUTURES not in self.workload.modes or self.executor.passes_references:
            return None
        able = [name for name, executor in executors if executor.passes_references]
        return (
            f"--data-management {Mode.FUTURES}: --executor {self.executor_name} has no references"
            f" for tasks to pass on; use another mode, or --executor {' or '.join(able)}"
        )

    def _why_refusal(self) -> str | None:
        """Return why runs cannot be traced: all processes are asked in one folder."""
        traced = self.general.why is not None or self.general.traced
        if not traced or self.topology is None or self.topology.nodes is None:
            return None
        return "--why: not over several --nodes: trace the plan on one machine"

    def _size_refusal(self) -> str | None:
        """Return why the connector cannot hold the payloads."""
        limit = self.connector.largest_object
        if limit is None or WITHOUT_STORE.issuperset(self.workload.modes):
            return None
        most, why = limit
        largest = self.workload.largest_bytes
        if largest <= most:
            return None
        return (
            f"{self.workload.sizes_flag} {largest}: {why}; use smaller payloads, --ps-connector"
            " file, or multi with --ps-multi-large file"
        )

    def in_topology(self) -> Plan:
        """Return the plan as the runner container executes it."""
        inside = self.executor.containers().inside()
        return self.model_copy(update={"executor": inside, "topology": None})
