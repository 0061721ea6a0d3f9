"""Asking the system for what it may refuse."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import pytest

from harness.sampling.grid import raise_descriptor_limit, raise_priority


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_real_time_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    def schedule(pid: int, policy: int, param: os.sched_param) -> None:
        asked.append((pid, policy, param.sched_priority))

    monkeypatch.setattr(os, "sched_setscheduler", schedule)
    monkeypatch.setattr(os, "nice", refuse)
    assert raise_priority() == "SCHED_FIFO 1"
    # This process alone, at the lowest real-time priority.
    assert asked == [(0, os.SCHED_FIFO, 1)]


@pytest.mark.parametrize(("nice", "granted"), [(lambda by: 5 + by, "nice -5"), (refuse, "normal")])
def test_what_is_refused_is_less_or_nothing(
    monkeypatch: pytest.MonkeyPatch, nice: Callable[[int], int], granted: str
) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "nice", nice)
    assert raise_priority() == granted


def test_descriptors_are_as_many_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.append((which, both)))
    raise_descriptor_limit()
    assert limits == [(resource.RLIMIT_NOFILE, (4096, 4096))]
