"""What ``harness bench --dry-run`` prints."""

from __future__ import annotations

from datetime import timedelta

from harness.core.text import format_size
from harness.plan import Plan
from harness.plan.estimate import run_timeout_s
from harness.topology.ahead import Ahead, compose_command

_RUNS_SHOWN = 20


def dry_run_text(plan: Plan, ahead: Ahead) -> str:
    """Return images, compose commands, runs, and what the plan is predicted to need."""
    estimate = ahead.estimate
    services = ", ".join(f"{name} x {count}" for name, count in ahead.services.items())
    limit_s = run_timeout_s(plan)
    lines = [
        f"Images: {', '.join(ahead.images)}",
        f"Containers in a topology: {estimate.containers} ({services})",
        f"Topologies: {len(ahead.places)}, for each:",
        f"  {compose_command(ahead, '<project>', 'up', '--detach', '--wait')}",
        f"  {compose_command(ahead, '<project>', 'down', '--volumes', '--timeout', '0')}",
        f"Runs: {plan.run_count}",
        *_runs(plan, ahead),
        f"Predicted peak memory: {format_size(estimate.peak_bytes)}"
        f" (most in the connector: {format_size(estimate.store_bytes)})",
        f"Predicted duration: {_duration(estimate.total_s)}"
        f" ({_duration(estimate.run_s)} for each run)",
        f"Predicted disk: {format_size(estimate.disk_bytes)} in {plan.general.run_dir}",
        f"A run is given up after: {_duration(limit_s) if limit_s else 'never'}",
    ]
    return "\n".join(lines)


def _runs(plan: Plan, ahead: Ahead) -> list[str]:
    runs = plan.runs()
    of_place = {place: number for number, places in enumerate(ahead.places, 1) for place in places}
    lines = [
        f"  {run.run_id} in topology {of_place[place]}"
        for place, run in enumerate(runs[:_RUNS_SHOWN])
    ]
    more = len(runs) - _RUNS_SHOWN
    return [*lines, f"  ... and {more} more"] if more > 0 else lines


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
