"""Measure a package's releases, one beside the other, and name those with which memory changed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from harness.analysis.grades import warning
from harness.analysis.history import History, require_same_work
from harness.analysis.identity import packages, plan_differences, version_of
from harness.analysis.quality import write_quality
from harness.analysis.readers import read_session
from harness.analysis.session import Session
from harness.analysis.verdicts import Rules
from harness.cli._parser import Parser
from harness.cli._traced import refuse
from harness.cli.compare import add_threshold
from harness.core.errors import HarnessError, InfrastructureError, UsageError
from harness.images import recipe
from harness.images.releases import LATEST, Chosen, Every, choose, released
from harness.images.resolve import supported
from harness.images.variant import kept_words, normal
from harness.images.variant import versions as locked
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.options import Isolate, Order
from harness.report.history import DOCUMENT, SCHEMA_VERSION, Asked, terminal, write_history
from harness.report.progress import Progress
from harness.results.directory import RunDirectory, absolute
from harness.results.documents import read_document, write_json
from harness.topology import ownership
from harness.topology.admission import admit
from harness.topology.compose import image_stacks, plan_files
from harness.topology.launch import variant_of
from harness.topology.resume import only_bench_of
from harness.topology.sides import Side, benches, earlier_side, images_of, new_side
from harness.topology.turns import Turns

_PAGE_ONLY = "--page-only"
_THRESHOLD = "changes up to this are none"
# The fewest runs of two versions that differ in all of them with a p of 0.1 %.
_REPEAT = 6


@dataclass
class _Record:
    """What ``history.json`` has of a history's plan, beside what was measured.

    Attributes:
        package: whose releases these are.
        plan: as JSON; empty where directories from elsewhere are read.
        more: the words that each version gets, too, and what was asked for last.
        skipped: version -> why it could not be measured.
        left_out: one line on releases that were not tried; empty if there are none.
    """

    package: str
    plan: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what is written of it."""
        return {**self.more, "plan": self.plan} if self.plan else self.more

    def write(self, place: Path) -> None:
        """Write it, before anything is measured."""
        known = {"schema_version": SCHEMA_VERSION, "package": self.package}
        write_json(place / DOCUMENT, {**known, **self.facts(), "skipped": self.skipped})


def main(argv: Sequence[str]) -> int:
    """Parse, measure what is missing, print the table, write the page."""
    if any(word.partition("=")[0] == _PAGE_ONLY for word in argv):
        return _page_only(argv)
    parser = _parser()
    plan = parse_plan(parser, argv, containers=True)
    refuse(plan, "history")
    args, _ = parser.parse_known_args(argv)
    assert plan.topology is not None
    for flag in ("until", "against"):
        if getattr(plan.topology, flag) is not None:
            raise UsageError(f"--{flag}: every version gets as many runs: use --repeat")
    name = _package(args.package, plan)
    place = absolute(getattr(args, "run_dir", f"runs/history-{name}"))
    record = _earlier(place, name, plan)
    every = Every(args.every)
    chosen = choose(name, released(name), (args.first, args.last), every, supported(name))
    record.more = {"from": args.first, "to": args.last, "every": args.every}
    record.more["with"] = list(plan.topology.stack)
    warnings = admit(plan, place)
    _make(place, record)
    with only_bench_of(place, "--run-dir"):
        for line in warnings:
            _say(line)
        record.left_out = _left_out(name, chosen)
        if record.left_out:
            _say(record.left_out)
        versions = [str(version) for version in chosen.versions]
        failure: HarnessError | None = None
        try:
            _measure(place, plan, record, versions)
        except HarnessError as error:
            # What did go through can still be shown.
            failure = error
        ownership.give_to_user(place, ownership.current_owner())
        try:
            _conclude(place, record, Rules(args.threshold), versions)
        except UsageError as error:
            raise failure or error from None
    if failure is not None:
        raise failure
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="harness history",
        usage="harness history [PLAN.toml] --stack PACKAGE --from VERSION [FLAG...]",
        description=__doc__,
        allow_abbrev=False,
        # Two flags of a plan mean something of their own here.
        conflict_handler="resolve",
        example="harness history plan.toml --stack dask --from 2024.3 --to latest",
        epilog="The same command goes on where it was ended, and adds releases that are new."
        " harness history --page-only DIR... makes the page again, without containers.",
    )
    group = parser.add_argument_group("whose history")
    add_plan_flags(parser, containers=True)
    group.add_argument(
        "--stack",
        dest="package",
        required=True,
        metavar="PACKAGE",
        help="the package, such as dask, without a version",
    )
    group.add_argument(
        "--from", dest="first", required=True, metavar="VERSION", help="the oldest release"
    )
    group.add_argument(
        "--to",
        dest="last",
        default=LATEST,
        metavar="VERSION",
        help="the newest release; 2025.4 is 2025.4.1, too (default: latest)",
    )
    group.add_argument(
        "--every",
        choices=[str(every) for every in Every],
        default=str(Every.MINOR),
        help="the newest patch release of each minor version, or all (default: minor)",
    )
    group.add_argument(
        "--with",
        dest="stack",
        nargs="+",
        action="extend",
        metavar="WORD",
        # As all flags of a plan: what was not given is not there.
        default=argparse.SUPPRESS,
        help="what every version gets, too: what --stack takes in 'harness bench'",
    )
    group.add_argument(
        "--run-dir",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the directory of this history, new or an earlier one's; a run directory for each"
        " version is made in it (default: runs/history-PACKAGE)",
    )
    add_threshold(group, _THRESHOLD)
    group.add_argument(
        _PAGE_ONLY,
        nargs="+",
        metavar="DIR",
        help="measure nothing: make the page of a history, or of run directories (with --output)",
    )
    parser.set_defaults(repeat=_REPEAT, isolate=Isolate.RUN, order=Order.INTERLEAVED)
    return parser


