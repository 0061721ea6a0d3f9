"""From a command line to a validated plan."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from harness.connectors import connectors
from harness.core.errors import UsageError
from harness.core.flags import Parser, add_flags, from_args
from harness.executors import executors
from harness.plan.options import MOST_UNTIL, General, Order, Topology
from harness.plan.plan import Plan
from harness.plan.workload import Workload


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
    if given.get("until") is not None:
        given = {"repeat": MOST_UNTIL, "order": Order.INTERLEAVED} | given
    plan = Plan(
        executor_name=args.executor,
        executor=from_args(executors.get(args.executor), given),
        connector_name=args.ps_connector,
        connector=connectors.get(args.ps_connector).from_flags(given, containers=containers),
        workload=from_args(Workload, given),
        general=from_args(General, given),
        topology=from_args(Topology, given) if containers else None,
    )
    plan.check()
    return plan


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
