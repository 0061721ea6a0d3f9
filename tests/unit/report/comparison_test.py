from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.analysis.compare import SessionComparison, compare_sessions
from harness.analysis.readers import read_session
from harness.report.comparison import as_json, as_junit, as_markdown, as_table, headline
from tests.rundirs import write_run_directory

MB = 1_000_000
STEADY = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]


@pytest.fixture
def worse(tmp_path: Path) -> SessionComparison:
    more = [value + 50 * MB for value in STEADY]
    write_run_directory(tmp_path / "a", {"none": STEADY, "owned-proxy": STEADY[:2]})
    write_run_directory(tmp_path / "b", {"none": more, "owned-proxy": STEADY[:2]})
    return compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))


def test_the_headline_begins_with_the_bad_news(worse: SessionComparison) -> None:
    assert headline(worse) == ("3 worse, 2 indistinguishable, 5 not enough data (threshold 5 %)")


def test_the_table_has_all_rows_and_says_how_many_runs_are_needed(
    worse: SessionComparison,
) -> None:
    text = as_table(worse)
    assert "b (B) beside a (A)" in text
    row = next(line for line in text.splitlines() if line.startswith("none") and "net peak" in line)
    assert row.split() == [
        *("none", "net", "peak", "100", "MB", "150", "MB", "+50.0", "%"),
        *row.split()[9:-1],
        "worse",
    ]
    assert "owned-proxy: with 2 and 2 runs the test cannot go below p = 0.33" in text
    assert "4 of each can (--repeat)" in text


def test_markdown_is_a_table_with_its_verdicts_in_words(worse: SessionComparison) -> None:
    text = as_markdown(worse)
    assert text.startswith("### Memory and makespan: 3 worse")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 10
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].rstrip("| ").endswith("worse")
    assert "not enough data" in rows[-1]


def test_json_has_every_figure(worse: SessionComparison) -> None:
    document = json.loads(as_json(worse))
    assert document["worse"] is True
    first = document["rows"][0]
    assert (first["metric"], first["verdict"], first["unit"]) == ("net_peak", "worse", "B")
    assert first["difference"] == 50 * MB
    assert first["a"]["values"] == STEADY
    assert first["test"]["name"] == "Mann-Whitney"
    assert first["low"] <= first["difference"] <= first["high"]


def test_junit_fails_what_is_worse_and_skips_what_is_not_known(worse: SessionComparison) -> None:
    suite = ElementTree.fromstring(as_junit(worse))
    assert suite.attrib == {
        "name": "harness compare",
        "tests": "10",
        "failures": "3",
        "skipped": "5",
    }
    case = suite[0]
    assert (case.get("classname"), case.get("name")) == ("none", "net peak")
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "worse: 100 MB before, 150 MB now (+50.0 %)"
