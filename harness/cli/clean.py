"""Remove what benches that have ended left: containers, networks, volumes, cgroups, files."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from harness.cli._parser import Parser
from harness.core.errors import InfrastructureError, UsageError
from harness.topology import leftovers
from harness.topology.engine import connect
from harness.topology.leftovers import Leftover, Site
from harness.topology.records import State

_WAIT_S = 15.0
_POLL_S = 0.1


def main(argv: Sequence[str]) -> int:
    """Parse, find, remove, print."""
    parser = Parser(
        prog="harness clean",
        description=__doc__,
        example="harness clean --dry-run",
    )
    parser.add_argument(
        "projects",
        nargs="*",
        metavar="PROJECT",
        help="remove these alone, also if another machine started them; by default all that"
        " belong to benches of this machine which have ended",
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be removed")
    parser.add_argument(
        "--wait", action="store_true", help="wait for the end of the benches of these projects"
    )
    args = parser.parse_args(argv)
    connect().close()
    if args.wait:
        _wait(args.projects)
    failed: list[str] = []
    with leftovers.sites(_warn) as (sites, silent):
        found = _everywhere(sites)
        if args.wait:
            known = {entry.project for entry in found}
            found += [Leftover(project) for project in args.projects if project not in known]
        chosen = _chosen(found, args.projects)
        for entry in chosen:
            _print(entry, "would be removed" if args.dry_run else "removed")
            if not args.dry_run:
                keep_note = entry.project in silent
                failed += leftovers.remove_everywhere(sites, entry.project, keep_note=keep_note)
    if not args.projects:
        _print_others(found)
    if not chosen:
        print("Nothing is left of benches that have ended.")
    if failed:
        raise InfrastructureError(f"could not be removed: {', '.join(failed)}")
    return 0


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def _everywhere(sites: Sequence[Site]) -> list[Leftover]:
    """Return what all engines know of, those of other machines after their names."""
    whole: dict[str, Leftover] = {}
    for site in [*sites[-1:], *sites[:-1]]:
        at = f" at {site.said}" if site.said else ""
        for entry in leftovers.find(site.client, site.tree):
            known = whole.setdefault(entry.project, entry)
            if known is entry:
                if not at:
                    continue
                known, names = Leftover(entry.project, entry.state, entry.record), entry
                whole[entry.project] = known
            else:
                names = entry
            for kind in ("containers", "networks", "volumes", "cgroups"):
                getattr(known, kind).extend(f"{name}{at}" for name in getattr(names, kind))
            if known.state == State.UNKNOWN:
                known.state = names.state
    return list(whole.values())


def _chosen(found: Sequence[Leftover], projects: Sequence[str]) -> list[Leftover]:
    if not projects:
        return [entry for entry in found if entry.state == State.ENDED]
    by_project = {entry.project: entry for entry in found}
    chosen = []
    for project in dict.fromkeys(projects):
        entry = by_project.get(project)
        if entry is None:
            raise UsageError(f"{project}: nothing is left of it ('harness clean --dry-run' lists)")
        if entry.state == State.RUNNING:
            raise UsageError(f"{project}: its bench still runs; end that first (Ctrl-C there)")
        chosen.append(entry)
    return chosen


def _wait(projects: Sequence[str]) -> None:
    """Wait until none of these projects' benches runs, or the time is up."""
    client = connect()
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        found = leftovers.find(client)
        if not any(e.state == State.RUNNING for e in found if e.project in projects):
            return
        time.sleep(_POLL_S)


def _print(entry: Leftover, what: str) -> None:
    place = f" (run directory {entry.run_dir})" if entry.run_dir else ""
    print(f"{entry.project}{place}")
    for thing in entry.things() or ["a note"]:
        print(f"  {thing}: {what}")


def _print_others(found: Sequence[Leftover]) -> None:
    for entry in found:
        if entry.state == State.RUNNING:
            print(f"{entry.project}: stays: its bench runs")
        elif entry.state == State.UNKNOWN:
            print(
                f"{entry.project}: stays: from here it cannot be told whether its bench runs;"
                f" 'harness clean {entry.project}' removes it",
                file=sys.stderr,
            )
