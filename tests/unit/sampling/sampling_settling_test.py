from __future__ import annotations

from harness.results.conversation import Settled, parse_settled
from harness.sampling.settling import Flatness, settle_by_reading

MS = 1_000_000


def feed(readings: list[int], *, timeout_ms: int = 1000) -> tuple[int, Settled | None]:
    """Give one reading each 20 ms; return the number taken and the verdict."""
    flatness = Flatness(0, 100 * MS, 10, timeout_ms * MS)
    for number, usage in enumerate(readings, 1):
        verdict = flatness.add(number * 20 * MS, usage)
        if verdict is not None:
            return number, verdict
    return len(readings), None


def test_flat_memory_settles_when_the_window_is_covered() -> None:
    assert feed([100, 105, 110, 100, 105, 108, 100]) == (6, Settled("settled", 10))


def test_memory_that_moves_restarts_the_window() -> None:
    assert feed([100, 200, 300, 301, 302, 303, 304, 305, 306]) == (8, Settled("settled", 5))


def test_memory_that_never_settles_times_out_and_says_how_far_off() -> None:
    rising = list(range(0, 10_000, 100))
    taken, verdict = feed(rising, timeout_ms=400)
    assert verdict == Settled("timed out", 500)
    assert taken == 20


def test_a_window_of_nothing_is_settled_at_once() -> None:
    assert Flatness(0, 0, 0, MS).add(5, 77) == Settled("settled", 0)


def test_what_cannot_be_read_is_not_watched() -> None:
    assert settle_by_reading(lambda: None, 1.0, 0, 1.0) == Settled("not watched")


def test_reading_until_flat() -> None:
    readings = iter([0, 50, 100, *[100] * 1000])
    verdict = settle_by_reading(lambda: next(readings), 0.05, 0, 60.0)
    assert verdict == Settled("settled", 0)


def test_a_verdict_survives_the_file() -> None:
    text = Settled("timed out", 5).line("a") + Settled("not watched").line("b") + "c,settled"
    assert parse_settled(text, "a") == Settled("timed out", 5)
    assert parse_settled(text, "b") == Settled("not watched")
    assert parse_settled(text, "c") is None
