"""Predicted against measured bytes in the connector, at every stage boundary.

    .venv/bin/python benchmarks/prediction.py [--sizes 1MB 10MB 100MB]

Benches each connector in containers with payloads of each size, under all proxy modes, counting
what the storage holds at every stage boundary. Target: at most 1 % off anywhere. For Redis the
server's own figure and the kernel's peak of its container stand beside it: what the objects cost
beyond their bytes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _benches import bench

from harness.analysis.figures import group_runs
from harness.analysis.predicted import ModePrediction, predictions
from harness.analysis.readers import read_session
from harness.core import interrupt
from harness.results.directory import RunDirectory

CONNECTORS = ("redis", "file")
MODES = ("default-proxy", "manual-proxy", "owned-proxy")
TARGET_PERCENT = 1.0


def audited(connector: str, size: str, place: Path) -> RunDirectory:
    """Run one bench that counts the objects at every stage and return its directory."""
    flags = ["--executor", "dask", "--dask-workers", "2", "--ps-connector", connector]
    flags += ["--data-management", *MODES]
    flags += ["--stage-task-counts", "1", "2", "1", "--stage-bytes-sizes", size, size, size, size]
    flags += ["--task-sleep", "0.1", "--audit-stages", "--isolate", "none"]
    return bench(flags, place)


def row(found: ModePrediction, peak_net: float) -> tuple[str, float]:
    """Return a line about one mode, and by how many percent its worst stage is off."""
    worst, fullest = found.worst, found.fullest
    assert worst is not None
    assert fullest is not None
    off = float("inf") if worst.off_percent is None else abs(worst.off_percent)
    figures = f"{fullest.predicted_bytes:>14}{fullest.measured_bytes:>14}{off:>10.4f} %"
    return f"{found.mode:16}{figures}{found.peak_bytes:>14}{peak_net:>16.0f}", off


def main() -> int:
    """Measure and print; the exit code says whether the target was met."""
    interrupt.install()  # SIGTERM, too, must end what was started
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--sizes", nargs="+", default=["1MB", "10MB", "100MB"])
    args = parser.parse_args()
    largest = 0.0
    print(f"{'':16}{'predicted':>14}{'measured':>14}{'worst off':>12}{'peak held':>14}", end="")
    print(f"{'kernel peak net':>16}")
    for connector in CONNECTORS:
        service = "redis" if connector == "redis" else "topology"
        for size in args.sizes:
            print(f"{connector}, payloads of {size} (kernel: {service})")
            with tempfile.TemporaryDirectory() as place:
                directory = audited(connector, size, Path(place))
                session = read_session(directory.path)
                peaks = {
                    (group.mode, scope.scope): scope.net_peak.median
                    for group in group_runs([session])
                    for scope in group.scopes
                }
                for found in predictions(session):
                    line, off = row(found, peaks[found.mode, service])
                    largest = max(largest, off)
                    print(line, flush=True)
    print(f"target (<= {TARGET_PERCENT:g} %): {largest <= TARGET_PERCENT}, largest {largest:.4f} %")
    return 0 if largest <= TARGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