def _package(word: str, plan: Plan) -> str:
    """Return the name of the package; refuse what is none, or what no image has."""
    root = recipe.repository_root()
    name = normal(word)
    if not name.replace("-", "").isalnum() or kept_words(root, word) != [word]:
        raise UsageError(
            f"--stack {word}: name a package without a version, such as dask; --from and --to say"
            " which releases, and --with takes all other words"
        )
    stacks = list(dict.fromkeys(image_stacks(plan_files(plan)).values()))
    files = [root / "images" / stack / "requirements.lock" for stack in stacks]
    if not any(name in locked(file.read_bytes()) for file in files if file.is_file()):
        raise UsageError(
            f"--stack {word}: no image of this plan has it ({', '.join(stacks)}): name a package of"
            " its executor or connector"
        )
    return name


def _earlier(place: Path, name: str, plan: Plan) -> _Record:
    """Return what the directory holds already; refuse what is no history, or another one."""
    now = plan.model_dump(mode="json")
    if not (place / DOCUMENT).exists():
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(
                f"--run-dir {place}: holds no {DOCUMENT} of a history: name a new directory"
            )
        return _Record(name, now)
    found = _read(place)
    other = [str(d) for d in plan_differences(found.plan, now)]
    if found.package != name:
        other = [f"--stack {found.package}, {name}"]
    if other:
        said = "; ".join(other).replace("--stack:", "--with:")
        raise UsageError(
            f"--run-dir {place}: holds the history of another plan ({said}): give the same flags,"
            " or name another directory"
        )
    return found


def _read(place: Path) -> _Record:
    found, wrong = read_document(place / DOCUMENT)
    if not found:
        raise UsageError(wrong[0] if wrong else f"{place}: holds no {DOCUMENT}")
    more: dict[str, Any] = {
        key: found[key] for key in ("from", "to", "every", "with") if key in found
    }
    return _Record(found["package"], found.get("plan") or {}, more, found.get("skipped") or {})


def _make(place: Path, record: _Record) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        record.write(place)
    except OSError as error:
        raise UsageError(
            f"--run-dir {place}: cannot write there ({error.strerror}); name a directory you can"
            " write to"
        ) from None


def _left_out(name: str, chosen: Chosen) -> str:
    """Return a line on the releases that the harness does not run with."""
    if not chosen.left_out:
        return ""
    ends = " to ".join(dict.fromkeys(str(v) for v in (chosen.left_out[0], chosen.left_out[-1])))
    return (
        f"Left out: {name} {ends} ({len(chosen.left_out)}): the harness runs with"
        f" {name}{supported(name)}."
    )


# --- measuring --------------------------------------------------------------------------------


def _measure(place: Path, plan: Plan, record: _Record, versions: Sequence[str]) -> None:
    """Do the runs that are missing; versions take turns."""
    sides = []
    for version in versions:
        record.skipped.pop(version, None)
        try:
            side = _side(place / version, plan, record.package, version)
        except (UsageError, InfrastructureError) as error:
            # The engine answered a moment ago: this is the version's own fault, or the index's.
            record.skipped[version] = str(error)
            _say(f"{version}: skipped: {error}")
            continue
        if side is not None:
            sides.append(side)
    record.write(place)
    if not sides:
        return
    with ExitStack() as stack:
        total = sum(side.plan.run_count for side in sides)
        progress = stack.enter_context(Progress(total, sys.stderr))
        taking = benches(sides, progress.say, progress.done)
        try:
            Turns(taking, plan.workload.seed, lambda: False).run()
        finally:
            for side in sides:
                with suppress(HarnessError, OSError):
                    write_quality(side.directory)


