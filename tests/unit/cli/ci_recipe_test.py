"""The recipes that projects copy: what they run must exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.ab import ab_parser, sides_of
from harness.plan import parse_plan

DOCS = Path(__file__).parents[3] / "docs"


def github() -> tuple[str, dict[str, Any]]:
    (job,) = read("memory.yml")["jobs"].values()
    steps = "\n".join(step.get("run", "") for step in job["steps"])
    return steps, read("memory.yml")["env"]


def gitlab() -> tuple[str, dict[str, Any]]:
    job = read("memory.gitlab-ci.yml")["memory"]
    return "\n".join(job["script"]), job["variables"]


def read(name: str) -> dict[str, Any]:
    found = yaml.safe_load((DOCS / "ci" / name).read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("recipe", "form", "output"),
    [(github, "markdown", "../comment.md"), (gitlab, "junit", "$CI_PROJECT_DIR/memory.xml")],
)
def test_a_recipe_compares_both_with_as_many_runs_as_it_takes(
    recipe: Any, form: str, output: str
) -> None:
    text, values = recipe()
    (line,) = re.findall(r"-m harness ab ([^|\n]*)", text.replace("\\\n", " "))
    line = line.partition(" 2>&1")[0]
    for name, value in values.items():
        line = line.replace(f"${name}", str(value))
    words = shlex.split(re.sub(r"\$\{\{ ([a-z._]+) \}\}", "BASE", line))
    parser = ab_parser(words)
    plan = parse_plan(parser, words, containers=True)
    args, _ = parser.parse_known_args(words)
    assert plan.topology is not None
    assert (plan.topology.until, plan.topology.budget) == (0.1, 10)
    assert "--repeat" not in line
    assert (args.threshold, args.format, str(args.output)) == (0.1, form, output)
    assert args.primary == "net_peak"
    assert args.allow_undecided
    sides = sides_of(args)
    assert list(sides) == ["a", "b"]
    assert all(word.startswith("git+file://") for (word,) in sides.values())


def test_the_page_names_both() -> None:
    page = (DOCS / "ci-recipe.md").read_text()
    assert {path.name for path in (DOCS / "ci").iterdir()} == {
        "memory.yml",
        "memory.gitlab-ci.yml",
    }
    assert "(ci/memory.yml)" in page
    assert "(ci/memory.gitlab-ci.yml)" in page
