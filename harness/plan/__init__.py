"""From flags to a validated plan: all runs of one invocation, in order.

The spelling, meaning and defaults of the reference's flags (psbench 0.2) are kept; what is
ours is added beside them.
"""

from harness.plan.options import LOG_LEVELS, General, Isolate, Order, Topology
from harness.plan.parse import add_plan_flags, parse_plan, plan_from_args
from harness.plan.plan import Plan, Run
from harness.plan.workload import Mode, Workload, workloads

__all__ = [
    "LOG_LEVELS",
    "General",
    "Isolate",
    "Mode",
    "Order",
    "Plan",
    "Run",
    "Topology",
    "Workload",
    "add_plan_flags",
    "parse_plan",
    "plan_from_args",
    "workloads",
]
