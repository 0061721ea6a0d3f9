"""Find the commit that changed a metric: git bisect, answered by runs in containers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from harness.analysis.compare import PRIMARY, Sample, check_name, sample
from harness.analysis.quality import write_quality
from harness.analysis.readers import read_session
from harness.cli._parser import Parser
from harness.cli._traced import explain, refuse
from harness.cli.compare import add_threshold
from harness.core.errors import UNDECIDED, HarnessError, InfrastructureError, UsageError
from harness.core.text import one_line
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.options import Isolate, Order
from harness.report.comparison import quantity
from harness.report.progress import Progress
from harness.results.directory import RunDirectory, create_named
from harness.results.documents import read_json, write_json
from harness.results.outcomes import Outcome
from harness.results.rows import OutcomeRow, read_table
from harness.topology import ownership
from harness.topology.admission import admit
from harness.topology.bisect import (
    Asked,
    Bisection,
    Failure,
    Result,
    Step,
    steps_of,
)
from harness.topology.compose import plan_files, services
from harness.topology.launch import variant_of
from harness.topology.repository import SHORT, History, Repository, Siblings
from harness.topology.resume import only_bench_of
from harness.topology.sides import Side, benches, earlier_side, images_of, new_side
from harness.topology.turns import Turns

FILE = "bisect.json"
_SCHEMA_VERSION = 1
_RESUME = "--resume"
_SIBLING = "--sibling"
# The fewest runs that, beside six of each end, are on one side by chance in 1 of 200 cases.
_REPEAT = 3
_MOST = 12
_NOT_HERE = {
    "until": "--most says when a commit has had enough runs",
    "against": "each commit is compared with both ends",
    "stack": "the commits of --repo are the stack; --with pins other packages",
    "keep": "the next commit would run beside what is kept",
}


@dataclass(frozen=True)
class _Question:
    """What a bisection was started with, all of which ``bisect.json`` keeps."""

    repository: Repository
    siblings: Siblings
    words: tuple[str, str]
    asked: Asked
    metric: str
    pins: tuple[str, ...]
    plan: Plan

    @property
    def mode(self) -> str:
        return self.plan.workload.modes[0]

    def facts(self) -> dict[str, Any]:
        good, bad = self.words
        return {
            "repo": str(self.repository.path),
            "good": {"ref": good, "commit": self.asked.good},
            "bad": {"ref": bad, "commit": self.asked.bad},
            "metric": self.metric,
            "threshold": self.asked.threshold,
            "repeat": self.asked.repeat,
            "most": self.asked.most,
            "siblings": [str(other.path) for other in self.siblings.others],
            "with": list(self.pins),
        }


def main(argv: Sequence[str]) -> int:
    """Parse, bisect, print; 0 if one commit was found, 5 if it cannot be said which it is."""
    if any(word.partition("=")[0] == _RESUME for word in argv):
        return _resume(argv)
    question = _question(argv)
    warnings = admit(question.plan, question.plan.general.run_dir)
    place = create_named(question.plan.general.run_dir, "bisect", first_file=FILE)
    repositories = question.repository.warnings(question.asked.bad)
    for other in question.siblings.of(question.asked.bad):
        repositories += other.repository.warnings(other.commit, _SIBLING)
    for line in [*warnings, *repositories]:
        _say(line)
    return _run(place, question, (), [])


def _question(argv: Sequence[str]) -> _Question:
    """Return what flags ask for; nothing has been started or written by then.

    Raises:
        UsageError: one line that names the flag and the remedy.
    """
    parser = _parser()
    add_plan_flags(parser, containers=True)
    parser.set_defaults(repeat=_REPEAT, isolate=Isolate.RUN)
    plan = parse_plan(parser, argv, containers=True)
    refuse(plan, "bisect", only=False)
    args, _ = parser.parse_known_args(argv)
    for name, why in _NOT_HERE.items():
        if getattr(plan.topology, name):
            raise UsageError(f"--{name}: leave it out: {why}")
    if len(plan.workload.modes) != 1:
        raise UsageError(
            f"--data-management {' '.join(plan.workload.modes)}: one mode decides, and each run of"
            f" another is time: name one, such as --data-management {plan.workload.modes[0]}"
        )
    check_name("--metric", args.metric, services(plan_files(plan)))
    repository = Repository.at(args.repo)
    good, bad = repository.ends(args.good, args.bad)
    asked = Asked(good, bad, plan.general.repeat, args.most, args.threshold)
    asked.check()
    siblings = _siblings(repository, args.siblings, (good, bad))
    words, pins = (args.good, args.bad), tuple(args.pins)
    return _Question(repository, siblings, words, asked, args.metric, pins, plan)


def _siblings(main: Repository, places: Sequence[str], ends: Sequence[str]) -> Siblings:
    """Return the repositories that move together with the one that is bisected.

    Raises:
        UsageError: one line that names the flag, if one of them is none, or begins too late.
    """
    siblings = Siblings(main, tuple(Repository.at(place, _SIBLING) for place in places))
    for end in ends:
        siblings.of(end)
    return siblings


def _parser() -> Parser:
    parser = Parser(
        prog="harness bisect",
        usage="harness bisect [PLAN.toml] --repo DIR --good REF --bad REF [FLAG...]",
        description=__doc__,
        allow_abbrev=False,
        example="harness bisect plan.toml --repo ../distributed --good 2025.3.0 \\\n"
        "    --bad 2025.4.0 --metric net_peak:runner",
        epilog="Exit codes: 0 one commit was found, 2 a flag is wrong or the ends do not differ, 5"
        " undecided.",
    )
    group = parser.add_argument_group("what is looked for")
    group.add_argument(
        "--repo",
        metavar="DIR",
        required=True,
        help="a git repository of a Python package that the images have; it is only read",
    )
    group.add_argument(
        "--good", metavar="REF", required=True, help="the older end: a commit, tag or branch"
    )
    group.add_argument(
        "--bad",
        metavar="REF",
        required=True,
        help="the newer end; whichever way the metric went",
    )
    group.add_argument(
        "--metric",
        metavar="METRIC[:SERVICE]",
        default=PRIMARY,
        help=f"what changed, such as net_peak:runner (default: {PRIMARY})",
    )
    add_threshold(group, "the ends must differ by more than this")
    group.add_argument(
        "--with",
        dest="pins",
        nargs="+",
        action="extend",
        default=[],
        metavar="WORD",
        help="other packages of all commits, as --stack takes them, such as dask==2025.4.0",
    )
    group.add_argument(
        _SIBLING,
        dest="siblings",
        action="append",
        default=[],
        metavar="DIR",
        help="a git repository of a package that moves together with that of --repo, such as"
        " ../dask: each commit is run with the sibling's commit of its time; once for each",
    )
    group.add_argument(
        "--most",
        type=int,
        default=_MOST,
        metavar="N",
        help=f"runs of a commit after which it is skipped if they do not say; --repeat (default:"
        f" {_REPEAT}) is how many are done at a time (default: {_MOST})",
    )
    group.add_argument(
        _RESUME,
        metavar="BISECT_DIR",
        help="go on with an earlier one; no other flags",
    )
    return parser


def _resume(argv: Sequence[str]) -> int:
    parser = Parser(prog="harness bisect", allow_abbrev=False)
    parser.add_argument(_RESUME, metavar="BISECT_DIR", required=True)
    args, others = parser.parse_known_args(argv)
    if others:
        raise UsageError(f"{_RESUME}: takes what the earlier one asked: leave out {others[0]}")
    place = Path(args.resume).absolute()
    question, ends, steps = read_bisect_file(place)
    for line in admit(question.plan, place):
        _say(line)
    return _run(place, question, ends, steps)


def read_bisect_file(place: Path) -> tuple[_Question, tuple[Step, ...], list[Step]]:
    """Return what an earlier bisection asked, its ends and its steps.

    Raises:
        UsageError: one line that names the directory, if it is not one of a bisection, or the
            repository is not what it was.
    """
    found = read_json(place / FILE) or {}
    try:
        said = found["asked"]
        refs = str(said["good"]["commit"]), str(said["bad"]["commit"])
        asked = Asked(*refs, int(said["repeat"]), int(said["most"]), float(said["threshold"]))
        plan = Plan.model_validate(found["plan"])
        ends, steps = tuple(steps_of(found["ends"])), steps_of(found["steps"])
        words = str(said["good"]["ref"]), str(said["bad"]["ref"])
        metric, pins = str(said["metric"]), tuple(map(str, said["with"]))
        where, others = str(said["repo"]), [str(each) for each in said.get("siblings", ())]
    except (ValueError, ValidationError, KeyError, TypeError):
        raise UsageError(
            f"{_RESUME} {place}: has no {FILE} of 'harness bisect': name its directory"
        ) from None
    repository = Repository.at(where)
    repository.ends(*refs)
    asked.check()
    check_name("--metric", metric, services(plan_files(plan)))
    siblings = _siblings(repository, others, refs)
    return _Question(repository, siblings, words, asked, metric, pins, plan), ends, steps


def _run(place: Path, question: _Question, ends: tuple[Step, ...], steps: list[Step]) -> int:
    asked = question.asked
    unit = check_name("--metric", question.metric, services(plan_files(question.plan))).unit
    with ExitStack() as stack:
        stack.enter_context(only_bench_of(place, "--run-dir"))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bisect-"))
        stack.callback(ownership.give_to_user, place, ownership.current_owner())
        history = History(question.repository, Path(scratch))
        runs = _Runs(place, question)
        bisection = Bisection(
            asked,
            history,
            runs,
            _print,
            lambda value: quantity(value, unit),
            lambda: _save(place, question, bisection),
            lambda commit: [str(each) for each in question.siblings.of(commit)],
            ends,
            steps,
        )
        _save(place, question, bisection)
        _say(
            f"{history.between(asked.good, asked.bad)} commits after {question.words[0]} up to"
            f" {question.words[1]}; {question.metric} in mode {question.mode} decides"
        )
        try:
            result = bisection.run()
        except (KeyboardInterrupt, HarnessError):
            _say(f"'harness bisect {_RESUME} {place}' goes on from here")
            raise
        _save(place, question, bisection, result)
        _print(f"\n{bisection.conclusion(result)}")
        if question.plan.general.why is not None:
            first, second = bisection.pair(result)
            said = runs.explained(first, second)
            _save(place, question, bisection, result, said)
            names = f"{first[:SHORT]} and {second[:SHORT]}"
            _print("\n" + "\n".join([f"Why, by one traced run of {names}:", *said]))
        if result.before:
            sides = [str(place / commit[:SHORT]) for commit in (*result.before, *result.commits)]
            _print(f"\nSee also: harness compare {' '.join(sides)}")
    _print(f"Directory: {place}")
    return 0 if result.found else UNDECIDED


def _save(
    place: Path,
    question: _Question,
    bisection: Bisection,
    result: Result | None = None,
    why: Sequence[str] = (),
) -> None:
    document: dict[str, Any] = {
        "schema_version": _SCHEMA_VERSION,
        "asked": question.facts(),
        **bisection.facts(),
        "result": None,
        "plan": question.plan.model_dump(mode="json"),
    }
    if result is not None:
        document["result"] = {
            "found": result.found,
            "commits": list(result.commits),
            "before": list(result.before),
            "share": result.share,
            "why": list(why),
        }
    write_json(place / FILE, document)


# --- runs -------------------------------------------------------------------------------------


@dataclass
class _Runs:
    """Measures commits in containers; each has a run directory, called by its short name."""

    place: Path
    question: _Question
    _mine: set[str] = field(default_factory=set)

    def __call__(self, commits: Sequence[str], runs: int) -> Mapping[str, Sample | Failure]:
        error: HarnessError | None = None
        sides: list[Side] = []
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(runs * len(commits), sys.stderr))
            for commit in commits:
                found = self._side(commit, runs, _prefixed(progress, commit))
                if isinstance(found, Failure):
                    return {commit: found}
                stack.enter_context(only_bench_of(found.directory.path, "--run-dir"))
                sides.append(found)
            taking = benches(sides, progress.say, progress.done)
            try:
                Turns(
                    [bench for bench in taking if len(bench.done()) < runs],
                    self.question.plan.workload.seed,
                    _never,
                ).run()
            except HarnessError as why:
                error = why
        return {commit: self._read(commit, runs, error) for commit in commits}

    def explained(self, first: str, second: str) -> list[str]:
        """Trace two commits that were measured; return in sentences what holds the difference."""
        sides: list[Side] = []
        with ExitStack() as stack:
            for commit in (first, second):
                found = self._side(commit, self.question.plan.general.repeat, _say)
                if isinstance(found, Failure):
                    return [f"{commit[:SHORT]} could not be traced: {found.reason}"]
                stack.enter_context(only_bench_of(found.directory.path, "--run-dir"))
                sides.append(found)
            before, after = sides
            return explain(before, after, _say)

    def _directory(self, commit: str) -> RunDirectory:
        general = self.question.plan.general
        return RunDirectory(self.place / commit[:SHORT], general.csv_file, general.log_file)

    def _side(self, commit: str, runs: int, say: Callable[[str], None]) -> Side | Failure:
        """Make a commit ready to be measured; or say why it cannot be."""
        plan, directory = _plan_of(self.question, commit, runs), self._directory(commit)
        # What cannot be built or resolved is the commit's fault.
        try:
            variant = variant_of(plan, say)
        except HarnessError as why:
            return Failure(_short(why, plan, commit))
        if directory.bench.exists() and commit not in self._mine:
            side, _ = earlier_side(commit[:SHORT], directory.path, say)
            self._mine.add(commit)
            return replace(side, plan=plan)
        try:
            images = images_of(plan, variant, say)
        except InfrastructureError as why:
            return Failure(_short(why, plan, commit), machine=True)
        self._mine.add(commit)
        return new_side(commit[:SHORT], directory.path, plan, variant, images)

    def _read(self, commit: str, runs: int, error: HarnessError | None) -> Sample | Failure:
        """Return what the runs in a directory say, or why they say nothing."""
        directory = self._directory(commit)
        rows = (
            read_table(directory.outcomes, OutcomeRow).rows if directory.outcomes.exists() else ()
        )
        bad = next((row for row in rows if row.outcome != Outcome.OK), None)
        if bad is not None:
            machine = bad.outcome == Outcome.INFRASTRUCTURE
            return Failure(one_line(f"a run ended as {bad.outcome}: {bad.reason}"), machine)
        if len(rows) < runs:
            reason = str(error) if error else "its runs did not come to their end"
            return Failure(one_line(reason), machine=True)
        write_quality(directory)
        return sample(read_session(directory.path), self.question.mode, self.question.metric)


def _plan_of(question: _Question, commit: str, runs: int) -> Plan:
    """Return the plan of so many runs of a commit; it ends with the first that fails.

    The runs of one mode have an order only in their names, which must not change with their number.
    """
    plan = question.plan
    assert plan.topology is not None
    # Not the clone's place, which is another one each time: locks are kept by what was asked for.
    words = [_word(question.repository, commit)]
    words += [_word(each.repository, each.commit) for each in question.siblings.of(commit)]
    stack = {"stack": [*words, *question.pins], "fail_fast": True, "no_report": True}
    return plan.model_copy(
        update={
            "topology": plan.topology.model_copy(update=stack),
            "general": plan.general.model_copy(update={"repeat": runs, "order": Order.GIVEN}),
        }
    )


def _word(repository: Repository, commit: str) -> str:
    return f"git+file://{quote(str(repository.path))}@{commit}"


def _never() -> bool:
    return False


def _prefixed(progress: Progress, commit: str) -> Callable[[str], None]:
    return lambda line: progress.say(f"{commit[:SHORT]}: {line}")


def _short(error: HarnessError, plan: Plan, commit: str) -> str:
    """Return an error with a short name of the commit for its ``--stack`` word, which is long."""
    assert plan.topology is not None
    return one_line(str(error).replace(plan.topology.stack[0], commit[:SHORT]))[:400]


def _print(line: str) -> None:
    print(line, flush=True)


def _say(line: str) -> None:
    # Whoever read this may be gone; the runs go on.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
