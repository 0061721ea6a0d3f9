from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.analysis.compare import SessionComparison, compare_sessions
from harness.analysis.identity import Package
from harness.analysis.readers import read_session
from harness.report.comparison import (
    as_json,
    as_junit,
    as_markdown,
    as_table,
    headline_of,
    package_words,
)
from tests.rundirs import write_run_directory

MB = 1_000_000
STEADY = [100 * MB, 101 * MB, 99 * MB, 100 * MB, 102 * MB]


@pytest.fixture
def worse(tmp_path: Path) -> SessionComparison:
    more = [value + 50 * MB for value in STEADY]
    write_run_directory(tmp_path / "a", {"none": STEADY, "owned-proxy": STEADY[:2]})
    write_run_directory(tmp_path / "b", {"none": more, "owned-proxy": STEADY[:2]})
    return compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))


def test_the_headline_says_what_decides(worse: SessionComparison) -> None:
    assert headline_of(worse) == (
        "net peak: worse in none (+50.0 %), undecided in owned-proxy; threshold 5 %"
    )


def test_the_table_shows_what_changed_and_says_what_it_takes(worse: SessionComparison) -> None:
    text = as_table(worse)
    assert "b (B) beside a (A)" in text
    row = next(line for line in text.splitlines() if line.startswith("none") and "net peak" in line)
    assert row.split() == [
        *("none", "net", "peak", "100", "MB", "150", "MB", "+50.0", "%"),
        *row.split()[9:-1],
        "worse",
    ]
    assert "owned-proxy, net peak: it would take 1 more run of each" in text
    assert "net_peak:redis" in text
    assert "net_peak:worker" not in text
    assert "Not shown of single services:" in text
    assert text.endswith(headline_of(worse))
    assert "net_peak:worker" in as_table(worse, every=True)


def test_markdown_is_a_table_with_its_verdicts_in_words(worse: SessionComparison) -> None:
    text = as_markdown(worse)
    assert text.startswith("### Memory and makespan: net peak: worse in none (+50.0 %)")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].rstrip("| ").endswith("\N{CROSS MARK} worse")
    assert "? undecided" in text
    assert "- owned-proxy, net peak: it would take 1 more run of each" in text


def test_json_has_every_figure(worse: SessionComparison) -> None:
    document = json.loads(as_json(worse))
    assert (document["worse"], document["undecided"]) == (True, True)
    first = document["rows"][0]
    assert (first["metric"], first["verdict"], first["unit"]) == ("net_peak", "worse", "B")
    assert (first["scope"], first["primary"], first["name"]) == ("topology", True, "net_peak")
    services = {row["name"]: row for row in document["rows"] if row["scope"] != "topology"}
    of = ("net_peak", "peak", "baseline", "net_mean", "leftover")
    assert set(services) == {f"{metric}:{name}" for metric in of for name in ("redis", "worker")}
    assert services["leftover:redis"]["a"]["median"] == MB
    assert first["difference"] == 50 * MB
    assert first["a"]["values"] == STEADY
    assert first["test"]["name"] == "Mann-Whitney"
    assert first["low"] <= first["difference"] <= first["high"]
    undecided = next(r for r in document["rows"] if r["mode_a"] == "owned-proxy")
    assert (undecided["verdict"], undecided["needs"]) == ("undecided", "1 more run of each")


NAMES = ("distributed", "dask", "proxystore", "python", "attrs", "bokeh", "cloudpickle", "zict")
MANY = [Package(name, ("1", "2")) for name in NAMES]


@pytest.mark.parametrize(
    ("packages", "names", "said"),
    [
        ([], "ab", ""),
        ([Package("dask", ("1", "2"))], "ab", "dask 1 and 2"),
        (MANY[:2], "ab", "distributed 1 and 2, dask 1 and 2"),
        (
            MANY,
            "ab",
            "distributed 1 and 2, dask 1 and 2, proxystore 1 and 2, python 1 and 2, attrs 1 and 2,"
            " bokeh 1 and 2, and 2 more",
        ),
        (
            [Package("dask", ("1", "2", "1", "3")), Package("zict", ("none", "4", "4", "4"))],
            "abcd",
            "dask 1 in a and c, 2 in b and 3 in d; zict none in a and 4 in b, c and d",
        ),
    ],
)
def test_packages_are_said_in_words(packages: list[Package], names: str, said: str) -> None:
    assert package_words(packages, names) == said


def test_packages_are_one_line_in_text_and_all_in_json(worse: SessionComparison) -> None:
    found = dataclasses.replace(worse, packages=tuple(MANY))
    line = "distributed 1 and 2, dask 1 and 2, proxystore 1 and 2, python 1 and 2, attrs 1 and 2,"
    line += " bokeh 1 and 2, and 2 more"
    assert f"\ndifferent: {line}\n" in as_table(found)
    assert f"\n- {line}\n" in as_markdown(found)
    document = json.loads(as_json(found))
    assert document["packages"] == [{"name": name, "versions": ["1", "2"]} for name in NAMES]


def test_junit_says_what_the_exit_code_says(worse: SessionComparison) -> None:
    suite = ElementTree.fromstring(as_junit(worse))
    assert (suite.get("tests"), suite.get("failures")) == (str(len(worse.rows)), "1")
    case = suite[0]
    assert (case.get("classname"), case.get("name")) == ("none", "net peak")
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "worse: 100 MB before, 150 MB now (+50.0 %)"
    said = {(c.get("classname"), c.get("name")): c for c in suite}
    # Worse, but it does not decide.
    assert said["none", "net_peak:redis"].findtext("system-out", "").startswith("worse: ")
    skipped = said["owned-proxy", "net peak"].find("skipped")
    assert skipped is not None
    assert str(skipped.get("message")).endswith("; 1 more run of each")
    assert suite.get("skipped") == str(sum(1 for _ in suite.iter("skipped")))


def test_steps_are_said_with_their_chances_in_text_page_and_json(tmp_path: Path) -> None:
    copies = {"a": [9, 11, 9, 11, 11, 9, 11, 11], "b": [9, 9, 10, 9, 9, 9, 10, 9]}
    for name, numbers in copies.items():
        peaks = [n * 100 * MB + 6 * MB for n in numbers]
        write_run_directory(tmp_path / name, {"none": peaks}, sizes=(100 * MB, MB, MB))
    found = compare_sessions(read_session(tmp_path / "a"), read_session(tmp_path / "b"))
    said = (
        "peaks fall into steps of 100 MB, A: 9 x in 3 of 8 runs (38 %), 11 x in 5 (62 %);"
        " B: 9 x in 6 of 8 runs (75 %), 10 x in 2 (25 %)"
    )
    assert f"\nnone, net peak: {said}\n" in as_table(found)
    assert f"\n- none, net peak: {said}\n" in as_markdown(found)
    first, *others = json.loads(as_json(found))["rows"]
    assert first["steps"] == {
        "payload_bytes": 100 * MB,
        "a": [
            {"copies": 9, "runs": 3, "share": 0.375},
            {"copies": 11, "runs": 5, "share": 0.625},
        ],
        "b": [
            {"copies": 9, "runs": 6, "share": 0.75},
            {"copies": 10, "runs": 2, "share": 0.25},
        ],
    }
    # The medians lie 200 MB apart; a run of B beside one of A, 100 or 200 MB.
    assert (first["difference"], first["grouped"]) == (-100 * MB, True)
    assert next(row for row in others if row["name"] == "baseline")["steps"] is None
