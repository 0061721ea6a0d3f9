"""Versions of a stack beside each other, with a package that regresses and without."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout_copy import ROOT, copy_checkout

WORKFLOW = ROOT / "docs" / "ci" / "memory.yml"
# All that is put into a store stays in memory once more.
REGRESSION = """

_kept = []
_put_as_it_was = Store.put


def _put_and_keep(self, obj, *args, **kwargs):
    _kept.append(bytes(bytearray(obj)) if isinstance(obj, bytes) else bytes(5_000_000))
    return _put_as_it_was(self, obj, *args, **kwargs)


Store.put = _put_and_keep
"""


def git(place: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    done = subprocess.run(
        ["git", "-C", str(place), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def project(place: Path, *, regresses: bool) -> str:
    """Make a repository of ProxyStore with a change; return the commit before the change."""
    found = importlib.metadata.distribution("proxystore")
    needs = [need for need in found.requires or () if "extra ==" not in need]
    shutil.copytree(str(found.locate_file("proxystore")), place / "proxystore")
    for cache in place.rglob("__pycache__"):
        shutil.rmtree(cache)
    (place / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n\n'
        f'[project]\nname = "proxystore"\nversion = "{found.version}"\n'
        f"dependencies = {json.dumps(needs)}\n\n"
        '[tool.setuptools.packages.find]\ninclude = ["proxystore*"]\n'
    )
    git(place, "init", "--quiet")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "Begin")
    base = git(place, "rev-parse", "HEAD")
    store = place / "proxystore" / "store" / "base.py"
    text = store.read_text()
    store.write_text(text + (REGRESSION if regresses else "\n# A remark.\n"))
    git(place, "commit", "--quiet", "--all", "--message", "Change the store")
    return base


def steps() -> dict[str, dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return {step["name"]: step for step in job["steps"] if "run" in step}


def run_step(step: dict[str, Any], place: Path, values: dict[str, str]) -> str:
    """Run a step as a runner does; return what it wrote to GITHUB_OUTPUT."""
    script = step["run"]
    for name, value in values.items():
        script = script.replace("${{ " + name + " }}", value)
    assert "${{" not in script
    env = {str(k): str(v) for k, v in yaml.safe_load(WORKFLOW.read_text())["env"].items()}
    env |= {
        "PLAN": "--executor dask --dask-workers 1 --ps-connector redis"
        " --data-management default-proxy --stage-task-counts 2 1"
        " --stage-bytes-sizes 10MB 5MB 1MB --task-sleep 0 --no-report",
        "MINUTES": "2",
        "GITHUB_OUTPUT": str(place / "output"),
        "GITHUB_STEP_SUMMARY": str(place / "summary"),
    }
    subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=place / step.get("working-directory", "."),
        env=os.environ | env,
        check=True,
        timeout=280,
    )
    return (place / "output").read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("regresses", [True, False])
def test_the_recipe_finds_a_planted_regression_and_no_other(
    tmp_path: Path, regresses: bool
) -> None:
    base = project(tmp_path / "project", regresses=regresses)
    copy_checkout(tmp_path / "harness")
    (tmp_path / "harness" / ".venv").symlink_to(ROOT / ".venv")
    output = run_step(
        steps()["Measure both"], tmp_path, {"github.event.pull_request.base.sha": base}
    )
    comment = (tmp_path / "comment.md").read_text()
    assert output == f"code={int(regresses)}\n", comment
    assert (tmp_path / "summary").read_text() == comment
    # The first line says what is judged. Of the services' other figures, which follow in the table,
    # chance changes one now and then, as the comment itself says.
    assert ("worse" in comment.splitlines()[0]) == regresses
    assert "default-proxy" in comment
    (place,) = (tmp_path / "runs").iterdir()
    for side, commit in (("a", base), ("b", git(tmp_path / "project", "rev-parse", "HEAD"))):
        facts = json.loads((place / side / "manifest.json").read_text())["variant"]
        (wheel,) = facts["wheels"]
        assert (wheel["commit"], wheel["dirty"]) == (commit, False)
        assert (place / side / "variant" / "wheels" / wheel["file"]).is_file()
        with (place / side / "outcomes.csv").open() as file:
            assert {row["outcome"] for row in csv.DictReader(file)} == {"ok"}
    # What differs is named, although both have one version.
    named = re.search(r"proxystore [0-9.]+ \(([0-9a-f]+)\) and [0-9.]+ \(([0-9a-f]+)\)", comment)
    assert named is not None, comment
    assert base.startswith(named[1])
