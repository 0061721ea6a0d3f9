"""The phases around a run: their marks, what is trimmed when, and what is written down."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import Executor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.connectors import Held
from harness.connectors._protocol import ServerMemory
from harness.core import trim as trim_module
from harness.plan import Plan
from harness.results.conversation import MarkWriter, Settled
from harness.results.events import PhaseRow, StorageRow
from harness.results.rows import RowWriter
from harness.workflow import phases as phases_module
from harness.workflow.phases import Phases
from tests.fake_engine import FakeClock

RUN = "0001-none-1"


class Around:
    """A run's surroundings, which write down in one list what happens in which order."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.happened: list[str] = []
        self.phases_rows: list[PhaseRow] = []
        self.storage_rows: list[StorageRow] = []
        self.holds = Held(0, 0)
        self.server: ServerMemory | None = None
        self.executor = object()
        self.connector = object()
        self.freezes: list[bool] = []
        self.lacks: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self.can_trim = True
        plan = SimpleNamespace(
            general=SimpleNamespace(after=7.0, baseline_bound=1000, baseline_window=0.1),
            executor=SimpleNamespace(trim=self._trim_workers),
            connector=SimpleNamespace(
                held=lambda connector: self._of(connector, self.holds),
                server_memory=lambda connector: self._of(connector, self.server),
                trim=self._trim_servers,
            ),
        )
        self.phases = Phases(
            cast("Plan", plan),
            cast("MarkWriter", SimpleNamespace(write=self._mark)),
            self._settle,
            phases=cast("RowWriter[PhaseRow]", SimpleNamespace(write=self.phases_rows.append)),
            storage=cast("RowWriter[StorageRow]", SimpleNamespace(write=self.storage_rows.append)),
            executor=cast("Executor", self.executor),
            connector=cast("Any", self.connector),
        )

    def _of(self, connector: object, answer: Any) -> Any:
        assert connector is self.connector
        return answer

    def _mark(self, run_id: str, mark: str) -> None:
        assert run_id == RUN
        self.happened.append(mark)

    def _settle(self, run_id: str) -> Settled:
        assert run_id == RUN
        self.happened.append("settle")
        self.clock.sleep(2)
        return Settled("settled", 512)

    def _trim_workers(self, executor: object, theirs: Callable[[], Any]) -> tuple[str, ...]:
        assert executor is self.executor
        theirs()
        self.happened[-1] = "trim workers"
        self.clock.sleep(3)
        return self.lacks[0]

    def _trim_servers(self, connector: object) -> tuple[str, ...]:
        self.happened.append("trim servers")
        assert connector is self.connector
        return self.lacks[1]

    def trim(self, *, freeze: bool = False) -> bool:
        """Stands for the trimming of one process."""
        self.freezes.append(freeze)
        self.happened.append("trim here")
        return self.can_trim


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Around:
    around = Around()
    monkeypatch.setattr(phases_module, "time", around.clock)
    monkeypatch.setattr(phases_module, "trim", around.trim)
    return around


def test_the_phases_come_in_order_and_everything_is_trimmed_between_its_marks(
    around: Around,
) -> None:
    around.phases.baseline(RUN)
    assert around.phases.run(lambda: around.happened.append("work") or 42) == 42  # type: ignore[func-returns-value]
    around.phases.run_ended()
    around.phases.after()
    assert around.happened == [
        *("baseline_start", "settle", "baseline_end"),
        *("run_start", "work", "run_end"),
        *("after_start", "trim workers", "trim servers", "trim here", "trimmed", "after_end"),
    ]
    # What was asked for after it is sampled once all is trimmed.
    assert around.clock.slept[-1] == 7.0
    assert around.phases_rows == [
        PhaseRow(
            run_id=RUN,
            baseline="settled",
            baseline_ns=2_000_000_000,
            spread_bytes=512,
            bound_bytes=1000,
            window_ns=100_000_000,
            trim_ns=3_000_000_000,
            not_trimmed="",
        )
    ]


def test_work_that_fails_has_no_end(around: Around) -> None:
    around.phases.baseline(RUN)
    with pytest.raises(ZeroDivisionError):
        around.phases.run(lambda: 1 // 0)
    assert around.happened[-1] == "run_start"


def test_storage_counts_beyond_what_was_there_before_the_run(around: Around) -> None:
    around.holds = Held(5, 500)
    around.phases.baseline(RUN)
    around.holds = Held(7, 800)
    around.server = ServerMemory(90, 100)
    around.phases.audit(1, 2)
    assert around.phases.run_ended() == Held(2, 300)
    around.holds = Held(6, 600)
    assert around.phases.after() == Held(1, 100)
    found = [
        (row.mark, row.cycle, row.stage, row.objects, row.size_bytes) for row in around.storage_rows
    ]
    assert found == [
        ("baseline_end", None, None, 0, 0),
        ("stage", 1, 2, 2, 300),
        ("run_end", None, None, 2, 300),
        ("after_start", None, None, 1, 100),
        ("trimmed", None, None, 1, 100),
    ]
    servers = [(row.server_used_bytes, row.server_rss_bytes) for row in around.storage_rows]
    assert servers == [(None, None), *[(90, 100)] * 4]
    times = [row.t_mono_ns for row in around.storage_rows]
    assert times == sorted(times)
    assert {row.run_id for row in around.storage_rows} == {RUN}


def test_a_second_run_starts_from_what_the_first_has_left(around: Around) -> None:
    around.holds = Held(3, 30)
    around.phases.baseline(RUN)
    around.holds = Held(4, 40)
    around.phases.baseline(RUN)
    assert around.phases.held() == Held(0, 0)


def test_what_cannot_be_trimmed_is_written_down(around: Around) -> None:
    around.lacks = (("the workers",), ("the server",))
    around.can_trim = False
    around.phases.baseline(RUN)
    around.phases.after()
    said = "the workers; the server; any process: this C library has no malloc_trim"
    assert around.phases_rows[0].not_trimmed == said


def test_only_workers_that_were_started_for_this_are_frozen(around: Around) -> None:
    around.phases.trim()
    around.phases.trim(freeze_workers=True)
    # Each time the workers' first, then this process's own, which the runner freezes itself.
    assert around.freezes == [False, False, True, False]


@pytest.mark.parametrize("freeze", [False, True])
def test_trimming_collects_and_freezes_only_if_asked(
    monkeypatch: pytest.MonkeyPatch, freeze: bool
) -> None:
    did: list[object] = []
    monkeypatch.setattr(gc, "collect", lambda: did.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: did.append("freeze"))
    monkeypatch.setattr(trim_module, "_malloc_trim", lambda: did.append)
    assert trim_module.trim(freeze=freeze)
    assert did == ["collect", *(["freeze"] if freeze else []), 0]
    monkeypatch.setattr(trim_module, "_malloc_trim", lambda: None)
    assert not trim_module.trim()