def _side(path: Path, plan: Plan, package: str, version: str) -> Side | None:
    """Make a version ready to be measured; None if all of its runs are there.

    Raises:
        UsageError, InfrastructureError: if the version cannot be had, in one line.
    """

    def say(line: str) -> None:
        _say(f"{version}: {line}")

    if RunDirectory(path).bench.is_file():
        side, done = earlier_side(version, path, say)
        return side if done < side.plan.run_count else None
    assert plan.topology is not None
    words = {"stack": [*plan.topology.stack, f"{package}=={version}"]}
    own = plan.model_copy(update={"topology": plan.topology.model_copy(update=words)})
    variant = variant_of(own, say)
    return new_side(version, path, own, variant, images_of(own, variant, say))


# --- showing ----------------------------------------------------------------------------------


def _page_only(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness history", allow_abbrev=False)
    parser.add_argument(_PAGE_ONLY, dest="places", nargs="+", metavar="DIR", type=Path)
    parser.add_argument("--stack", dest="package", metavar="PACKAGE")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path)
    add_threshold(parser, _THRESHOLD)
    args = parser.parse_args(argv)
    places: list[Path] = args.places
    of_history = [place for place in places if (place / DOCUMENT).is_file()]
    if len(places) == 1 and of_history:
        record = _read(places[0])
        _conclude(places[0], record, Rules(args.threshold), [], output=args.output)
        return 0
    if args.output is None:
        raise UsageError("--output: needed with run directories: name a directory for the page")
    record = _Record(args.package or (_read(of_history[0]).package if of_history else ""))
    runs = [each for place in places for each in _runs_in(place)]
    found = [read_session(path) for path in runs]
    # Of the packages that differ, the one that says most is the first.
    differing = [package.name for package in packages(found)]
    record.package = record.package or next(iter(differing), "versions")
    sessions = _by_version(record.package, found)
    _show(args.output, record, Rules(args.threshold), list(sessions), sessions)
    return 0


def _runs_in(place: Path) -> list[Path]:
    """Return the run directories of a history; of another directory, itself."""
    if not (place / DOCUMENT).is_file():
        return [place]
    return [path for path in sorted(place.iterdir()) if RunDirectory(path).outcomes.is_file()]


def _by_version(package: str, sessions: Sequence[Session]) -> dict[str, Session]:
    """Return sessions by the version they had of a package, or that they are named by."""
    found: dict[str, Session] = {}
    for session in sessions:
        version = version_of(session, package) or session.path.name
        try:
            Version(version)
        except InvalidVersion:
            raise UsageError(
                f"{session.path}: of which version is it? Neither its name nor its manifest says:"
                " --stack PACKAGE names the package"
            ) from None
        if version in found:
            raise UsageError(
                f"{session.path}: is of {version}, as {found[version].path} is: name one of them"
            )
        found[version] = session
    return dict(sorted(found.items(), key=lambda item: Version(item[0])))


def _conclude(
    place: Path,
    record: _Record,
    rules: Rules,
    versions: Sequence[str],
    output: Path | None = None,
) -> None:
    """Show all that a history's directory holds: these versions and those of earlier calls."""
    sessions = {}
    for path in _runs_in(place):
        try:
            Version(path.name)
            sessions[path.name] = read_session(path)
        except InvalidVersion:
            continue
        except UsageError as error:
            record.skipped.setdefault(path.name, str(error))
    everything = {*sessions, *record.skipped, *versions}
    _show(output or place, record, rules, sorted(everything, key=Version), sessions)


def _show(
    output: Path,
    record: _Record,
    rules: Rules,
    versions: Sequence[str],
    sessions: Mapping[str, Session],
) -> None:
    if not sessions:
        reason = next(iter(record.skipped.values()), "no run went through")
        raise UsageError(f"no version of {record.package} was measured: {reason}")
    require_same_work(record.package, list(sessions.values()))
    named = [
        replace(sessions[version], label=version) if version in sessions else None
        for version in versions
    ]
    for session in named:
        for line in session.problems if session is not None else ():
            print(warning(line), file=sys.stderr)
    history = History(record.package, tuple(versions), tuple(named), rules)
    skipped = {each: why for each, why in record.skipped.items() if each not in sessions}
    asked = Asked(record.facts(), skipped, record.left_out)
    print(terminal(history, asked))
    print(f"\nPage: {write_history(output, history, asked)}")


def _say(line: str) -> None:
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
