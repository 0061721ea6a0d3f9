"""The workflow that projects copy: what it runs must exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from harness.cli.compare import _parser as compare_parser
from harness.core.flags import Parser
from harness.plan import add_plan_flags, parse_plan
from harness.plan.options import MOST_UNTIL

DOCS = Path(__file__).parents[3] / "docs"


def workflow() -> dict[str, Any]:
    found = yaml.safe_load((DOCS / "ci" / "memory.yml").read_text())
    assert isinstance(found, dict)
    return found


def commands() -> list[str]:
    (job,) = workflow()["jobs"].values()
    text = "\n".join(step.get("run", "") for step in job["steps"]).replace("\\\n", " ")
    return re.findall(r"-m harness ([^|\n]*)", text)


def test_the_plan_is_one_and_needs_no_number_of_runs() -> None:
    bench, _ = commands()
    env = workflow()["env"]
    line = bench.replace("$([ -d baseline ] && echo --against baseline/*)", "--against baseline/x")
    for name, value in env.items():
        line = line.replace(f"${name}", str(value))
    parser = Parser(prog="harness bench")
    add_plan_flags(parser, containers=True)
    plan = parse_plan(parser, shlex.split(line)[1:], containers=True)
    assert plan.topology is not None
    assert (plan.topology.until, plan.topology.budget) == (0.1, 10)
    assert plan.general.repeat == MOST_UNTIL
    assert "--repeat" not in line
    assert plan.general.run_dir == "current"


def test_the_comparison_is_one() -> None:
    _, compare = commands()
    words = [word.replace("$THRESHOLD", workflow()["env"]["THRESHOLD"]) for word in compare.split()]
    args = compare_parser().parse_args(words[1:])
    assert (args.threshold, args.format, str(args.output)) == (0.1, "markdown", "comment.md")


def test_the_recipe_names_the_workflow() -> None:
    assert "(ci/memory.yml)" in (DOCS / "ci-recipe.md").read_text()
