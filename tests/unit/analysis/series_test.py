from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from harness.analysis.series import TOPOLOGY, Memory, build

MS = 1_000_000


def reading(
    container: str, service: str, times_ms: list[int], sizes: list[int]
) -> tuple[str, str, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    times = np.asarray(times_ms, np.int64) * MS
    return container, service, times, np.asarray(sizes, np.int64)


def built(*readings: tuple[str, str, npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> Memory:
    memory = build("cgroup", readings)
    assert memory is not None
    return memory


def test_nothing_read_is_no_memory() -> None:
    assert build("cgroup", []) is None
    assert build("cgroup", [reading("a-1", "a", [], [])]) is None


def test_services_are_sums_of_their_containers_at_the_same_tick() -> None:
    memory = built(
        reading("worker-1", "worker", [0, 20, 40], [1, 2, 3]),
        reading("worker-2", "worker", [1, 21, 41], [10, 20, 30]),
        reading("redis-1", "redis", [2, 22, 42], [100, 100, 100]),
    )
    assert memory.tick_ns == 20 * MS
    assert memory.services["worker"].tolist() == [11, 22, 33]
    assert memory.total.tolist() == [111, 122, 133]
    assert memory.containers == {"worker": 2, "redis": 1}


def test_two_readings_in_a_tick_keep_the_higher() -> None:
    memory = built(reading("a-1", "a", [0, 20, 21, 40, 60, 80], [1, 2, 9, 4, 5, 6]))
    assert memory.services["a"].tolist() == [1, 9, 4, 5, 6]


def test_gaps_of_up_to_two_seconds_are_bridged_and_no_longer_ones() -> None:
    times = [0, 500, 1000, 1500, 3500, 6000, 6500]
    memory = built(reading("a-1", "a", times, [1, 2, 3, 4, 5, 6, 7]))
    levels = memory.services["a"]
    assert levels[:8].tolist() == [1, 2, 3, 4, 4, 4, 4, 5]
    assert np.isnan(levels[8:12]).all()
    assert levels[12:].tolist() == [6, 7]
    assert memory.read["a"].tolist() == [1] * 8 + [0] * 4 + [1] * 2


def test_a_container_that_is_gone_counts_nothing_while_others_go_on() -> None:
    memory = built(
        reading("a-1", "a", [0, 1000], [7, 7]),
        reading("a-2", "a", [0, 1000, 2000, 3000, 4000, 5000], [1] * 6),
    )
    assert memory.services["a"].tolist() == [8, 8, 1, 1, 1, 1]
    assert memory.read["a"].tolist() == [2, 2, 1, 1, 1, 1]


def test_one_that_takes_the_place_of_another_is_not_added_to_it() -> None:
    memory = built(
        reading("a-1", "a", [0, 100, 200], [7, 7, 7]),
        reading("a-2", "a", [300, 400, 500], [7, 7, 7]),
    )
    assert memory.services["a"].tolist() == [7] * 6
    assert memory.containers == {"a": 1}


def test_levels_before_a_moment_are_exact_and_not_those_of_its_tick() -> None:
    readings = [
        reading("a-1", "a", [0, 19, 20, 41], [1, 2, 3, 4]),
        reading("b-1", "b", [0, 20, 40, 60], [10, 20, 30, 40]),
    ]
    memory = build("cgroup", readings, moments=[20 * MS, 3 * MS, 100_000 * MS])
    assert memory is not None
    assert memory.level_before(20 * MS, "a") == 2
    assert memory.level_before(20 * MS, TOPOLOGY) == 12
    assert memory.level_before(100_000 * MS, TOPOLOGY) is None, "long after the last reading"
    assert memory.level_before(5, "a") is None, "was not asked for"


@pytest.mark.parametrize("seed", range(5))
def test_no_peak_is_lost_on_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.choice(10_000, 700, replace=False)).astype(np.int64) * MS
    sizes = rng.integers(0, 10**9, 700)
    memory = build("cgroup", [("a-1", "a", times, sizes)])
    assert memory is not None
    assert np.nanmax(memory.services["a"]) == sizes.max()
