from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.session import WorkloadFacts, distinct_names, parse_sizes

PARTS = st.lists(st.sampled_from(["a", "b", "run"]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a"], ["a"]),
        (["/x/a", "/x/b"], ["a", "b"]),
        (["/old/run", "/new/run"], ["old/run", "new/run"]),
        # Only those that are alike get longer, and only as far as it takes.
        (["/old/run", "/new/run", "/new/b"], ["old/run", "new/run", "b"]),
        (["/1/x/run", "/2/x/run", "/2/y/run"], ["1/x/run", "2/x/run", "y/run"]),
        (["/run", "/x/run"], ["/run", "x/run"]),
        (["/x/a", "/x/a", "/x/b"], ["1 a", "2 a", "b"]),
        (["/old/run", "/new/run", "/new/run"], ["old/run", "2 new/run", "3 new/run"]),
    ],
)
def test_directories_are_called_by_the_shortest_ends_that_differ(
    paths: list[str], names: list[str]
) -> None:
    assert distinct_names([Path(path) for path in paths]) == names


@given(st.lists(PARTS, min_size=1, max_size=6))
def test_names_are_distinct_ends_of_their_paths(parts: list[list[str]]) -> None:
    paths = [Path("/", *each) for each in parts]
    names = distinct_names(paths)
    assert len(set(names)) == len(names)
    for path, name in zip(paths, names, strict=True):
        alone = [other.name for other in paths].count(path.name) == 1
        bare = name.partition(" ")[2] or name
        assert str(path).endswith(bare)
        assert not alone or name == path.name


def test_sizes_are_of_each_object_or_of_each_level_together() -> None:
    assert parse_sizes("100-10") == ((100, 10), ())
    assert parse_sizes("total:100-10") == ((), (100, 10))
    for wrong in ("total:", "total:1-x", "all:1"):
        with pytest.raises(ValueError, match=r"^(|1-x|all:1)$"):
            parse_sizes(wrong)


def test_a_graph_has_its_levels_bytes_and_least_time() -> None:
    graph = WorkloadFacts("E", "C", (2, 3), (), 1, 0.5, total_bytes=(10, 20, 30))
    assert graph.payload_bytes == 60
    assert graph.ideal_s == 1.0
    other = replace(graph, total_bytes=(10, 20, 31))
    assert graph.differences(other) == {"bytes of each level": ("10 20 30", "10 20 31")}
