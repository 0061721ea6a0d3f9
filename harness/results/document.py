"""The documentation of the run directory's files, generated from their schemas."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from harness.results.directory import RunDirectory
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow
from harness.results.schema import (
    CgroupRow,
    CompletionRow,
    DockerRow,
    InsideRow,
    LedgerRow,
    MarkRow,
    NodeRow,
    ObjectStoreRow,
    PeakRow,
    PhaseRow,
    PredictionRow,
    ServerRow,
    StorageRow,
    TaskRow,
    TruthRow,
    WorkerRow,
)

_FILES = RunDirectory(Path())

SCHEMAS: dict[str, type[Any]] = {
    _FILES.results.name: ResultRow,
    _FILES.outcomes.name: OutcomeRow,
    _FILES.objects.name: ObjectsRow,
    _FILES.marks.name: MarkRow,
    _FILES.memory("cgroup").name: CgroupRow,
    _FILES.memory("inside").name: InsideRow,
    _FILES.memory("docker").name: DockerRow,
    _FILES.peaks.name: PeakRow,
    _FILES.ledger.name: LedgerRow,
    _FILES.phases.name: PhaseRow,
    _FILES.tasks.name: TaskRow,
    _FILES.predictions.name: PredictionRow,
    _FILES.storage.name: StorageRow,
    _FILES.completions.name: CompletionRow,
    _FILES.server.name: ServerRow,
    _FILES.object_stores.name: ObjectStoreRow,
    _FILES.nodes.name: NodeRow,
    _FILES.workers.name: WorkerRow,
    _FILES.truth.name: TruthRow,
}

_INTRODUCTION = """\
# The run directory

Made by `harness bench` and `harness run` below `--run-dir`, one for each invocation. This page is
generated from the schemas in `harness/results/` (`python -m harness.results.document`).

Rules for all files but psbench's two: bytes, nanoseconds and microseconds are integers; an empty
cell means *not read*, never zero; any value may be missing. `t_mono_ns` is CLOCK_MONOTONIC, which a
host and its containers share: series of all views align on it without correction. A row once
written survives any crash after it.

`results-memory.csv` is psbench's:
`unix_timestamp,total_bytes,available_bytes,used_bytes,free_bytes`
of the **host**, as psutil reads them. The paper's "used" is total - available.

JSON files: `manifest.json` (what was run, with what, where), `plan.json` (the plan as the runner
executes it), `bench.json` (the plan as given and the images, for `--resume`), `sampling.json` (how
each sampler kept its clock and what it cost; a name that ends in `@2` is of the second topology),
`why/` (with `--why`: a run directory of the traced runs, in whose `traces/` is a file for each
process; [how to read it](why.md)), `quality.json` (clocks, gaps, the largest deviation of usage
from the sum of its parts, disagreement of the views, baselines that were not flat).
`calibration.json` of `harness calibrate` is beside the run directories. `harness report` adds
`report.html`, `figures/` and `summary.json` (all its figures; has a `schema_version`).
[What each figure is](measurement.md).

`variant/` is there if `--stack` or `--python` was given: `variant.json` (what was asked for, and
what it came to), one `<image>.lock` for each image that is not the checkout's own, and `wheels/`
with those that no index has. [Other versions of a stack](versions.md).

`logs/` has every container's output, `stacks/` what every process was doing when a run's time was
up. A run is finished when its row is in `outcomes.csv`, which is written last;
[how runs end](faults.md).
"""


def schema_section(name: str, row_type: type[Any]) -> str:
    """Return one file's section in Markdown."""
    doc = inspect.cleandoc(row_type.__doc__ or "").partition(": ")[2].replace("``", "`")
    # Blanks: room for a heading that is longer than what is below it.
    rows = [("column  ", "type  ", "meaning  ")]
    rows += [
        (
            f"`{field.name}`",
            str(field.type).replace(" | None", ", may be empty"),
            field.metadata["doc"],
        )
        for field in dataclasses.fields(row_type)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    table = "\n".join(lines)
    return f"## {name}\n\n{doc[0].upper()}{doc[1:]}\n\n{table}\n"


def document() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, *(schema_section(n, t) for n, t in SCHEMAS.items())])


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
