"""Three significant digits, however large or small a number is."""

from __future__ import annotations

import pytest

from harness.analysis.digits import percent, seconds, three


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12.3456, "12.3"),
        (1.0, "1.00"),
        (0.0012345, "0.00123"),
        (99.96, "100"),
        (999.6, "1000"),
        (1234.5, "1230"),
        (0.09996, "0.100"),
        (-5.6789, "-5.68"),
        (0.0, "0"),
        (-0.0, "0"),
        (float("inf"), "inf"),
    ],
)
def test_a_number_has_three_digits(value: float, shown: str) -> None:
    assert three(value) == shown


def test_units_and_signs_are_said() -> None:
    assert seconds(3.14159) == "3.14 s"
    assert percent(0.98765) == "98.8 %"
    assert percent(0.0123, signed=True) == "+1.23 %"
    assert three(0.0, signed=True) == "0"
