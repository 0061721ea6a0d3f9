"""How often, in which order and where a workload is run, and how it is sampled."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from harness.core.flags import Flag
from harness.plan.workload import MOST_BYTES, MOST_SECONDS, FlagModel

INSIDE_INTERVAL_S = 0.1
MOST_REPEAT = 10_000
MOST_UNTIL = 60
LOOKS = (5, 8, 12, 18, 27, 40, MOST_UNTIL)
"""Runs of each mode after which ``--until`` asks whether they are enough.

Few looks, further and further apart: each of them could be the one at which chance speaks.
"""
"""More repetitions would be days of runs of no length at all."""
LOG_LEVELS = ("ERROR", "WARNING", "BENCH", "TEST", "INFO", "DEBUG")


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


class Why(StrEnum):
    """Whether runs are traced, beside those that are measured or instead of them, and how deep."""

    AFTER = "after"
    ONLY = "only"
    NATIVE = "native"
    ONLY_NATIVE = "only-native"

    @property
    def only(self) -> bool:
        """Whether traced runs are all there are."""
        return self in (Why.ONLY, Why.ONLY_NATIVE)

    @property
    def native(self) -> bool:
        """Whether frames of compiled code are traced, too."""
        return self in (Why.NATIVE, Why.ONLY_NATIVE)


class General(FlagModel):
    """Where results go and how often things are done."""

    repeat: Annotated[int, Flag("--repeat", "runs of each mode", "N")] = Field(
        default=1, gt=0, le=MOST_REPEAT
    )
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
    ] = Field(default=0.01, ge=0.001, le=MOST_SECONDS)
    start_timeout: Annotated[
        float,
        Flag("--start-timeout", "seconds services, then workers, may take to be ready", "SECONDS"),
    ] = Field(default=120.0, gt=0, le=MOST_SECONDS)
    run_timeout: Annotated[
        float | None,
        Flag(
            "--run-timeout",
            "seconds one run may take, phases around it included; 0: for ever (default: two"
            " minutes and five times what the flags let expect)",
            "SECONDS",
        ),
    ] = Field(default=None, ge=0, le=MOST_SECONDS)
    inside_interval: Annotated[
        float | None,
        Flag(
            "--inside-interval",
            "seconds between two readings inside a container, or of a worker (default: 0.1; with"
            " more than six containers longer, so that all together read sixty times a second)",
            "SECONDS",
        ),
    ] = Field(default=None, ge=0.01, le=MOST_SECONDS)
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
    ] = Field(default=0, ge=0, le=MOST_REPEAT)
    baseline_window: Annotated[
        float,
        Flag(
            "--baseline-window",
            "seconds for which memory must be flat before a run starts; 0: do not wait",
            "SECONDS",
        ),
    ] = Field(default=0.1, ge=0, le=MOST_SECONDS)
    baseline_bound: Annotated[
        int,
        Flag(
            "--baseline-bound",
            "most that all containers together may differ within that time",
            "BYTES",
            size=True,
        ),
    ] = Field(default=2**20, ge=0, le=MOST_BYTES)
    baseline_timeout: Annotated[
        float,
        Flag(
            "--baseline-timeout",
            "seconds after which a run starts although memory is not flat; that is written down",
            "SECONDS",
        ),
    ] = Field(default=2.0, ge=0, le=MOST_SECONDS)
    after: Annotated[
        float,
        Flag("--after", "seconds to go on sampling after each run, once trimmed", "SECONDS"),
    ] = Field(default=0.0, ge=0, le=MOST_SECONDS)
    audit_stages: Annotated[
        bool,
        Flag(
            "--audit-stages",
            "count the objects in the connector at every stage boundary, inside of the clock;"
            " warm-up runs do it anyway",
        ),
    ] = False

    why: Annotated[
        Why | None,
        Flag(
            "--why",
            "after the measured runs, or with 'only' instead of them, run each mode once more and"
            " trace who allocates what: in why/ of the run directory, and in no other figure;"
            " 'native' and 'only-native' name compiled code, too",
            choices=tuple(Why),
            bare=Why.AFTER,
        ),
    ] = None
    traced: bool = False
    """Whether these are such runs; no flag says so."""
    native: bool = False
    """Whether such runs trace frames of compiled code; no flag says so."""

    @field_validator("csv_file", "log_file")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        # Plan files and bundles come past here, too, and they may be a stranger's.
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not a file name: it goes into the run directory")
        return name


class Topology(FlagModel):
    """What only ``harness bench`` knows: containers and how they are sampled."""

    stack: Annotated[
        list[str],
        Flag(
            "--stack",
            "run other versions of packages: NAME==VERSION, a wheel, a checkout ('NAME @ DIR' or"
            " DIR), git+URL@REF, or a name in images/stacks/ (psbench); more than one adds up",
            "WORD",
            repeats=True,
        ),
    ] = Field(default=[], max_length=100)
    python: Annotated[
        str | None,
        Flag("--python", "Python of the executor's image, such as 3.11 (default: 3.13)", "VERSION"),
    ] = Field(default=None, max_length=20)
    nodes: Annotated[
        str | None,
        Flag(
            "--nodes",
            "the machines that the containers are spread over, each with an engine (TOML, see"
            " docs/cluster.md)",
            "FILE",
        ),
    ] = Field(default=None, max_length=4096)
    shared_dir: Annotated[
        str | None,
        Flag(
            "--shared-dir",
            "with --nodes: a folder that all nodes see, where the file connector keeps its objects",
            "DIR",
        ),
    ] = Field(default=None, max_length=4096)
    env: Annotated[
        list[str],
        Flag(
            "--env",
            "set a variable in the containers of a service, such as worker:MALLOC_ARENA_MAX=1",
            "SERVICE:KEY=VALUE",
            repeats=True,
        ),
    ] = Field(default=[], max_length=200)
    worker_memory_limit: Annotated[
        int | None,
        Flag(
            "--worker-memory-limit",
            "memory limit of each worker container, swap included",
            "BYTES",
            size=True,
        ),
    ] = Field(default=None, ge=32 * 2**20, le=MOST_BYTES)
    cgroup_interval: Annotated[
        float,
        Flag("--cgroup-interval", "seconds between two readings of the cgroup files", "SECONDS"),
    ] = Field(default=0.02, ge=0.005, le=MOST_SECONDS)
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
    no_report: Annotated[
        bool, Flag("--no-report", "write no report at the end ('harness report' makes one later)")
    ] = False
    isolate: Annotated[
        Isolate,
        Flag(
            "--isolate",
            "a fresh topology for each mode, for each run, or one for all",
            choices=tuple(Isolate),
        ),
    ] = Isolate.MODE
    until: Annotated[
        float | None,
        Flag(
            "--until",
            "repeat, modes taking turns, until the runs can tell a difference of this share: each"
            " mode from the first, or from --against; --repeat is then the most runs of each mode"
            " (default: 60)",
            "SHARE",
            share=True,
        ),
    ] = Field(default=None, gt=0, le=10)
    budget: Annotated[
        float | None,
        Flag("--budget", "with --until: most minutes that runs may take", "MINUTES"),
    ] = Field(default=None, gt=0, le=MOST_SECONDS / 60)
    against: Annotated[
        str | None,
        Flag("--against", "with --until: the run directory that the runs are compared with", "DIR"),
    ] = None

    @field_validator("env")
    @classmethod
    def _variables(cls, words: list[str]) -> list[str]:
        for word in words:
            service_variable(word)
        return words


_VARIABLE = re.compile(r"([a-z][a-z0-9_-]{0,40}):([A-Za-z_][A-Za-z0-9_]{0,99})=(.{0,1000})")


def service_variable(word: str) -> tuple[str, str, str]:
    """Return service, variable and value of a word of ``--env``.

    Raises:
        ValueError: one line, if it is none.
    """
    found = _VARIABLE.fullmatch(word)
    if found is None:
        raise ValueError(
            f"{word[:80]!r} is not SERVICE:KEY=VALUE, such as worker:OMP_NUM_THREADS=1"
        )
    service, key, value = found.groups()
    if key.startswith("HARNESS_"):
        raise ValueError(f"{key}: variables of the harness are not for others to set")
    return service, key, value
