from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.text import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("10KB", 10_000),
        ("1.5 MB", 1_500_000),
        ("100MB", 100_000_000),
        ("2GiB", 2 * 2**30),
        ("1 mib", 2**20),
    ],
)
def test_sizes_as_the_reference_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "10XB",
        "",
        "MB",
        "-1",
        "-5KB",
        "nan",
        "inf",
        "1 2 3",
        "0x10",
        "1_000",
        "1_0KB",
        "1e3KB",
        "+1KB",
        "٣KB",
        "٣",
    ],
)
def test_what_is_no_size_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (-0.4, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 KB"),
        (1_234_567, "1.23 MB"),
        (-2_000_000, "-2.00 MB"),
        (999_499, "999 KB"),
        (999_950, "1.00 MB"),
        (1_955_000_000, "1.96 GB"),
        (1_880_000_000, "1.88 GB"),
        (52_000, "52.0 KB"),
        (2.5e18, "2.50 EB"),
        (1e22, "10000 EB"),
    ],
)
def test_shown_sizes(size: float, text: str) -> None:
    assert format_size(size) == text


UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15, "EB": 10**18}


@given(st.integers(1000, 999 * 10**18))
def test_three_significant_digits_over_the_whole_range(size: int) -> None:
    number, unit = format_size(size).split(" ")
    assert len(number.replace(".", "")) == 3
    assert number[0] != "0"
    # Off by half of the last digit at most, which is at most one part in 200.
    assert abs(float(number) * UNITS[unit] - size) <= size / 199


@given(st.integers(0, 10**21), st.integers(0, 10**21))
def test_a_larger_size_never_looks_smaller(a: int, b: int) -> None:
    shown = []
    for size in sorted((a, b)):
        number, unit = format_size(size).split(" ")
        shown.append(float(number) * UNITS[unit])
    assert shown[0] <= shown[1]


@given(st.integers(-(10**21), 10**21))
def test_the_sign_is_all_that_a_negative_size_adds(size: int) -> None:
    assert format_size(-abs(size)) == ("-" if size else "") + format_size(abs(size))
