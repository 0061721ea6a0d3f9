"""Sweeps: what varies in a plan, and one line for everything that is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.core.flags import Parser
from harness.plan import add_plan_flags, parse_plan
from harness.plan.sweep import Sweep, Value, sweep_of, value_of
from tests.bench_plans import stages_of

LINE = (
    "--executor dask --ps-connector redis --stage-task-counts 1 {width} --stage-bytes-sizes"
    " {bytes} {bytes} 1KB --task-sleep 0 --repeat=2"
)
BASE = LINE.split()


def parser() -> Parser:
    found = Parser(prog="harness sweep", allow_abbrev=False)
    add_plan_flags(found, containers=True)
    return found


PARSER = parser()


def sweep(table: dict[str, Any]) -> Sweep:
    return sweep_of(table, PARSER.foldable, BASE, lambda name: f"plan.toml: [sweep] {name}")


def texts(found: Sweep, name: str) -> list[str]:
    return [str(cell.values[name]) for cell in found.cells()]


def test_parameters_are_crossed_the_last_one_fastest() -> None:
    found = sweep({"bytes": ["1MB", "10MB"], "width": [1, 2], "repeat": [3]})
    assert texts(found, "bytes") == ["1MB", "1MB", "10MB", "10MB"]
    assert texts(found, "width") == ["1", "2", "1", "2"]
    plan = parse_plan(PARSER, found.cells()[3].words(BASE, PARSER.foldable), containers=True)
    assert stages_of(plan).stage_bytes_sizes == (10_000_000, 10_000_000, 1000)
    assert stages_of(plan).stage_task_counts == (1, 2)
    assert plan.general.repeat == 3


def test_those_that_are_zipped_take_their_values_in_step() -> None:
    table = {"bytes": ["1MB", "10MB"], "dask-workers": [2, 4], "width": [1, 2]}
    found = sweep(table | {"zip": ["bytes", "dask-workers"]})
    assert texts(found, "bytes") == ["1MB", "1MB", "10MB", "10MB"]
    assert texts(found, "dask-workers") == ["2", "2", "4", "4"]
    assert texts(found, "width") == ["1", "2", "1", "2"]


def test_a_flag_of_several_words_replaces_the_whole_flag() -> None:
    table = {
        "stage-bytes-sizes": [["1MB", "1MB", "1KB"], ["2MB", "{width}MB", "1KB"]],
        "width": [3],
    }
    found = sweep(table)
    words = found.cells()[0].words(BASE, PARSER.foldable)
    assert words.count("--stage-bytes-sizes") == 1
    plan = parse_plan(PARSER, words, containers=True)
    assert stages_of(plan).stage_bytes_sizes == (1_000_000, 1_000_000, 1000)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"from": 1, "to": 8, "factor": 2}, ["1", "2", "4", "8"]),
        ({"from": 1, "to": 2, "step": 0.25}, ["1", "1.25", "1.5", "1.75", "2"]),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, ["0.1", "0.2", "0.3"]),
        ({"from": "1MB", "to": "100MB", "factor": 10}, ["1MB", "10MB", "100MB"]),
        ({"from": "1KB", "to": "3KB", "step": "1KB"}, ["1KB", "2KB", "3KB"]),
        ({"from": "1000", "to": "4.5KB", "factor": 3}, ["1KB", "3KB"]),
        ({"from": 1, "to": 9, "factor": 3}, ["1", "3", "9"]),
    ],
)
def test_a_range_has_both_its_ends(given: dict[str, Any], expected: list[str]) -> None:
    assert texts(sweep({"bytes": given, "width": [1]}), "bytes") == expected


def test_numbers_and_sizes_have_a_place_on_an_axis() -> None:
    assert value_of(["10MB"]) == Value(("10MB",), 10_000_000.0)
    assert value_of(["2.5"]).number == 2.5
    assert value_of(["redis"]).number is None
    assert value_of(["1MB", "1MB"]).number is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"zip": ["bytes", "width"]}, "nothing varies"),
        ({"Bytes": [1]}, "Bytes: is no name"),
        ({"size": [1]}, "size: neither a flag of a plan nor used: write {size}"),
        ({"bytes": []}, "bytes: takes a list of values"),
        ({"bytes": "1MB"}, "bytes: takes a list of values"),
        ({"bytes": [True]}, "True is neither text nor a number"),
        ({"bytes": [[]]}, "neither text nor a number"),
        ({"bytes": ["1MB", "1MB"]}, "a value is there twice"),
        ({"bytes": list(range(101))}, "101 values; a parameter has at most 100"),
        ({"bytes": {"from": 1, "to": 2}}, "a range has from, to, and step or factor"),
        ({"bytes": {"from": 1, "to": 2, "step": 0}}, "a range grows"),
        ({"bytes": {"from": 1, "to": 2, "factor": 1}}, "a range grows"),
        ({"bytes": {"from": 0, "to": 2, "factor": 2}}, "a range grows"),
        ({"bytes": {"from": 3, "to": 2, "step": 1}}, "a range grows"),
        ({"bytes": {"from": "x", "to": 2, "step": 1}}, "from: 'x' is neither a number"),
        ({"bytes": {"from": 0, "to": 1e9, "step": 1}}, "values; a parameter has at most"),
        (
            {"bytes": [1], "width": [1, 2], "zip": ["bytes", "width"]},
            "needs as many values of each",
        ),
        ({"bytes": [1], "zip": ["bytes", "x"]}, "'x' is not one of the parameters"),
        ({"bytes": [1], "zip": [["bytes"]]}, "takes lists of two names or more"),
        (
            {"bytes": list(range(40)), "width": list(range(40))},
            "1600 cells; a sweep has at most 1000",
        ),
    ],
)
def test_one_line_names_the_parameter(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        sweep(table)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("plan.toml: [sweep] ")
