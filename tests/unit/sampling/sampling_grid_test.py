from __future__ import annotations

import pytest

from harness.sampling.grid import Every, Grid, Histogram


class FakeClock:
    """A clock that only sleeping and working move on."""

    def __init__(self, oversleep_ns: int = 0) -> None:
        self.now = 1_000_000
        self.oversleep_ns = oversleep_ns

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9) + self.oversleep_ns


def test_ticks_stay_on_the_grid_however_late_each_sleep_ends() -> None:
    clock = FakeClock(oversleep_ns=3_000)
    start = clock.now
    grid = Grid(10_000, sleep=clock.sleep, clock=clock)
    seen: list[tuple[int, int, int]] = []
    for tick in grid.ticks(lambda: len(seen) == 100):
        seen.append((tick.index, clock.now - start, tick.late_ns))
    assert [index for index, _, _ in seen] == list(range(100))
    assert all(at == index * 10_000 + late for index, at, late in seen)
    assert {late for _, _, late in seen[1:]} == {3_000}
    report = grid.report()
    assert (report.ticks, report.missed, report.kept) == (100, 0, 1.0)


def test_points_that_have_passed_are_skipped_and_counted() -> None:
    clock = FakeClock()
    grid = Grid(10_000, sleep=clock.sleep, clock=clock)
    indices: list[int] = []
    for tick in grid.ticks(lambda: len(indices) == 4):
        indices.append(tick.index)
        if tick.index == 1:
            clock.now += 35_000  # the work of tick 1 lasts past the points 2, 3 and 4
    assert indices == [0, 1, 5, 6]
    report = grid.report()
    assert (report.ticks, report.missed) == (4, 3)
    assert report.kept == pytest.approx(4 / 7)
    assert report.late_max_ns == 0


def test_a_late_tick_is_sampled_late_and_says_so() -> None:
    clock = FakeClock()
    grid = Grid(10_000, sleep=clock.sleep, clock=clock)
    ticks: list[tuple[int, int]] = []
    for tick in grid.ticks(lambda: len(ticks) == 3):
        ticks.append((tick.index, tick.late_ns))
        clock.oversleep_ns = 12_000 if tick.index == 0 else 0
    # Point 1 is reached at 22 000: sampled 12 000 late, point 2 has passed, then 3.
    assert ticks == [(0, 0), (1, 12_000), (3, 0)]
    assert grid.report().missed == 1


def test_a_sleep_that_ends_early_is_resumed() -> None:
    clock = FakeClock()
    sleeps: list[float] = []

    def interrupted(seconds: float) -> None:
        sleeps.append(seconds)
        clock.sleep(seconds / 2 if seconds > 1e-6 else seconds)

    grid = Grid(10_000, sleep=interrupted, clock=clock)
    lates: list[int] = []
    for tick in grid.ticks(lambda: len(lates) == 2):
        lates.append(tick.late_ns)
    assert lates == [0, 0]
    assert len(sleeps) > 2


def test_stopping_is_noticed_after_an_interrupted_sleep() -> None:
    clock = FakeClock()
    stopped = []

    def interrupted(_: float) -> None:
        clock.now += 10
        stopped.append(True)

    grid = Grid(1_000_000_000, sleep=interrupted, clock=clock)
    ticks = [tick.index for tick in grid.ticks(lambda: bool(stopped))]
    assert ticks == [0]
    assert clock.now < 1_000_000_000


@pytest.mark.parametrize("interval_ns", [0, -1])
def test_an_interval_must_be_positive(interval_ns: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Grid(interval_ns)


def test_quantiles_are_upper_bounds_within_a_sixteenth() -> None:
    histogram = Histogram()
    values = [n * n for n in range(1, 2001)]
    for value in values:
        histogram.add(value)
    for q in (0.5, 0.95, 0.99):
        exact = values[int(q * len(values)) - 1]
        assert exact <= histogram.quantile(q) <= exact * 17 / 16 + 1
    assert histogram.quantile(1.0) == histogram.max == values[-1]


def test_small_and_negative_values_are_counted_exactly() -> None:
    histogram = Histogram()
    for value in (-5, 0, 7, 15, 16, 31):
        histogram.add(value)
    assert histogram.count == 6
    assert histogram.quantile(0.5) == 7
    assert histogram.quantile(0.34) == 7
    assert histogram.quantile(1.0) == 31


def test_a_histogram_keeps_its_size() -> None:
    histogram = Histogram()
    buckets = len(histogram._counts)
    for value in (1, 10**3, 10**9, 10**15, 10**20):
        histogram.add(value)
    assert len(histogram._counts) == buckets
    assert histogram.quantile(1.0) == 10**20
    assert Histogram().quantile(0.5) == 0


def test_slower_readings_come_every_so_many_ticks() -> None:
    every = Every(200, 20)
    assert [index for index in range(31) if every.due(index)] == [0, 10, 20, 30]


def test_a_slower_reading_whose_tick_was_missed_comes_with_the_next() -> None:
    every = Every(200, 20)
    assert [index for index in (0, 9, 13, 19, 20, 41) if every.due(index)] == [0, 13, 20, 41]


def test_a_reading_cannot_be_faster_than_its_grid() -> None:
    every = Every(5, 20)
    assert all(every.due(index) for index in range(5))
