"""Hold every view of memory on this machine against a known truth."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness.analysis.calibration import (
    agreement_bytes,
    check_all,
    pulses_seen,
    run_figures,
)
from harness.analysis.quality import assess
from harness.analysis.verdicts import Sides, compare
from harness.cli._parser import Parser
from harness.core.errors import UsageError
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.report.evidence import calibration_lines, check_table
from harness.results.directory import RunDirectory, create_named
from harness.results.documents import read_document, write_json
from harness.results.manifest import machine
from harness.topology.admission import admit
from harness.topology.calibrate import Probed, run_probes, run_twice

SCHEMA_VERSION = 1
_LEAST_REPEATS = 3
# Small, but with payloads that stand out of the noise.
_A_A = (
    "--executor dask --dask-workers 2 --ps-connector redis --data-management default-proxy"
    " --stage-task-counts 2 1 --stage-bytes-sizes 20MB 10MB 1MB --task-sleep 0.2 --warmup 1"
)


def main(argv: Sequence[str]) -> int:
    """Parse, probe, compare, print; 1 if a view is outside its stated error."""
    parser = Parser(
        prog="harness calibrate",
        description=__doc__,
        example="harness calibrate",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=5,
        metavar="N",
        help="runs on each side of the A/A plan: what N runs of a mode can tell apart"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--probes-only", action="store_true", help="leave the A/A plan out (half a minute)"
    )
    parser.add_argument(
        "--run-dir",
        default="runs/",
        metavar="DIR",
        help="calibration.json goes here, where benches find it (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.repeat < _LEAST_REPEATS:
        raise UsageError(f"--repeat: {args.repeat} runs show no spread; give {_LEAST_REPEATS}")
    plan = _plan(args.repeat)
    for line in admit(plan, args.run_dir):
        _say(line)
    place = create_named(args.run_dir, "calibration")
    probed = run_probes(place / "probes", _say)
    twice = [] if args.probes_only else run_twice(plan, place, _say)
    checks = check_all(probed.directory)
    found = _document(probed, twice)
    found |= {"checks": [check.as_dict() for check in checks]}
    found |= {"within": bool(checks) and all(check.within for check in checks)}
    beside = RunDirectory(place.parent).calibration
    for path in (RunDirectory(place).calibration, beside):
        write_json(path, found)
    print(f"\n{check_table(checks)}\n")
    for line in calibration_lines(found):
        print(line)
    for view, lacks in found["absent"].items():
        for what, why in lacks.items():
            print(f"{view} view: {what}: {why}")
    print(f"\nCalibration: {beside}")
    return 0 if found["within"] else 1


def _document(probed: Probed, twice: Sequence[RunDirectory]) -> dict[str, Any]:
    quality = assess(probed.directory)
    here = machine()
    manifest, _ = read_document(probed.directory.manifest, "manifest")
    return {
        "schema_version": SCHEMA_VERSION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "directory": str(probed.directory.path.parent),
        "machine": here,
        "engine": manifest.get("engine"),
        "agreement": agreement_bytes(quality, here["cpus"] or 1),
        "pulses_with_a_reading": {
            name: pulses_seen(probed.directory, *column)
            for name, column in {
                "cgroup view": ("cgroup", "usage_bytes"),
                "inside view": ("inside", "rss_sum_bytes"),
                "docker view": ("docker", "usage_bytes"),
            }.items()
        },
        "clocks": quality["clocks"],
        "views": {key: quality[key] for key in quality if key.endswith("_against_cgroup")},
        "identity": quality["identity"],
        "engine_cpu_share": probed.engine_cpu_share,
        "engine_rss_bytes": probed.engine_rss_bytes,
        "absent": quality["absent"],
        "detectable": _detectable(twice),
    }


def _detectable(twice: Sequence[RunDirectory]) -> dict[str, Any] | None:
    if not twice:
        return None
    a, b = (run_figures(directory) for directory in twice)
    return {
        name: _same_twice(a[name], b[name])
        for name in a
        if len(a[name]) == len(b[name]) >= _LEAST_REPEATS
    }


def _same_twice(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Return what two samples of the same work say, and what difference they could have shown."""
    found = compare(Sides(a, b))
    seen = found.detectable or 0.0
    scale = 100 / found.a.median if found.a.median else math.nan
    return {
        "repeats": len(a),
        "median_a": found.a.median,
        "median_b": found.b.median,
        "difference_percent": found.difference * scale,
        "smallest": seen,
        "smallest_percent": seen * scale,
        "verdict": found.verdict.value,
    }


def _plan(repeat: int) -> Plan:
    """Return the A/A plan as a bench would run it."""
    parser = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(parser, containers=True)
    return parse_plan(parser, [*_A_A.split(), "--repeat", str(repeat)], containers=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
