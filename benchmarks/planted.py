"""Whether verdicts on real benches are right: the same twice, and a regression that was planted.

    python -m benchmarks.planted PLACE [--pairs 20]

For each pair, three benches of one plan with ``--until 5%``: A; B, which is A again, against A; C
against A, on an image in which each task holds 10 MB more than it should.
Prints what each comparison says, and in the end how many said *worse*.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.analysis.compare import compare_sessions
from harness.analysis.readers import read_session
from harness.core.flags import Parser
from harness.images import Image, docker_cli, ensure
from harness.plan import add_plan_flags, parse_plan
from harness.results.directory import RunDirectory, create_named
from harness.topology.bench import Bench

PLAN = (
    "--executor dask --dask-workers 2 --ps-connector redis --data-management default-proxy"
    " --stage-task-counts 2 1 --stage-bytes-sizes 20MB 10MB 1MB --task-sleep 0.2 --warmup 1"
    " --until 5% --no-report"
)
_PLANTED = "workflow-memory-harness/dask:planted"
# Held by each of two tasks at a time: together a tenth of the topology's net peak with this plan.
_HELD_BYTES = 10_000_000
_PATCH = f"""

_task_proxy = task_proxy


def task_proxy(*data, **options):
    held = bytearray(b"x") * {_HELD_BYTES}
    return _task_proxy(*data, **options)
"""


def planted(image: Image) -> Image:
    """Return an image whose tasks keep more, made from one."""
    with tempfile.TemporaryDirectory() as work:
        context = Path(work)
        (context / "patch").write_text(_PATCH)
        find = "import harness.workflow.tasks as t; print(t.__file__)"
        (context / "Dockerfile").write_text(
            f"FROM {image.reference}\nUSER 0\nCOPY patch /patch\n"
            f'RUN file=$(python -c "{find}") && cat /patch >> $file && find / -name __pycache__'
            " -path '*harness*' -prune -exec rm -r {} +\nUSER 1000\n"
        )
        command = ["docker", "build", "--quiet", "--tag", _PLANTED, str(context)]
        subprocess.run(command, check=True, capture_output=True)
    found = docker_cli.find(_PLANTED)
    assert found is not None
    return replace(image, reference=_PLANTED, id=found.id, layers=found.layers)


def _ignore(_: object) -> None:
    pass


def bench(place: Path, name: str, images: Mapping[str, Image], *more: str) -> RunDirectory:
    """Run the plan and return its directory."""
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    plan = parse_plan(parser, [*PLAN.split(), *more], containers=True)
    directory = RunDirectory(create_named(str(place), name))
    Bench(plan, directory, _ignore, _ignore, dict(images)).run()
    return directory


def main() -> None:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    images = ensure(["dask", "redis"], print)
    other = images | {"dask": planted(images["dask"])}
    said = {"same": Counter[str](), "planted": Counter[str]()}
    for pair in range(1, args.pairs + 1):
        a = bench(args.place, f"a-{pair}", images)
        line = [f"pair {pair}"]
        for name, used in (("same", images), ("planted", other)):
            b = bench(args.place, f"{name}-{pair}", used, "--against", str(a.path))
            (row,) = compare_sessions(read_session(a.path), read_session(b.path)).primary
            assert row.comparison is not None
            change = row.comparison.change or 0.0
            runs = f"{len(row.comparison.a.values)} and {len(row.comparison.b.values)} runs"
            line.append(f"{name}: {row.verdict.value} {change:+.1%} ({runs})")
            said[name][row.verdict.value] += 1
        print("; ".join(line), flush=True)
    for name, counts in said.items():
        print(f"{name}: {dict(counts)}")
    docker_cli.remove([_PLANTED])


if __name__ == "__main__":
    main()
