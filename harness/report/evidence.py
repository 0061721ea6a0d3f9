"""What figures rest on: the ledger, the samplers' own record, calibration, the environment."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from harness.analysis.calibration import Check
from harness.analysis.digits import percent, three
from harness.analysis.figures import Group
from harness.analysis.grades import PAIRS, findings
from harness.analysis.identity import leading_packages
from harness.analysis.session import Session
from harness.core.sizes import format_size
from harness.report.tables import NOTHING, Table
from harness.report.terminal import columns

_LEDGER = {
    "usage_bytes": "usage",
    "anon_bytes": "anon",
    "shmem_bytes": "shmem",
    "active_file_bytes": "active file",
    "inactive_file_bytes": "inactive file",
    "kernel_bytes": "kernel",
    "sock_bytes": "sock",
    "pss_bytes": "PSS",
    "uss_bytes": "USS",
    "swap_bytes": "swap",
    "oom_kill": "OOM kills",
}


def ledger(groups: Sequence[Group]) -> Table | None:
    """Return where the memory was at each mark, medians over a mode's runs; None if not kept."""
    rows = []
    for group in groups:
        found = group.session.tables.get("ledger")
        if found is None:
            continue
        runs = [figures.run.run_id for figures in group.figures]
        together: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in found:
            if row["run_id"] in runs and row["scope"] != "container":
                together.setdefault((row["mark"], row["name"]), []).append(row)
        for (mark, name), same in together.items():
            cells = [_ledger_cell(figure, _median(same, figure)) for figure in _LEDGER]
            rows.append((group.label, mark, name, *cells))
    if not rows:
        return None
    return Table(
        "ledger",
        "Ledger",
        ("mode", "mark", "service", *(f" {title}" for title in _LEDGER.values())),
        tuple(rows),
        "Medians over a mode's runs. Usage = anon + shmem + file + kernel + sock, but for the"
        " kernel's charge stocks. PSS and USS are read at few marks: they walk page tables.",
    )


