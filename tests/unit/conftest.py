"""Property tests use the same examples each time; each test gets its process back as it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "harness",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("harness")


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """A command installs handlers, which must not outlive the test that calls it."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _this_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner whose run took too long ends its process some seconds later: here, all tests."""
    monkeypatch.setattr("harness.workflow.phases._end_at_last", lambda: None)


@pytest.fixture(autouse=True)
def _own_notes(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What benches of this machine have left is no test's business."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
