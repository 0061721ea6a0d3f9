"""Would the unit tests notice? One small change to a module at a time: do its tests fail?

    .venv/bin/python benchmarks/mutants.py [--seed 1] [--each 12] [--jobs 2] [MODULE ...]

Each change (a mutant) is made in a copy of the tree, where the tests of the module's room run that
import it. The seed and the module's text alone say which are tried. Target: 85 % are killed; that a
time-out is longer nobody notices, for example. No engine can be reached meanwhile.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "node_modules")
PASSED_BY = ("annotation", "returns", "decorator_list")
TARGET = 0.85
JUDGING = (
    *(f"harness/topology/{name}.py" for name in ("judge", "leftovers", "watch")),
    *(f"harness/{name}.py" for name in ("workflow/modes", "workflow/phases", "analysis/verdicts")),
)
# These start processes or are one: integration tests run them, in containers.
PROCESSES = {"__init__", "__main__", "child", "host", "probe", "process", "service", "supervise"}
PURE = [p for p in sorted((ROOT / "harness/sampling").rglob("*.py")) if p.stem not in PROCESSES]
MODULES = [*JUDGING, *(str(path.relative_to(ROOT)) for path in PURE)]
PAIRS = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv)),
)
SWAPS: dict[Any, Any] = dict(PAIRS) | {new: old for old, new in PAIRS}


class Mutant(NamedTuple):
    """One change to a module: where, from what to what, and the text it makes."""

    line: int
    change: str
    text: str


def mutants_of(module: str) -> list[Mutant]:
    """Return every mutant of a module."""
    tree = ast.parse((ROOT / module).read_text())
    found = []
    for node, holder, key, new in [edit for each in _code(tree) for edit in _edits(each)]:
        old, before = holder[key], _line(node)
        holder[key] = new
        after = "(dropped)" if isinstance(new, ast.Pass) else _line(node)
        text = ast.unparse(ast.fix_missing_locations(tree))
        holder[key] = old
        found.append(Mutant(node.lineno, f"{before}  ->  {after}", text))
    return found


def _edits(node: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield changes at a node: the node shown, what holds the value, its key there, a new one."""
    own = vars(node)
    match node:
        case ast.If() | ast.While() | ast.IfExp() if ast.unparse(node.test) != "TYPE_CHECKING":
            yield (node, own, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield (node, own, "ops", [SWAPS[type(op)]()])
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            yield (node, own, "op", SWAPS[type(op)]())
        case ast.Constant(value=bool(value)):
            yield (node, own, "value", not value)
        case ast.Constant(value=int(value) | float(value)):
            yield (node, own, "value", value + 1)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield (node, own, "value", ast.Constant(None))
    for name in ("body", "orelse", "finalbody"):
        statements = own.get(name)
        for place, statement in enumerate(statements if isinstance(statements, list) else ()):
            call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if call or isinstance(statement, ast.Raise):
                yield (statement, statements, place, ast.Pass())


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through a syntax tree, past annotations and decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in PASSED_BY:
                yield from _code(child)


def _line(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0][:60]


def tests_of(module: str) -> list[str]:
    """Return the tests of a module's room that import it, or what imports it; or all the room's."""
    room, stem = Path(module).parts[1], Path(module).stem
    users = [p for p in (ROOT / "harness" / room).rglob("*.py") if module in _imported(p)]
    names = {module, *(str(user.relative_to(ROOT)) for user in users)}
    tests = sorted((ROOT / "tests/unit" / room).glob("*_test.py"))
    own = [test for test in tests if names & _imported(test) or test.stem.endswith(f"{stem}_test")]
    return [str(test.relative_to(ROOT)) for test in own or tests]


def _imported(path: Path) -> set[str]:
    """Return the files that a module's ``from ... import ...`` may mean."""
    nodes = ast.walk(ast.parse(path.read_text()))
    froms = [(n.module or "", n.names) for n in nodes if isinstance(n, ast.ImportFrom)]
    names = (name for room, of in froms for name in (room, *(f"{room}.{n.name}" for n in of)))
    return {f"{name.replace('.', '/')}.py" for name in names}


def fails(copy: Path, tests: Sequence[str], timeout_s: float) -> bool:
    """Run tests in a copy; return whether one fails, or they take too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    env = os.environ | {"PYTHONPATH": str(copy), "DOCKER_HOST": f"unix://{copy}/no-engine"}
    env, to = env | {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(copy.parent)}, subprocess.DEVNULL
    run = subprocess.Popen(command, cwd=copy, env=env, stdout=to, stderr=to, start_new_session=True)
    try:
        return run.wait(timeout_s) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def try_out(
    module: str, tests: Sequence[str], chosen: Sequence[Mutant], copies: SimpleQueue[Path]
) -> int:
    """Return how many mutants of a module survive its tests."""

    def survives(text: str | None, timeout_s: float) -> bool:
        copy = copies.get()
        original = (copy / module).read_text()
        try:
            (copy / module).write_text(text or original)
            return not fails(copy, tests, timeout_s)
        finally:
            (copy / module).write_text(original)
            copies.put(copy)

    started = time.monotonic()
    if not (survives(None, 600) or survives(None, 600)):  # once more, if by bad luck
        raise SystemExit(f"{module}: its tests fail as it is: {' '.join(tests)}")
    patience_s = 15 + 5 * (time.monotonic() - started)
    alive = 0
    with ThreadPoolExecutor(copies.qsize()) as pool:
        verdicts = pool.map(lambda mutant: survives(mutant.text, patience_s), chosen)
        for each, survived in zip(chosen, verdicts, strict=True):
            word = "SURVIVED" if survived else "killed  "
            print(f"{word}  {module}:{each.line}: {each.change}", flush=True)
            alive += survived
    return alive


def main() -> int:
    """Try mutants of each module out; return 1 if too many survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", default=MODULES)
    parser.add_argument("--seed", type=int, default=1, help="which mutants are tried")
    parser.add_argument("--each", type=int, default=12, help="how many of each module")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    args = parser.parse_args()
    for unknown in (module for module in args.modules if not (ROOT / module).is_file()):
        parser.error(f"{unknown}: no such file in {ROOT}")
    tried = survivors = 0
    with tempfile.TemporaryDirectory() as place:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(args.jobs):
            copies.put(Path(shutil.copytree(ROOT, f"{place}/{number}/tree", ignore=LEFT_OUT)))
        # All of it now, as it was copied: the tree may be worked on meanwhile.
        work = [(module, tests_of(module), mutants_of(module)) for module in args.modules]
        for module, tests, every in work:
            chance, most = random.Random(f"{args.seed} {module}"), min(args.each, len(every))
            chosen = sorted(chance.sample(every, most), key=lambda m: m.line)
            alive = try_out(module, tests, chosen, copies)
            print(f"{module}: {len(chosen) - alive} of {len(chosen)} killed", flush=True)
            tried, survivors = tried + len(chosen), survivors + alive
    share = 1 - survivors / max(1, tried)
    print(f"{tried - survivors} of {tried} killed: {share:.1%} (target: {TARGET:.0%})")
    return int(share < TARGET)


if __name__ == "__main__":
    sys.exit(main())
