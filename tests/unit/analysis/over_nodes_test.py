"""Peaks of scopes that are on several nodes: between two bounds, from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.figures import session_figures
from harness.analysis.readers import read_session
from harness.results.rows import RowWriter, columns
from harness.results.schema import LedgerRow, PeakRow
from tests.rundirs import write_run_directory

MB = 1_000_000
RUN = "0001-none-1"


def spread(path: Path, bytes_of: dict[str, int], *, kind: str = "max_usage") -> None:
    """Write the topology's peaks of one run as the agents of several nodes tell them."""
    with RowWriter(path / "peaks.csv", PeakRow) as rows:
        for node, size in bytes_of.items():
            name = f"topology@{node}"
            base, interval = 10 * MB, 0 if kind == "max_usage" else 20_000_000
            rows.write(
                PeakRow(RUN, "topology", name, size, kind, base, None, interval, None, "told")
            )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run_directory(tmp_path / "run", {"none": [100 * MB]}, events=False).path


def test_the_nodes_kernel_peaks_bound_what_samples_add_up_to(run: Path) -> None:
    (before,) = session_figures(read_session(run))
    assert before.topology is not None
    assert before.topology.peak_most_bytes is None
    sampled = before.topology.peak_bytes
    spread(run, {"a": round(sampled), "b": 50 * MB})
    (after,) = session_figures(read_session(run))
    found = after.topology
    assert found is not None
    assert found.peak_kind == "sampled"
    assert found.nodes == 2
    assert found.baseline_bytes == 20 * MB
    assert found.peak_bytes <= sampled
    assert found.peak_most_bytes == round(sampled) + 50 * MB
    assert found.net_peak_most_bytes == round(sampled) + 30 * MB
    assert found.peak_from.endswith(", on 2 nodes")


def test_samples_above_the_kernels_are_their_own_bound(run: Path) -> None:
    spread(run, {"a": 1, "b": 1})
    (figures,) = session_figures(read_session(run))
    assert figures.topology is not None
    assert figures.topology.peak_most_bytes == figures.topology.peak_bytes


def test_a_node_without_kernel_peaks_leaves_no_bound(run: Path) -> None:
    spread(run, {"a": 300 * MB, "b": 300 * MB}, kind="sampled")
    (figures,) = session_figures(read_session(run))
    assert figures.topology is not None
    assert figures.topology.peak_most_bytes is None
    assert figures.topology.nodes == 2


def test_the_ledgers_of_all_nodes_add_up(run: Path) -> None:
    def row(node: str, mark: str, anon: int) -> LedgerRow:
        cells = dict.fromkeys(columns(LedgerRow)) | {"run_id": RUN, "mark": mark}
        cells |= {"scope": "topology", "name": f"topology@{node}", "anon_bytes": anon}
        cells |= {"t_mono_ns": 1}
        return LedgerRow(**cells | {"usage_bytes": anon + 5})  # type: ignore[arg-type]

    with RowWriter(run / "ledger.csv", LedgerRow) as rows:
        for node, before, after in (("a", 10, 25), ("b", 1, 4)):
            rows.write(row(node, "run_start", before))
            rows.write(row(node, "run_end", after))
    (figures,) = session_figures(read_session(run))
    assert figures.topology is not None
    parts = figures.topology.parts
    assert (parts["anon_bytes"], parts["usage_bytes"], parts["file_bytes"]) == (18, 18, None)
