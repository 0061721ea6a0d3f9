from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.workflow.phases import RunTimeout, bounded


def test_what_takes_too_long_is_given_up_with_its_stacks(tmp_path: Path) -> None:
    stacks = tmp_path / "stacks" / "run.txt"
    with pytest.raises(RunTimeout, match=r"0\.05 s"), bounded(0.05, stacks):
        threading.Event().wait(60)
    assert "test_what_takes_too_long" in stacks.read_text()


def test_without_a_limit_and_within_it_nothing_happens(tmp_path: Path) -> None:
    for limit_s in (0.0, 60.0):
        with bounded(limit_s, tmp_path / "none"):
            pass
    assert not (tmp_path / "none").exists()
