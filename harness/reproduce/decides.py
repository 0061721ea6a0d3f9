"""Who decides what when a bundle is run again: its plan, or whoever runs it.

A bundle's plan may be anybody's. What the figures mean is the plan's to say: executor, connector,
workload, in which order runs are done, how they are isolated and sampled. What it costs this
machine and its user is the reader's. ``docs/reproduce.md`` has the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from harness.core.errors import UsageError
from harness.core.flags import from_args
from harness.plan import General, Plan, Topology
from harness.plan.workload import FlagModel

READERS: Mapping[type[FlagModel], tuple[str, ...]] = {
    General: ("repeat", "run_dir", "start_timeout", "run_timeout", "why"),
    Topology: (
        "force",
        "keep",
        "fail_fast",
        "no_report",
        "until",
        "budget",
        "against",
        "nodes",
        "shared_dir",
    ),
}
"""What only the command line decides; where it says nothing, as in a bench without the flag."""

BUNDLES: Mapping[type[FlagModel], tuple[str, ...]] = {
    General: (
        "csv_file",
        "log_level",
        "log_file",
        "log_file_level",
        "memory_profile_interval",
        "inside_interval",
        "order",
        "warmup",
        "baseline_window",
        "baseline_bound",
        "baseline_timeout",
        "after",
        "audit_stages",
        "traced",
        "native",
    ),
    Topology: ("stack", "python", "env", "worker_memory_limit", "cgroup_interval", "isolate"),
}
"""What the plan decides, beside all of executor, connector and workload."""

MOST_UNASKED = 1000
"""Runs that a bundle may have without ``--repeat``."""

_M = TypeVar("_M", bound=FlagModel)


def readers_plan(plan: Plan, given: Mapping[str, Any]) -> Plan:
    """Return a bundle's plan with what its reader decides.

    Args:
        plan: the bundle's, with a topology.
        given: parsed flags: those of ``READERS`` that were given.

    Raises:
        UsageError: if a flag is wrong, the plan has more runs than anybody expects and no
            ``--repeat`` was given, or it asks for a login of the reader's.
    """
    assert plan.topology is not None
    if plan.executor.lends_login:
        raise UsageError(
            "its plan wants a login of yours, and its images may be anybody's: 'harness bench'"
            " runs it on images of your own"
        )
    if "repeat" not in given:
        if plan.run_count > MOST_UNASKED:
            raise UsageError(
                f"its plan has {plan.run_count} runs, more than {MOST_UNASKED}: choose how often"
                " each mode is run with --repeat"
            )
        given = {**given, "repeat": plan.general.repeat}
    return plan.model_copy(
        update={
            "general": _decided(plan.general, given),
            "topology": _decided(plan.topology, given),
        }
    )


def _decided(published: _M, given: Mapping[str, Any]) -> _M:
    model = type(published)
    kept = {name: getattr(published, name) for name in BUNDLES[model]}
    return from_args(model, given, **kept)
