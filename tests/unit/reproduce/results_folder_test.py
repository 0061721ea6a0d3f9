"""The bundles of ``results/``: whole, small, each named by its executor, and a gallery of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import inspect, site
from harness.executors import executors

RESULTS = Path(__file__).parents[3] / "results"
BUNDLES = sorted(RESULTS.glob("*.tar.zst"))


def test_they_are_named_by_their_executors_and_all_are_small() -> None:
    names = {path.name.removesuffix(".tar.zst") for path in BUNDLES}
    # Ray's and TaskVine's are measured by themselves: docs/ray.md, docs/taskvine.md.
    assert names == set(executors.names()) - {"ray", "taskvine"}
    assert sum(path.stat().st_size for path in BUNDLES) < 6_000_000


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_byte_is_what_it_says(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "-dirty" not in said


def test_the_gallery_shows_all_of_them(tmp_path: Path) -> None:
    assert site.main([str(RESULTS), "--output", str(tmp_path / "site")]) == 0
    shown = json.loads((tmp_path / "site" / "results.json").read_text())["results"]
    assert len(shown) == len(BUNDLES)
    for result in shown:
        assert result["executor"].removesuffix("pool") == result["name"]
        assert result["payload_bytes"] == 161_000_000
        assert result["modes"]["owned-proxy"]["runs"] == 7
        assert "problem" not in result
