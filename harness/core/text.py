"""Text from elsewhere (errors, names, logs), made safe to put into a line of ours."""

from __future__ import annotations

import os
import unicodedata

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
