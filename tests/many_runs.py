"""Directories of many runs, as ``sweep`` and ``history`` leave them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
RUNS = 6
SIZES = {"1MB": 1, "10MB": 10, "100MB": 100}
# Proxies cost 20 MB and save one of two copies: they win from 20 MB of payload on.
PEAKS: dict[str, Callable[[int], float]] = {
    "none": lambda n: 30 + 2 * n,
    "owned-proxy": lambda n: 50 + n,
}


def write_sweep(place: Path, workers: tuple[str, ...] = ("2",)) -> Path:
    """Write the directory of a sweep that was run."""
    chance = random.Random(1)
    cells: dict[str, Any] = {}
    for count in workers:
        for size, n in SIZES.items():
            name = f"{len(cells) + 1}-bytes-{size}"
            cells[name] = {"bytes": [size], "dask-workers": [count]}
            peaks = {
                mode: [int(of(n) * MB * (1 + 0.01 * chance.gauss(0, 1))) for _ in range(6)]
                for mode, of in PEAKS.items()
            }
            directory = write_run_directory(place / name, peaks, interleaved=True, events=False)
            directory.manifest.write_text(json.dumps(MANIFEST))
    parameters = {"bytes": [[size] for size in SIZES], "dask-workers": [[n] for n in workers]}
    record = {"schema_version": 1, "parameters": parameters, "cells": cells, "options": {}}
    (place / "sweep.json").write_text(json.dumps(record))
    return place


def write_versions(root: Path, runner: dict[str, int], modes: tuple[str, ...]) -> None:
    """Write a run directory for each version, with this net peak of the runner in MB."""
    chance = random.Random(1)

    def around(size: float) -> int:
        return int(size * (1 + 0.01 * chance.gauss(0, 1)))

    for version, size in runner.items():
        directory = write_run_directory(
            root / version,
            {mode: [around(30 * MB) for _ in range(RUNS)] for mode in modes},
            others={"runner": (80 * MB, [around(size * MB) for _ in range(RUNS * len(modes))])},
            events=False,
        )
        packages = {"packages": {"dask": version}}
        directory.manifest.write_text(json.dumps(MANIFEST | {"runner": packages}))