def _median(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def _ledger_cell(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    return format_size(value) if name.endswith("_bytes") else f"{value:g}"


def sampling(session: Session) -> Table | None:
    """Return how well each sampler kept its clock."""
    document = session.documents.get("sampling")
    if not document:
        return None
    rows = []
    for view, fragments in document.items():
        for name, found in fragments.items():
            rows.append((view, name, *_sampler(found)))
    return Table(
        "sampling",
        "Sampling",
        (
            "view",
            "sampler",
            " asked",
            " got",
            " ticks missed",
            " late, median",
            " late, 95 %",
            " late, most",
            " CPU",
            "could not read",
        ),
        tuple(rows),
        "Late: how long after its tick a sampler woke. CPU: of one core.",
    )


def _sampler(found: dict[str, Any]) -> tuple[str, ...]:
    grid = found.get("grid") or {}
    late = [
        f"{three(grid[name] / 1e6)} ms" if grid.get(name) is not None else NOTHING
        for name in ("late_median_ns", "late_p95_ns", "late_max_ns")
    ]
    asked = got = missed = NOTHING
    if grid:
        rate = 1e9 / grid["interval_ns"]
        asked, got = f"{rate:.3g} Hz", f"{three(rate * grid['kept'])} Hz"
        missed = str(grid["missed"])
    elif (found.get("details") or {}).get("rows"):
        got = "about 1 Hz"
    cpu = NOTHING
    if found.get("cpu_ns") is not None and found.get("elapsed_ns"):
        cpu = percent(found["cpu_ns"] / found["elapsed_ns"])
    absent = "; ".join(f"{what}: {why}" for what, why in (found.get("absent") or {}).items())
    return (asked, got, missed, *late, cpu, absent)


def agreement(session: Session) -> Table | None:
    """Return whether the views agree, and whether baselines had settled; None if not assessed."""
    document = session.documents.get("quality")
    if not document:
        return None
    rows = [
        _agreement(name, document[key])
        for key, name in PAIRS.items()
        if isinstance(document.get(key), dict)
    ]
    gaps = {v: ns for v, ns in (document.get("longest_gap_ns") or {}).items() if ns is not None}
    verdicts = (document.get("baseline") or {}).get("verdicts") or {}
    notes = [
        "Longest gap: " + ", ".join(f"{view} {ns / 1e6:.0f} ms" for view, ns in gaps.items()),
        "Baselines: " + ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items()),
        f"Bounds: {document.get('bounds_from', NOTHING)}",
    ]
    kept = [note for note, what in zip(notes, (gaps, verdicts, document), strict=True) if what]
    return Table(
        "agreement",
        "Agreement of the views",
        ("what", " readings", " 95 % off by", " allowed", " largest", "largest at", "agrees"),
        tuple(rows),
        ". ".join(kept) + ".",
    )


def _agreement(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    sizes = [_ledger_cell(key, found.get(key)) for key in ("p95_bytes", "bound_bytes")]
    agrees = {True: "yes", False: "NO"}.get(found.get("agrees"), "nothing to compare")  # type: ignore[arg-type]
    return (
        name,
        str(found.get("readings", NOTHING)),
        *sizes,
        _ledger_cell("largest_bytes", found.get("largest_bytes")),
        str(found.get("largest_at") or NOTHING),
        agrees,
    )


def calibration(session: Session) -> Table | None:
    """Return what calibration found on this machine; None if it was not calibrated."""
    document = session.documents.get("calibration")
    if not document:
        return None
    return Table("calibration", "Calibration", ("figure", "value"), tuple(_flat(document)))


def environment(session: Session) -> Table | None:
    """Return what was run, with what, where."""
    manifest = session.documents.get("manifest")
    if not manifest:
        return None
    rows = [
        ("harness", f"{manifest.get('harness_version')}, git {manifest.get('git_revision')}"),
    ]
    for part in ("engine", "machine", "host"):
        chosen = {
            key: value
            for key, value in (manifest.get(part) or {}).items()
            if not isinstance(value, dict)
        }
        if part == "host" and chosen == {
            key: value for key, value in (manifest.get("machine") or {}).items() if key in chosen
        }:
            continue
        rows += _flat({part: chosen})
    runner = manifest.get("runner") or {}
    rows += _flat({"runner": {key: runner.get(key) for key in ("python", "libc", "environment")}})
    wanted = (*leading_packages(session), "psutil", "redis")
    packages = {name.lower(): version for name, version in (runner.get("packages") or {}).items()}
    rows += [(f"package {name}", packages[name]) for name in wanted if name in packages]
    return Table("environment", "Environment", ("what", "value"), tuple(rows))


def images(session: Session) -> Table | None:
    """Return the identities of the images."""
    found = (session.documents.get("manifest") or {}).get("images")
    if not found:
        return None
    rows = tuple(
        (
            stack,
            str(image.get("reference")),
            str(image.get("id")),
            _ledger_cell("size_bytes", image.get("size_bytes")),
        )
        for stack, image in found.items()
    )
    return Table("images", "Images", ("stack", "image", "identity", " size"), rows)


def command(session: Session) -> str:
    """Return the command that runs a session again, as exactly as is recorded."""
    recorded = (session.documents.get("manifest") or {}).get("command")
    if recorded:
        return shlex.join(["python", "-m", "harness", *recorded])
    workload = session.workload
    if workload is None or not workload.bytes_sizes:
        return ""
    repeat = max(run.repetition for run in session.runs)
    return shlex.join(
        [
            *("python", "-m", "harness", "run"),
            *("--executor", workload.executor.removesuffix("Executor").lower()),
            *("--ps-connector", workload.connector.removesuffix("Connector").lower() or "file"),
            *("--data-management", *session.modes),
            *("--stage-task-counts", *map(str, workload.task_counts)),
            *("--stage-bytes-sizes", *map(str, workload.bytes_sizes)),
            *("--stage-repeat", str(workload.repeat), "--task-sleep", f"{workload.sleep_s:g}"),
            *("--repeat", str(repeat)),
        ]
    )


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as lines of a path and a value."""
    for key, value in values.items():
        path = f"{above} {key}".strip()
        if isinstance(value, dict):
            yield from _flat(value, path)
        elif isinstance(value, list):
            yield path, ", ".join(map(str, value)) or NOTHING
        else:
            yield path, NOTHING if value is None else _scalar(key, value)


def _scalar(key: str, value: Any) -> str:
    if key.endswith("_bytes") and isinstance(value, int | float):
        return format_size(value)
    if key.endswith("_ns") and isinstance(value, int | float):
        return f"{value / 1e6:.3g} ms"
    return three(value) if isinstance(value, float) else str(value)


def trust(session: Session) -> Table | None:
    """Return all that is known of how well it was measured, with grades; None if nothing is."""
    found = findings(session)
    if not found:
        return None
    return Table(
        "trust",
        "How far to trust it",
        ("grade", "found", "what follows"),
        tuple((each.grade.value, each.what, each.why) for each in found),
        "Fine: nothing to do. Suspicious: look before you rely on it. Do not use: the figures that"
        " it concerns say nothing.",
    )


def check_table(checks: Sequence[Check]) -> str:
    """Return one row for each claim about a view."""
    rows = [
        [
            check.view,
            check.column,
            f"{check.probe}: {check.step}",
            check.says,
            three(check.expected_bytes / 2**20),
            "nothing" if check.shown_bytes is None else three(check.shown_bytes / 2**20),
            "-" if check.off_percent is None else f"{three(check.off_percent, signed=True)} %",
            f"{check.bound_percent:g} %",
            f"{check.seen[0]}/{check.seen[1]}",
            "ok" if check.within else "OUTSIDE",
        ]
        for check in checks
    ]
    headers = ["view", "column", "probe", "claim", " must show MiB", " shows MiB", " off"]
    headers += [" stated", " within", ""]
    return columns(headers, rows)


def calibration_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what else a ``calibration.json`` says."""
    for name, (seen, pulses) in found["pulses_with_a_reading"].items():
        yield f"{name}: a reading in {seen} of {pulses} pulses of 200 ms"
    for view, clock in found["clocks"].items():
        if clock.get("late_p99_ns") is not None:
            yield (
                f"{view} sampler: {clock['missed']} of {clock['ticks'] + clock['missed']} ticks"
                f" missed at {clock['interval_ns'] / 1e6:g} ms; late: median"
                f" {clock['late_median_ns'] / 1e6:.2f} ms, 99 %"
                f" {clock['late_p99_ns'] / 1e6:.2f} ms, most {clock['late_max_ns'] / 1e6:.2f} ms;"
                f" {clock['largest_cpu_share']:.2%} of a core,"
                f" {format_size(clock['rss_max_bytes'])}"
            )
    yield (
        f"engine: {found['engine_cpu_share']:.2%} of a core with one container's stats stream,"
        f" {format_size(found['engine_rss_bytes'])}"
    )
    bounds = ", ".join(f"{k} {format_size(v)}" for k, v in found["agreement"].items())
    yield f"views may disagree, at the 95th percentile, by: {bounds}"
    for name, figure in (found["detectable"] or {}).items():
        yield (
            f"A/A, {name}: {figure['repeats']} runs against {figure['repeats']} of the same plan"
            f" differ by {figure['difference_percent']:+.2f} %: {figure['verdict']}; the smallest"
            f" difference they can detect is {figure['smallest_percent']:.2f} %"
        )
