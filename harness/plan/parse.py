"""From a command line to a validated plan."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from harness.connectors import connectors
from harness.core.errors import UsageError
from harness.core.flags import Parser, add_flags, add_flags_to, flags_of, from_args
from harness.executors import executors
from harness.plan import file as plan_file
from harness.plan.options import MOST_UNTIL, General, Isolate, Order, Topology
from harness.plan.plan import DEFAULT_WORKLOAD, Plan
from harness.plan.workload import Workload, workloads

_WRITE = "--write-plan"


def add_plan_flags(parser: Parser, *, containers: bool) -> None:
    """Add every flag of a plan to a parser, which then takes a plan file, too.

    Args:
        parser: the command's parser.
        containers: whether the plan gets a topology (``harness bench``).
    """
    files = parser.add_argument_group(
        "plan file",
        f"A word that ends in {plan_file.ENDING} names a file that holds flags by their names"
        ' (repeat = 3, stage-bytes-sizes = ["1MB", "1MB"]). Flags beside it override the file.',
    )
    files.add_argument(
        _WRITE,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write the plan file of this command line and start nothing; - is the terminal",
    )
    others = set(parser._option_string_actions)
    _add_flags(parser, containers=containers)
    parser.foldable = {
        option[2:]: action
        for option, action in parser._option_string_actions.items()
        if option not in others
    }
    parser.unfold = partial(_unfold, parser)


def needed_flags(words: Sequence[str]) -> list[str]:
    """Return the flags that the workload of a command line needs; of an unknown one none."""
    name, before = DEFAULT_WORKLOAD, ""
    for word in words:
        if before == "--workload" or word.startswith("--workload="):
            name = word.removeprefix("--workload=")
        before = word
    if name not in workloads.names():
        return []
    model = workloads.get(name)
    flags = flags_of(model)
    return [flag.name for field, flag in flags.items() if model.model_fields[field].is_required()]


def _unfold(parser: Parser, argv: Sequence[str]) -> tuple[list[str], AbstractContextManager[None]]:
    """Return a command line with the flags of its plan file in front, and who names the file."""
    path, words = plan_file.file_of(parser, argv)
    if path is None:
        return words, nullcontext()
    file = plan_file.PlanFile.read(path).without(plan_file.given(words))
    if file.sweep is not None:
        raise UsageError(
            f"{path}: [{plan_file.SWEEP}]: is for 'harness sweep {path}'; for one plan leave it out"
        )
    return [*file.words(parser.foldable), *words], file.named()


def _add_flags(parser: Parser, *, containers: bool) -> None:
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
    group = parser.add_argument_group("workload")
    group.add_argument(
        "--workload",
        choices=workloads.names(),
        default=argparse.SUPPRESS,
        help=f"what is run (default: {DEFAULT_WORKLOAD})",
    )
    add_flags_to(group, [Workload])
    for name, workload in workloads:
        add_flags(parser, f"workload {name}", [workload])
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
    name = given.get("workload", DEFAULT_WORKLOAD)
    _refuse_others(name, given)
    executor = executors.get(args.executor)
    if containers and executor.keeps_memory:
        given = {"isolate": Isolate.RUN} | given
    plan = Plan(
        executor_name=args.executor,
        executor=from_args(executor, given),
        connector_name=args.ps_connector,
        connector=connectors.get(args.ps_connector).from_flags(given, containers=containers),
        workload_name=name,
        workload=workloads.get(name).from_flags(given),
        general=from_args(General, given),
        topology=from_args(Topology, given) if containers else None,
    )
    plan.check()
    return plan


def _refuse_others(name: str, given: Mapping[str, Any]) -> None:
    """Refuse the flags of another workload: they would change nothing."""
    own = {flag.dest for flag in flags_of(workloads.get(name)).values()}
    for other, workload in workloads:
        for flag in flags_of(workload).values():
            if flag.dest in given and flag.dest not in own:
                raise UsageError(f"{flag.name}: is for --workload {other}, and this one is {name}")


def parse_plan(parser: Parser, argv: Sequence[str], *, containers: bool) -> Plan:
    """Parse a command line into a plan; ``--write-plan`` ends the command here, as --help does.

    Raises:
        UsageError: as :func:`plan_from_args`, and for unknown flags and wrong plan files.
    """
    words, named = parser.unfold(argv) if parser.unfold else (list(argv), nullcontext())
    with named:
        args, unknown = parser.parse_known_args(words)
        if unknown:
            known = [option for action in parser._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f": did you mean {near[0]}?" if near else f" (see '{parser.prog} --help')"
            raise UsageError(f"unknown flag or value {unknown[0]!r}{hint}")
        plan = plan_from_args(args, containers=containers)
    if "write_plan" in args:
        _write(args.write_plan, plan_file.text_of(words, parser.foldable, parser.prog))
        raise SystemExit(0)
    return plan


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    if not path.endswith(plan_file.ENDING):
        raise UsageError(f"{_WRITE} {path}: the name of a plan file ends in {plan_file.ENDING}")
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{_WRITE} {path}: is there already: name a new file") from None
    except OSError as error:
        raise UsageError(f"{_WRITE} {path}: {error.strerror}") from None
    sys.stdout.write(f"wrote {path}\n")
