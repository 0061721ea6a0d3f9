"""Text for people: made safe to put into a line of ours, and byte sizes as people write them.

Text from elsewhere (errors, names, logs), made safe to put into a line of ours.

Byte sizes as people write them.
"""

from __future__ import annotations

import os
import re
import unicodedata

from proxystore.utils.data import readable_to_bytes

# Control characters, invisible ones that turn the reading direction, and halves of characters.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

NOT_UTF8 = "is not UTF-8: name another, or a UTF-8 locale (LC_ALL=C.UTF-8)"


def one_line(text: str) -> str:
    """Return text on one line, without anything that a terminal would act on."""
    return "".join(" " if unicodedata.category(c) in _HOSTILE else c for c in text)


def is_utf8(text: str) -> bool:
    """Say whether a path or an argument is UTF-8, as it is here and as bytes: it may be any."""
    try:
        text.encode()
        os.fsencode(text).decode()
    except UnicodeError:
        return False
    return True


_UNITS = ("KB", "MB", "GB", "TB", "PB", "EB")

# Stricter than float(), which reads "1_000", "1e3" and digits of every script.
_SIZE = re.compile(r"\s*-?([0-9]+\.?[0-9]*|\.[0-9]+)\s*[A-Za-z]*\s*")


def parse_size(text: str) -> int:
    """Return a size in bytes; MB is 10^6, MiB is 2^20.

    Raises:
        ValueError: one line that says what a size looks like.
    """
    try:
        if _SIZE.fullmatch(text) is None:
            raise ValueError
        size = int(text) if text.strip().isdigit() else readable_to_bytes(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"{text!r} is not a size: write 1000, 10KB, 1.5MB or 2GiB") from None
    if size < 0:
        raise ValueError(f"{text!r} is not a size: it must not be negative")
    return size


def format_size(size_bytes: float) -> str:
    """Return bytes in a decimal unit, to three significant digits: ``1.96 GB``, ``52.0 KB``.

    Below a kilobyte, to the byte.
    """
    size = round(abs(size_bytes))
    sign = "-" if size_bytes < 0 and size else ""
    if size < 1000:
        return f"{sign}{size} B"
    power = 1
    for unit in _UNITS:
        power *= 1000
        for places in (2, 1, 0):
            # In integers, so that 999,950 rounds to the next unit and no digit is lost.
            digits = (size * 10**places + power // 2) // power
            if digits < 1000:
                return f"{sign}{digits / 10**places:.{places}f} {unit}"
    return f"{sign}{digits} {unit}"
