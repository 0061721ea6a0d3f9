"""A gallery of results: what is found, what is said of it, and that no name leads out of it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.core.errors import UsageError
from harness.report.site import INDEX, find
from tests.bundles import small_bundle
from tests.rundirs import MANIFEST, write_run_directory

MB = 1_000_000
DATA = Path(__file__).parents[2] / "data"


def write_result(path: Path, none: int, **manifest: Any) -> Path:
    peaks = {"none": [none * MB] * 5, "owned-proxy": [20 * MB] * 5}
    directory = write_run_directory(path, peaks, interleaved=True)
    directory.manifest.write_text(json.dumps(MANIFEST | manifest))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two results of one name, a bundle, a sweep and what is no result."""
    root = tmp_path_factory.mktemp("gallery")
    write_result(root / "runs" / "a", 30)
    write_result(root / "runs" / "b" / "a", 40, machine={"cpu_model": "<script>alert(1)</script>"})
    small_bundle(root / "runs" / "b", "published.tar.zst")
    write_result(root / "runs" / "sweep-1" / "1-bytes-1MB", 50)
    (root / "runs" / "sweep-1" / "sweep.json").write_text("{}")
    (root / "runs" / "sweep-1" / "sweep.html").write_text("<!doctype html>a sweep")
    (root / "runs" / "broken").mkdir()
    (root / "runs" / "broken" / "results.csv").write_text("nothing,known\n")
    return root


@pytest.fixture(scope="module")
def site(runs: Path) -> Path:
    output = runs / "site"
    assert main.main(["site", str(runs / "runs"), str(DATA / "paper"), "-o", str(output)]) == 0
    return output


def results(site: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((site / "results.json").read_text())
    return {result["name"]: result for result in found["results"]}


def test_every_result_has_a_page_that_needs_nothing_from_elsewhere(site: Path) -> None:
    found = results(site)
    shown = {name for name, result in found.items() if "problem" not in result}
    assert shown >= {"a", "b-a", "1-bytes-1MB", "polaris-default-proxy", "polaris-manual-proxy"}
    for name in shown:
        page = (site / found[name]["page"]).read_text()
        assert '<script src="../plotly.js">' in page
        assert len(page) < 200_000
        assert not re.search(r'(src|href)="(https?:)?//', page)
    assert (site / "pages" / "sweep-1.html").read_text() == "<!doctype html>a sweep"
    index = (site / INDEX).read_text()
    assert '<a href="pages/sweep-1.html">sweep-1</a>' in index
    assert '<script src="plotly.js">' in index


def test_a_result_is_said_with_its_figures(site: Path) -> None:
    result = results(site)["a"]
    assert (result["executor"], result["connector"], result["stages"]) == ("dask", "redis", "2-1")
    assert result["modes"]["none"]["net_peak"] == [30 * MB, 30 * MB, 30 * MB]
    assert result["modes"]["owned-proxy"]["runs"] == 5
    assert result["modes"]["none"]["makespan"][0] == pytest.approx(2.0)
    # What psbench published has no manifest, and still says what it has.
    paper = results(site)["polaris-default-proxy"]
    assert paper["modes"]["default-proxy"]["net_peak"][0] == pytest.approx(37.6e9, rel=0.01)
    assert paper["versions"] == {}


def test_a_bundle_is_there_with_its_hash(site: Path, runs: Path) -> None:
    bundle = runs / "runs" / "b" / "published.tar.zst"
    found = results(site)["published"]
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert found["bundle"]["sha256"] == digest
    assert (site / found["bundle"]["href"]).read_bytes() == bundle.read_bytes()
    assert digest[:12] in (site / INDEX).read_text()


def test_what_cannot_be_shown_is_said(
    site: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(b"no bundle")
    output = tmp_path / "site"
    assert main.main(["site", str(bad), str(runs / "runs" / "a"), "-o", str(output)]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 results" in captured.out
    assert "suspicious: bad: " in captured.err
    assert "Left out: bad: " in (output / INDEX).read_text()


def test_what_a_manifest_says_is_text_and_nothing_else(site: Path) -> None:
    index = (site / INDEX).read_text()
    assert "<script>alert(1)" not in index
    assert "&lt;script&gt;alert(1)" in index


def test_names_stay_inside_and_differ(tmp_path: Path) -> None:
    for name in ("..", "x y<z>", "x-y-z", "\N{SNOWMAN}"):
        (tmp_path / "in" / f"{name}_" / "r").mkdir(parents=True)
        (tmp_path / "in" / f"{name}_" / "r" / "outcomes.csv").write_text("run_id\n")
    names = [source.name for source in find([tmp_path / "in"]).sources]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in names)


def test_a_site_replaces_a_site_and_nothing_else(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    arguments = ["site", str(runs / "runs" / "a"), "--output", str(other)]
    assert main.main(arguments) == 2
    assert f"--output {other}: holds something else" in capsys.readouterr().err
    (other / "mine.txt").unlink()
    assert main.main(arguments) == 0
    assert main.main(arguments) == 0
    with pytest.raises(UsageError, match="holds no result"):
        find([tmp_path / "other" / "bundles"])
    with pytest.raises(UsageError, match="no such file or directory"):
        find([tmp_path / "gone"])
