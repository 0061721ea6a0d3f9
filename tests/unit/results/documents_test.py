from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.documents import (
    SHAPES,
    clean,
    find_directory,
    misfit,
    read_document,
    read_json,
    write_json,
)
from harness.results.rows import ResultRow, columns

HEADER = ",".join(columns(ResultRow)) + "\n"


def test_a_document_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"command": ["é"], "off": float("inf"), "n": [1.5]})
    assert read_json(tmp_path / "manifest.json") == {"command": ["é"], "off": None, "n": [1.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_what_is_read_is_safe_to_print_and_to_reckon_with() -> None:
    assert clean({"a\x1b": ["\u202e", "\udcff", float("nan"), 2**70, True, None]}) == {
        "a ": [" ", " ", None, None, True, None]
    }


@pytest.mark.parametrize(
    ("kind", "document", "wrong"),
    [
        ("manifest", {"plan": "x"}, "plan"),
        ("manifest", {"plan": {"general": {"csv_file": 3}}}, "plan.general.csv_file"),
        ("manifest", {"images": {"dask": None}}, "images.dask"),
        ("manifest", {"command": ["a", 1]}, "command[1]"),
        ("sampling", {"cgroup": None}, "cgroup"),
        ("sampling", {"cgroup": {"a": {"grid": {"kept": 1}}}}, "cgroup.a.grid.interval_ns"),
        ("sampling", {"cgroup": {"a": {"absent": {"psi": 3}}}}, "cgroup.a.absent.psi"),
        ("quality", {"identity": {"p95_bytes": "many"}}, "identity.p95_bytes"),
        ("summary", {"modes": [{"metrics": {"x": {}}}]}, "modes[0].metrics.x.median"),
        ("calibration", {"agreement": {"inside": True}}, "agreement.inside"),
        ("manifest", {"plan": None, "notes": None, "more": 3}, ""),
        ("sampling", {}, ""),
    ],
)
def test_where_a_document_is_not_ours_is_said(kind: str, document: object, wrong: str) -> None:
    assert misfit(document, SHAPES[kind]) == wrong


def test_a_document_that_does_not_fit_is_ignored_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    assert read_document(path) == ({}, ())
    path.write_text('{"identity": 3}')
    document, (line,) = read_document(path)
    assert document == {}
    assert line == f"{path}: identity is not what the harness writes there; ignored"
    path.write_bytes(b"\xff")
    assert read_document(path)[1] == (f"{path}: not a JSON object; ignored",)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(kind=st.sampled_from(sorted(SHAPES)), document=JSON, key=st.text())
def test_any_json_fits_or_is_one_line(kind: str, document: Any, key: str) -> None:
    keys = [name.removesuffix("!") for name in SHAPES[kind]]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{kind}.json"
        for each in (document, dict.fromkeys([*keys, key], document)):
            path.write_text(json.dumps(each))
            found, problems = read_document(path)
            assert isinstance(found, dict)
            assert all("\n" not in line for line in problems)


def test_a_directory_is_found_by_its_manifest_its_names_or_its_columns(tmp_path: Path) -> None:
    assert find_directory(tmp_path)[0] is None
    (tmp_path / "b.csv").write_text(HEADER)
    directory, _ = find_directory(tmp_path)
    assert directory is not None
    assert (directory.csv_name, directory.host_memory.name) == ("b.csv", "b-memory.csv")
    (tmp_path / "a.csv").write_text(HEADER)
    (tmp_path / "manifest.json").write_text('{"plan": {"general": {"csv_file": "b.csv"}}}')
    directory, problems = find_directory(tmp_path)
    assert directory is not None
    assert (directory.csv_name, problems) == ("b.csv", [])
