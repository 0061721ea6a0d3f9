"""A wheel in an empty environment runs a benchmark in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.images.recipe import CHECKOUT


def test_a_wheel_benches_without_a_checkout(tmp_path: Path) -> None:
    def call(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder, place = tmp_path / "empty", tmp_path / "venv"
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    # From the package index, what the wheel itself asks for; the lock only says which versions.
    pins = [
        line.removesuffix("\\")
        for line in (CHECKOUT / "requirements.lock").read_text().splitlines()
        if line[:1].isalnum()
    ]
    (tmp_path / "pins.txt").write_text("\n".join(pins) + "\n")
    call(sys.executable, "-m", "venv", place)
    pip = (place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q")
    call(*pip, "--only-binary", ":all:", "-c", tmp_path / "pins.txt", f"{wheel}[bench,report]")
    bench = (
        "bench --executor thread --ps-connector local --data-management none default-proxy"
        " --stage-task-counts 1 1 --stage-bytes-sizes 10 10 10 --task-sleep 0"
    )
    call(place / "bin" / "harness", *bench.split())
    assert [path.name for path in folder.iterdir()] == ["runs"]
    (directory,) = (folder / "runs").glob("workflow-memory-*")
    outcomes = (directory / "outcomes.csv").read_text().splitlines()
    assert [line.count(",ok,") for line in outcomes[1:]] == [1, 1]
    assert (directory / "report.html").is_file()
    assert " 2 ok " in call(place / "bin" / "harness", "list", "runs")
