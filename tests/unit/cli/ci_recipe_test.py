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

DOCS = Path(__file__).parents[3] / "docs"


def workflow() -> dict[str, Any]:
    found = yaml.safe_load((DOCS / "ci" / "memory.yml").read_text())
    assert isinstance(found, dict)
    return found


def commands() -> list[str]:
    (job,) = workflow()["jobs"].values()
    text = "\n".join(step.get("run", "") for step in job["steps"]).replace("\\\n", " ")
    return re.findall(r"-m harness ([^|\n]*)", text)


def test_the_plan_is_one_and_can_reach_a_verdict() -> None:
    parser = Parser(prog="harness bench")
    add_plan_flags(parser, containers=True)
    plan = parse_plan(parser, shlex.split(workflow()["env"]["PLAN"]), containers=True)
    assert plan.general.repeat >= 4
    assert plan.workload.sleep_s * len(plan.runs()) < 60


def test_the_comparison_is_one() -> None:
    bench, compare = commands()
    assert bench.startswith("bench $PLAN --run-dir current")
    words = [word.replace("$THRESHOLD", workflow()["env"]["THRESHOLD"]) for word in compare.split()]
    args = compare_parser().parse_args(words[1:])
    assert (args.threshold, args.format, str(args.output)) == (0.1, "markdown", "comment.md")


def test_the_recipe_names_the_workflow() -> None:
    assert "(ci/memory.yml)" in (DOCS / "ci-recipe.md").read_text()
