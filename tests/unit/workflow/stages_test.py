from __future__ import annotations

import pytest

from harness.plan.prediction import inputs_of_tasks


def test_equal_counts_map_one_to_one() -> None:
    assert inputs_of_tasks(["a", "b"], 2) == [["a"], ["b"]]


def test_one_object_fans_out() -> None:
    assert inputs_of_tasks(["a"], 3) == [["a"], ["a"], ["a"]]


def test_many_objects_fan_in() -> None:
    assert inputs_of_tasks(["a", "b", "c"], 1) == [["a", "b", "c"]]


def test_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 objects cannot be spread over 3 tasks"):
        inputs_of_tasks(["a", "b"], 3)
