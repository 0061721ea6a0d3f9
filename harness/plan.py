"""From flags to a validated plan: all runs of one invocation, in order.

The spelling, meaning and defaults of the reference's flags (psbench 0.2) are kept; what is
ours is added beside them.
"""

from __future__ import annotations

import argparse
import difflib
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from harness.connectors import ConnectorConfig, connectors
from harness.core.errors import UsageError
from harness.core.flags import Flag, Parser, add_flags, from_args
from harness.core.pairs import Payloads, pair_refusal
from harness.executors import ExecutorConfig, executors

LOG_LEVELS = ("ERROR", "WARNING", "BENCH", "TEST", "INFO", "DEBUG")


class Mode(StrEnum):
    """How the data of a workflow is managed."""

    NONE = "none"
    DEFAULT_PROXY = "default-proxy"
    MANUAL_PROXY = "manual-proxy"
    OWNED_PROXY = "owned-proxy"


class _Flags(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workload(_Flags):
    """The simulated workflow and the modes it is run under."""

    modes: Annotated[
        tuple[str, ...],
        Flag(
            "--data-management",
            "data management modes, each repeated --repeat times",
            choices=tuple(Mode),
        ),
    ] = (Mode.DEFAULT_PROXY, Mode.MANUAL_PROXY, Mode.OWNED_PROXY)
    stage_task_counts: Annotated[
        tuple[int, ...], Flag("--stage-task-counts", "number of tasks in each stage", "COUNT")
    ]
    stage_bytes_sizes: Annotated[
        tuple[int, ...],
        Flag(
            "--stage-bytes-sizes",
            "size of the start data, then of what each stage's tasks return (MB is 10^6,"
            " MiB is 2^20)",
            "BYTES",
            size=True,
        ),
    ]
    stage_repeat: Annotated[
        int, Flag("--stage-repeat", "times the stages are run within one workflow", "N")
    ] = 1
    task_sleep: Annotated[
        float, Flag("--task-sleep", "seconds each task sleeps, as its simulated work", "SECONDS")
    ]
    seed: Annotated[int, Flag("--seed", "seed of all payloads", "N")] = 0

    @field_validator("modes")
    @classmethod
    def _each_once(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(Mode(mode).value for mode in modes))

    @field_validator("stage_task_counts")
    @classmethod
    def _stage_order(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        for stage, count in enumerate(counts):
            if count <= 0:
                raise ValueError(f"{count} is not a number of tasks: it must be greater than zero")
            if stage and count > 1 and counts[stage - 1] not in (1, count):
                raise ValueError(
                    f"stage {stage} has {count} tasks but follows {counts[stage - 1]}: a stage of"
                    f" many tasks may only follow a stage of one task or of the same number"
                )
        return counts

    @field_validator("stage_repeat")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError(f"must be greater than zero, not {value}")
        return value

    @field_validator("task_sleep")
    @classmethod
    def _duration(cls, value: float) -> float:
        if not 0 <= value < float("inf"):
            raise ValueError(f"must be a number of seconds of at least 0, not {value}")
        return value

    @model_validator(mode="after")
    def _one_size_more(self) -> Self:
        sizes, counts = len(self.stage_bytes_sizes), len(self.stage_task_counts)
        if sizes != counts + 1:
            raise ValueError(
                f"--stage-bytes-sizes: {sizes} sizes given, but {counts} stages"
                f" (--stage-task-counts) need {counts + 1}: one for the start data and one for"
                " each stage's results"
            )
        return self

    def payloads(self) -> Payloads:
        """Return what an executor has to carry at most."""
        counts, sizes = self.stage_task_counts, self.stage_bytes_sizes
        before = (counts[0], *counts)
        inputs = (
            size * (had if count == 1 else 1)
            for had, count, size in zip(before, counts, sizes, strict=False)
        )
        return Payloads(self.modes, max(inputs), max(sizes[1:]))

    @property
    def sleep_s(self) -> float:
        """Seconds a workflow sleeps at least: its stages run one after the other."""
        return self.stage_repeat * len(self.stage_task_counts) * self.task_sleep


class Order(StrEnum):
    """In which order the runs of several modes are done."""

    GIVEN = "given"
    INTERLEAVED = "interleaved"
    SHUFFLED = "shuffled"


class Isolate(StrEnum):
    """Which runs share a topology."""

    NONE = "none"
    MODE = "mode"
    RUN = "run"


class General(_Flags):
    """Where results go and how often things are done."""

    repeat: Annotated[int, Flag("--repeat", "runs of each mode", "N")] = Field(default=1, gt=0)
    run_dir: Annotated[
        str, Flag("--run-dir", "each invocation makes a directory of its own in here", "DIR")
    ] = "runs/"
    csv_file: Annotated[
        str, Flag("--csv-file", "name of the results file in the run directory", "NAME")
    ] = "results.csv"
    log_level: Annotated[str, Flag("--log-level", "least level shown", choices=LOG_LEVELS)] = (
        "BENCH"
    )
    log_file: Annotated[
        str, Flag("--log-file", "name of the log file in the run directory", "NAME")
    ] = "log.txt"
    log_file_level: Annotated[
        str, Flag("--log-file-level", "least level written to the log file", choices=LOG_LEVELS)
    ] = "INFO"
    memory_profile_interval: Annotated[
        float,
        Flag(
            "--memory-profile-interval",
            "seconds between two readings of the host's memory (results-memory.csv)",
            "SECONDS",
        ),
    ] = Field(default=0.01, ge=0.001)
    start_timeout: Annotated[
        float,
        Flag("--start-timeout", "seconds services, then workers, may take to be ready", "SECONDS"),
    ] = Field(default=120.0, gt=0)
    run_timeout: Annotated[
        float | None,
        Flag(
            "--run-timeout",
            "seconds one run may take, phases around it included; 0: for ever (default: two"
            " minutes and five times what the flags let expect)",
            "SECONDS",
        ),
    ] = Field(default=None, ge=0)
    inside_interval: Annotated[
        float,
        Flag(
            "--inside-interval",
            "seconds between two readings inside a container, or of a worker",
            "SECONDS",
        ),
    ] = Field(default=0.1, ge=0.01)
    order: Annotated[
        Order,
        Flag(
            "--order",
            "mode by mode, all modes once and then again, or at random (--seed)",
            choices=tuple(Order),
        ),
    ] = Order.GIVEN
    warmup: Annotated[
        int,
        Flag(
            "--warmup",
            "runs of each mode before its first, in every topology, that are in no result",
            "N",
        ),
    ] = Field(default=0, ge=0)
    baseline_window: Annotated[
        float,
        Flag(
            "--baseline-window",
            "seconds for which memory must be flat before a run starts; 0: do not wait",
            "SECONDS",
        ),
    ] = Field(default=0.1, ge=0)
    baseline_bound: Annotated[
        int,
        Flag(
            "--baseline-bound",
            "most that all containers together may differ within that time",
            "BYTES",
            size=True,
        ),
    ] = 2**20
    baseline_timeout: Annotated[
        float,
        Flag(
            "--baseline-timeout",
            "seconds after which a run starts although memory is not flat; that is written down",
            "SECONDS",
        ),
    ] = Field(default=2.0, ge=0)
    after: Annotated[
        float,
        Flag("--after", "seconds to go on sampling after each run, once trimmed", "SECONDS"),
    ] = Field(default=0.0, ge=0)
    audit_stages: Annotated[
        bool,
        Flag(
            "--audit-stages",
            "count the objects in the connector at every stage boundary, inside of the clock;"
            " warm-up runs do it anyway",
        ),
    ] = False

    @field_validator("csv_file", "log_file")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not a file name: it goes into the run directory")
        return name


class Topology(_Flags):
    """What only ``harness bench`` knows: containers and how they are sampled."""

    worker_memory_limit: Annotated[
        int | None,
        Flag(
            "--worker-memory-limit",
            "memory limit of each worker container, swap included",
            "BYTES",
            size=True,
        ),
    ] = Field(default=None, ge=32 * 2**20)
    cgroup_interval: Annotated[
        float,
        Flag("--cgroup-interval", "seconds between two readings of the cgroup files", "SECONDS"),
    ] = Field(default=0.02, ge=0.005)
    fail_fast: Annotated[
        bool,
        Flag(
            "--fail-fast",
            "end with the first run that is not ok; without it the topology is replaced and the"
            " plan goes on",
        ),
    ] = False
    keep: Annotated[
        bool,
        Flag(
            "--keep",
            "end with the first run that is not ok and leave its topology in place to be looked at",
        ),
    ] = False
    force: Annotated[
        bool, Flag("--force", "start also what is predicted not to fit in this machine")
    ] = False
    isolate: Annotated[
        Isolate,
        Flag(
            "--isolate",
            "a fresh topology for each mode, for each run, or one for all",
            choices=tuple(Isolate),
        ),
    ] = Isolate.MODE


class Run(_Flags):
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
    workload: Workload
    general: General
    topology: Topology | None = None

    @model_validator(mode="before")
    @classmethod
    def _plug_ins(cls, data: Any) -> Any:
        """Read the plug-ins' options with the plug-ins' own classes (plan files)."""
        if isinstance(data, dict):
            data = dict(data)
            for key, registry in (("executor", executors), ("connector", connectors)):
                if isinstance(data.get(key), dict):
                    data[key] = registry.get(data[f"{key}_name"])(**data[key])
        return data

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

    def in_topology(self) -> Plan:
        """Return the plan as the runner container executes it."""
        return self.model_copy(update={"executor": self.executor.in_topology(), "topology": None})


def add_plan_flags(parser: argparse.ArgumentParser, *, containers: bool) -> None:
    """Add every flag of a plan to a parser.

    Args:
        parser: the command's parser.
        containers: whether the plan gets a topology (``harness bench``).
    """
    parser.add_argument(
        "--executor", choices=executors.names(), required=True, help="task executor"
    )
    for name, executor in executors:
        add_flags(parser, f"executor {name}", [executor])
    parser.add_argument(
        "--ps-connector",
        choices=connectors.names(),
        type=str.lower,
        required=True,
        help="ProxyStore connector"
        + ("; its options are filled in by the topology" if containers else ""),
    )
    add_flags(parser, "ProxyStore connectors", [connector for _, connector in connectors])
    add_flags(parser, "workload", [Workload])
    add_flags(parser, "general", [General])
    if containers:
        add_flags(parser, "containers", [Topology])


def plan_from_args(args: argparse.Namespace, *, containers: bool) -> Plan:
    """Validate parsed flags.

    Raises:
        UsageError: one line that names the flag and what would be right; also for an executor
            and a connector that cannot work together.
        InfrastructureError: if the connector needs what is not there.
    """
    given = vars(args)
    executor = from_args(executors.get(args.executor), given)
    executor.check(containers=containers)
    connector = connectors.get(args.ps_connector).from_flags(given, containers=containers)
    workload = from_args(Workload, given)
    _check_sizes(connector, workload)
    refusal = pair_refusal(
        executor, connector, executor.in_topology() if containers else None
    ) or executor.payload_refusal(workload.payloads(), containers=containers)
    if refusal:
        raise UsageError(refusal)
    return Plan(
        executor_name=args.executor,
        executor=executor,
        connector_name=args.ps_connector,
        connector=connector,
        workload=workload,
        general=from_args(General, given),
        topology=from_args(Topology, given) if containers else None,
    )


def _check_sizes(connector: ConnectorConfig, workload: Workload) -> None:
    """Refuse payloads that the connector cannot hold."""
    limit = connector.largest_object
    if limit is None or workload.modes == (Mode.NONE.value,):
        return
    most, why = limit
    largest = max(workload.stage_bytes_sizes)
    if largest > most:
        raise UsageError(
            f"--stage-bytes-sizes {largest}: {why}; use smaller payloads, --ps-connector file, or"
            " multi with --ps-multi-large file"
        )


def parse_plan(parser: Parser, argv: Sequence[str], *, containers: bool) -> Plan:
    """Parse a command line into a plan.

    Raises:
        UsageError: as :func:`plan_from_args`, and for unknown flags.
    """
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f": did you mean {near[0]}?" if near else f" (see '{parser.prog} --help')"
        raise UsageError(f"unknown flag or value {unknown[0]!r}{hint}")
    return plan_from_args(args, containers=containers)
