"""How often verdicts are wrong: simulated pairs of samples whose truth is known.

    python -m benchmarks.verdicts [--pairs 2000]

Prints the tables of docs/verdicts.md. For each shape and number of runs, pairs are drawn whose
truth is no difference (*false worse*), a difference of exactly the threshold (*wrong equivalent*:
the worst case of a difference that matters), and one of twice the threshold (*missed*). Then
families of rows, and ``--until``. A cell of 2,000 pairs is off by up to one percentage point.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis import statistics
from harness.analysis.statistics import ALPHA_OF_A_LOOK
from harness.analysis.verdicts import ANSWERS, Order, Rules, Sides, Verdict, compare, compare_all
from harness.plan.options import LOOKS

Values = npt.NDArray[np.float64]
THRESHOLD = 0.05
RUNS = (2, 3, 4, 5, 8, 10, 15, 20, 30)
_rng = np.random.default_rng(20261125)


def _steady(n: int) -> Values:
    return _rng.normal(100, 1, n)


def _normal(n: int) -> Values:
    return _rng.normal(100, 3, n)


def _noisy(n: int) -> Values:
    return _rng.normal(100, 10, n)


def _skewed(n: int) -> Values:
    return 95 + _rng.lognormal(1, 0.8, n)


def _two_humped(n: int) -> Values:
    # As `none` has it: how many copies of a payload are alive at once is a race.
    return np.where(_rng.random(n) < 0.5, 100, 150) + _rng.normal(0, 0.5, n)


def _rare_hump(n: int) -> Values:
    return np.where(_rng.random(n) < 0.2, 125, 100) + _rng.normal(0, 1, n)


def _outliers(n: int) -> Values:
    return _rng.normal(100, 2, n) + (_rng.random(n) < 0.1) * 50


SHAPES: dict[str, Callable[[int], Values]] = {
    "normal, 1 %": _steady,
    "normal, 3 %": _normal,
    "normal, 10 %": _noisy,
    "skewed": _skewed,
    "two-humped": _two_humped,
    "rare second hump": _rare_hump,
    "outliers, 1 in 10": _outliers,
}


@dataclass(frozen=True)
class Case:
    """Pairs of samples: their shape, how many runs of each, how they differ, in which order."""

    draw: Callable[[int], Values]
    runs: int
    factor: float = 1.0
    drift: float = 0.0
    order: Order = Order.MIXED

    def verdict(self) -> Verdict:
        """Draw a pair and judge it."""
        a, b = self.draw(self.runs), self.draw(self.runs)
        when = np.arange(2 * self.runs) / (2 * self.runs)
        turns = self.order is Order.MIXED
        first, then = (when[::2], when[1::2]) if turns else np.split(when, 2)
        a, b = a + self.drift * first, (b + self.drift * then) * self.factor
        sides = Sides(a.tolist(), b.tolist(), 0.0, self.order)
        return compare(sides, Rules(THRESHOLD)).verdict

    def rates(self, pairs: int) -> dict[Verdict, float]:
        """Return how often each verdict is said."""
        counts = Counter(self.verdict() for _ in range(pairs))
        return {verdict: counts[verdict] / pairs for verdict in Verdict}


def recommended(draw: Callable[[int], Values]) -> int:
    """Return how many runs on each side show twice the threshold in 4 of 5 comparisons."""
    many = draw(4000)
    more = many * (1 + 2 * THRESHOLD)
    wanted = 2 * THRESHOLD * statistics.median(many.tolist())
    runs = statistics.runs_needed(many.tolist(), more.tolist(), wanted)
    assert runs is not None
    return max(runs, 5)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"


def _table(header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    print(_row(header))
    print(_row(["---", *["---:"] * (len(header) - 1)]))
    for row in rows:
        print(_row(row), flush=True)
    print()


def _shapes(pairs: int) -> Iterator[Sequence[object]]:
    for name, draw in SHAPES.items():
        enough = recommended(draw)
        for order in (Order.MIXED, Order.A_FIRST):
            for runs in sorted({*RUNS, enough}) if order is Order.MIXED else [enough]:
                same = Case(draw, runs, 1, order=order).rates(pairs)
                edge = Case(draw, runs, 1 + THRESHOLD, order=order).rates(pairs)
                twice = Case(draw, runs, 1 + 2 * THRESHOLD, order=order).rates(pairs)
                yield (
                    name if order is Order.MIXED else f"{name}, first A, then B",
                    f"**{runs}**" if runs == enough else runs,
                    _percent(same[Verdict.WORSE]),
                    _percent(same[Verdict.EQUIVALENT]),
                    _percent(edge[Verdict.EQUIVALENT]),
                    _percent(1 - twice[Verdict.WORSE]),
                    _percent(twice[Verdict.EQUIVALENT]),
                )


def _drifts(pairs: int) -> Iterator[Sequence[object]]:
    for drift in (2, 5, 10):
        for order in (Order.MIXED, Order.A_FIRST):
            for runs in (5, 10, 20):
                same = Case(_steady, runs, 1, drift, order).rates(pairs)
                twice = Case(_steady, runs, 1 + 2 * THRESHOLD, drift, order).rates(pairs)
                yield (
                    f"{drift} % over all runs, {order.value}",
                    runs,
                    _percent(same[Verdict.WORSE]),
                    _percent(1 - twice[Verdict.WORSE]),
                )


def _families(pairs: int) -> Iterator[Sequence[object]]:
    rules = Rules(threshold=THRESHOLD)
    for name in ("normal, 3 %", "normal, 10 %", "two-humped", "skewed"):
        for n in (3, 5, 10):
            wrong = Counter[int]()
            for rows in (4, 100):
                for _ in range(pairs // 4):
                    sides = [
                        Sides(SHAPES[name](n).tolist(), SHAPES[name](n).tolist())
                        for _ in range(rows)
                    ]
                    found = compare_all(sides, rules)
                    wrong[rows] += any(each.verdict is Verdict.WORSE for each in found)
            yield name, n, *(_percent(wrong[rows] / (pairs // 4)) for rows in (4, 100))


def _services(pairs: int) -> Iterator[Sequence[object]]:
    """Yield how often any row of four services in four modes is wrong, and any of a family."""
    for name in ("normal, 3 %", "normal, 10 %", "two-humped", "skewed"):
        draw = SHAPES[name]
        for n in (3, 4, 5, 10):
            wrong = np.zeros((pairs // 10, 8), bool)
            for place in np.ndindex(wrong.shape):
                # The rows of the deciding metric, or those of the four others.
                rows = (4, 16)[place[1] % 2]
                sides = [Sides(draw(n).tolist(), draw(n).tolist()) for _ in range(rows)]
                found = compare_all(sides, Rules(threshold=THRESHOLD))
                wrong[place] = any(each.verdict is Verdict.WORSE for each in found)
            yield name, n, _percent(wrong.mean()), _percent(wrong.any(axis=1).mean())


def _until(draw: Callable[[int], Values], factor: float) -> tuple[Verdict, int]:
    """Return how ``--until`` ends for two modes, and after how many runs of each."""
    a, b = draw(LOOKS[-1]).tolist(), (draw(LOOKS[-1]) * factor).tolist()
    rules = Rules(THRESHOLD, ALPHA_OF_A_LOOK)
    verdict, runs = Verdict.UNDECIDED, 0
    for runs in LOOKS:
        verdict = compare(Sides(a[:runs], b[:runs], 0, Order.MIXED), rules).verdict
        if verdict in ANSWERS:
            break
    return verdict, runs


def _sequential(pairs: int) -> Iterator[Sequence[object]]:
    for name, draw in SHAPES.items():
        cells: list[object] = [name]
        for factor, wrong in (
            (1.0, Verdict.WORSE),
            (1 + THRESHOLD, Verdict.EQUIVALENT),
            (1 + 2 * THRESHOLD, None),
        ):
            ends = [_until(draw, factor) for _ in range(pairs // 2)]
            if wrong is None:
                share = sum(verdict is not Verdict.WORSE for verdict, _ in ends) / len(ends)
            else:
                share = sum(verdict is wrong for verdict, _ in ends) / len(ends)
            cells += [_percent(share), f"{np.median([runs for _, runs in ends]):.0f}"]
        yield cells


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000, help="of each cell (default: 2000)")
    pairs = parser.parse_args().pairs
    print(f"Threshold {THRESHOLD:.0%}; {pairs} pairs in each cell; percent.\n")
    _table(
        (
            "shape",
            "runs of each",
            "false worse",
            "equivalent, of the same",
            "wrong equivalent",
            "twice the threshold missed",
            "... called equivalent",
        ),
        _shapes(pairs),
    )
    _table(("drift", "runs of each", "false worse", "twice the threshold missed"), _drifts(pairs))
    _table(
        ("shape", "runs of each", "any of 4 rows false worse", "any of 100 rows"), _families(pairs)
    )
    _table(("shape", "runs of each", "a family false worse", "any of 80 rows"), _services(pairs))
    _table(
        (
            "`--until 5%`",
            "false worse",
            "after runs",
            "wrong equivalent",
            "after runs",
            "twice the threshold missed",
            "after runs",
        ),
        _sequential(pairs),
    )


if __name__ == "__main__":
    main()
