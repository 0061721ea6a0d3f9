"""What all commands read alike."""

from __future__ import annotations

import argparse

import pytest

from harness.core.parser import share


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("0%", 0.0), ("150%", 1.5)]
)
def test_a_share(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "1", "-1%", "-0.1", "nan", "inf%", "nan%", "x", "", "%"])
def test_what_may_be_meant_either_way_is_no_share(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 5% or 0\.05"):
        share(text)
