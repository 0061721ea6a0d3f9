"""Whether a plan may start here: asked alike by bench, its resumption, reproduce and calibrate.

Nothing has been started or written by then. ``doctor`` reads the same and tells all of it.
"""

from __future__ import annotations

from pathlib import Path

from harness.analysis.grades import Grade
from harness.core.errors import InfrastructureError, UsageError
from harness.plan import Plan
from harness.topology import checks, doctor, nodes
from harness.topology.ahead import available_bytes, look_ahead
from harness.topology.checks import Verdict
from harness.topology.compose import plan_files, services
from harness.topology.engine import connect, describe

_MATTERS = ("clock", "swap", "huge pages", "other load")


def admit(plan: Plan, run_dir: Path | str) -> list[str]:
    """Refuse a plan that cannot work here, or that this machine has not got enough for.

    Args:
        plan: with a topology; from flags, a bench file or a bundle.
        run_dir: where the run directory is or is going to be.

    Returns:
        What makes figures worse, one line each.

    Raises:
        UsageError: if the plan cannot work anywhere, or is predicted not to fit in memory and not
            forced.
        InfrastructureError: if a bench cannot work here.
    """
    assert plan.topology is not None
    plan.check()
    _refuse_ignored(plan)
    nodes.read_nodes(plan, plan_files(plan))
    place = doctor.existing(run_dir)
    client = connect()
    engine = describe(client)
    if plan.topology.worker_memory_limit is not None and not engine.limits_and_counts:
        raise InfrastructureError(
            f"--worker-memory-limit: {engine} limits nothing on cgroup v{engine.cgroup_version}:"
            " boot with cgroup v2, or leave the flag out"
        )
    ahead = look_ahead(plan)
    needs = ahead.estimate
    available = available_bytes(client, engine.memory_bytes, place)
    memory = checks.memory(available, needs.peak_bytes)
    if memory.verdict == Verdict.FAIL and not plan.topology.force:
        raise UsageError(
            f"memory: {memory.found}: smaller payloads (--stage-bytes-sizes), fewer tasks"
            " (--stage-task-counts) or workers, or --force to start it all the same"
        )
    found = [
        checks.api(engine.api_version),
        checks.compose(doctor.compose_version()),
        # Whether it can be written is told when the run directory is made.
        checks.disk("run directory", doctor.free_bytes(place), needs.disk_bytes),
        doctor.descriptors(ahead),
        *doctor.of_this_machine(),
    ]
    for check in found:
        if check.verdict == Verdict.FAIL:
            raise InfrastructureError(f"{check.name}: {check.found}: {check.remedy}")
    return [
        f"{_matters(check.name)}: {check.name}: {check.found}: {check.remedy}"
        for check in found
        if check.verdict == Verdict.WARN
    ]


def _matters(name: str) -> Grade:
    """Return whether a warning about this machine concerns the figures, or only the way there."""
    return Grade.SUSPICIOUS if name in _MATTERS else Grade.FINE


def _refuse_ignored(plan: Plan) -> None:
    """Refuse a flag about containers that this topology has not got."""
    assert plan.topology is not None
    if plan.topology.shared_dir is not None and plan.topology.nodes is None:
        raise UsageError("--shared-dir is of --nodes: name the nodes, or leave it out")
    if plan.topology.worker_memory_limit is None or "worker" in services(plan_files(plan)):
        return
    raise UsageError(
        "--worker-memory-limit: here the workers are in the runner's container, which has no"
        " limit; choose an executor with worker containers"
    )
