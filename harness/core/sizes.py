"""Byte sizes as people write them."""

from __future__ import annotations

from proxystore.utils.data import bytes_to_readable, readable_to_bytes


def parse_size(text: str) -> int:
    """Return a size in bytes; MB is 10^6, MiB is 2^20.

    Raises:
        ValueError: one line that says what a size looks like.
    """
    try:
        size = int(text) if text.strip().isdigit() else readable_to_bytes(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"{text!r} is not a size: write 1000, 10KB, 1.5MB or 2GiB") from None
    if size < 0:
        raise ValueError(f"{text!r} is not a size: it must not be negative")
    return size


def format_size(size_bytes: float) -> str:
    """Return bytes in the largest fitting decimal unit, with three significant places."""
    sign = "-" if size_bytes < 0 else ""
    return sign + bytes_to_readable(round(abs(size_bytes)), 1)
