"""Which runs share a topology, and which warm-ups come before them (pure)."""

from __future__ import annotations

from collections.abc import Sequence, Set

from harness.plan import Isolate, Plan, Run
from harness.plan.options import LOOKS


def topologies(plan: Plan) -> list[range]:
    """Return the places in ``plan.runs()`` that share a topology, one range for each topology.

    Under ``mode`` runs of a mode share one as long as they follow each other. None goes beyond the
    number of runs after which ``--until`` looks.
    """
    isolate = Isolate.NONE if plan.topology is None else plan.topology.isolate
    runs = plan.runs()
    starts = [0]
    stops = {len(plan.workload.modes) * look for look in looks(plan)}
    for place in range(1, len(runs)):
        new_mode = runs[place].mode != runs[place - 1].mode
        fresh = isolate == Isolate.RUN or (isolate == Isolate.MODE and new_mode)
        if fresh or place in stops:
            starts.append(place)
    return [range(*ends) for ends in zip(starts, [*starts[1:], len(runs)], strict=True)]


def looks(plan: Plan) -> list[int]:
    """Return after how many runs of each mode ``--until`` looks; the last one is the plan's end."""
    if plan.topology is None or plan.topology.until is None:
        return []
    most = plan.general.repeat
    return [*(look for look in LOOKS if look < most), most]


def remaining(plan: Plan, done: Set[str]) -> list[range]:
    """Return the same for those runs alone that are not ``done``, which split a range."""
    runs = plan.runs()
    found: list[range] = []
    for places in topologies(plan):
        start: int | None = None
        for place in (*places, places.stop):
            open_ = place < places.stop and runs[place].run_id not in done
            if open_ and start is None:
                start = place
            elif not open_ and start is not None:
                found.append(range(start, place))
                start = None
    return found


def with_warm_ups(runs: Sequence[Run], number: int) -> list[Run]:
    """Return the runs of one topology with ``number`` warm-ups before the first of each mode."""
    found: list[Run] = []
    seen: set[str] = set()
    for run in runs:
        if run.mode not in seen:
            seen.add(run.mode)
            found.extend(_warm_up(run, repetition) for repetition in range(1, number + 1))
        found.append(run)
    return found


def _warm_up(run: Run, repetition: int) -> Run:
    return Run(
        run_id=f"warm-up-{repetition}-of-{run.run_id}",
        mode=run.mode,
        repetition=repetition,
        warm_up=True,
    )
