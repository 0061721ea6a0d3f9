from __future__ import annotations

import pytest

from harness.core.sizes import format_size, parse_size


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


@pytest.mark.parametrize("text", ["10XB", "", "MB", "-1", "-5KB", "nan", "inf", "1 2 3", "0x10"])
def test_what_is_no_size_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1_234_567, "1.2 MB"), (-2_000_000, "-2 MB"), (999.6, "1 KB")]
)
def test_shown_sizes(size: float, text: str) -> None:
    assert format_size(size) == text
