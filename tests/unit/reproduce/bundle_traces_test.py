"""Traces in bundles: packed, read again as from anybody, and in the report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli import report
from harness.cli import why as command
from harness.core.errors import UsageError
from harness.reproduce.pack import pack
from harness.results.directory import RunDirectory
from harness.results.traces import MOST_FILE_BYTES
from tests.rundirs import write_run_directory
from tests.traces import document, write_traced

MB = 1_000_000
RUN = "0001-none-1"
SAID = "none: the runner holds two inputs of 100 MB that the workflow has made and passes on"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    path = tmp_path / "bench"
    write_run_directory(path, {"none": [200 * MB, 200 * MB]}, sizes=(100 * MB, 500_000, 100_000))
    write_traced(path, "none", 100 * MB)
    return path


def bundle_of(directory: Path) -> Path:
    for path in directory.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["plan"]["workload"]["modes"] = ["none"]
        manifest["plan"]["general"]["repeat"] = 1
        path.write_text(json.dumps(manifest))
    target = directory.with_suffix(".tar.zst")
    pack(directory, target, lambda _: None, with_images=False)
    return target


def told(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert command.main([str(path)]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_a_bundle_tells_what_its_directory_tells(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(bench)

    of_bundle, of_directory = told(bundle, capsys), told(bench, capsys)

    assert SAID in of_bundle[0]
    assert "What tracing changed" in of_bundle[0]
    assert of_bundle == of_directory


def test_the_page_of_a_bundle_has_its_traces(bench: Path, tmp_path: Path) -> None:
    bundle = bundle_of(bench)
    shutil.rmtree(bench)

    assert report.main([str(bundle), "--output", str(tmp_path / "page")]) == 0

    page = (tmp_path / "page" / "report.html").read_text()
    assert "two inputs of 100 MB that the workflow has made" in page
    assert page.count('class="icicle"') == 1


def test_two_bundles_are_compared(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_run_directory(other, {"none": [200 * MB, 200 * MB]}, sizes=(150 * MB, 500_000, 100_000))
    write_traced(other, "none", 150 * MB)

    assert command.main([str(bundle_of(bench)), str(bundle_of(other))]) == 0

    assert "none: the runner needs 100 MB more at its peak: 100 MB more in `payload`" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [["\x1b[2J\nevil", "/x", 1]] * 2},
        {"peak": [[[0, 1], 1, 10**40]]},
        {"alive": [[[7], [[0, None, 1, 5]]]]},
        {"times_ms": "0"},
        {"command": "x\n\x1b]0;evil"},
    ],
)
def test_hostile_traces_in_a_bundle_cost_a_line_each(
    bench: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    traces = RunDirectory(bench / "why").traces
    (traces / f"{RUN}.worker-1.9.json").write_text(json.dumps(document() | change))
    (traces / f"{RUN}.worker-2.9.json").write_text("[" * 100_000)
    (traces / f"{RUN}.worker-3.9.json").write_text("")
    os.truncate(traces / f"{RUN}.worker-3.9.json", MOST_FILE_BYTES + 1)
    (traces / "unheard-of.json").write_text("{}")

    out, err = told(bundle_of(bench), capsys)

    assert SAID in out
    assert "\x1b" not in out + err
    warnings = [line for line in err.splitlines() if "is no trace of a process" in line]
    assert any("worker-2" in line for line in warnings)
    assert any("worker-3" in line and "more than" in line for line in warnings)
    assert len(warnings) <= 3


def test_a_link_among_traces_is_not_packed(bench: Path) -> None:
    (RunDirectory(bench / "why").traces / f"{RUN}.worker-9.1.json").symlink_to("/etc/passwd")

    with pytest.raises(UsageError, match="is neither a file nor a directory"):
        bundle_of(bench)


def test_a_directory_of_traced_runs_alone_says_what_to_pack(tmp_path: Path) -> None:
    within = write_traced(tmp_path / "bench", "none", 100 * MB)

    with pytest.raises(UsageError, match=r"has traced runs only \(--why only\): pack .*/why"):
        bundle_of(tmp_path / "bench")

    assert bundle_of(within.path).exists()
