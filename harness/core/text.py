"""Text from elsewhere (errors, names, logs), made safe to put into a line of ours."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

# Control characters, invisible ones that turn the reading direction, and halves of characters.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

NOT_UTF8 = "is not UTF-8: name another, or a UTF-8 locale (LC_ALL=C.UTF-8)"


def one_line(text: str) -> str:
    """Return text on one line, without anything that a terminal would act on."""
    return "".join(" " if unicodedata.category(c) in _HOSTILE else c for c in text)


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def is_utf8(text: str) -> bool:
    """Say whether a path or an argument is UTF-8, as it is here and as bytes: it may be any."""
    try:
        text.encode()
        os.fsencode(text).decode()
    except UnicodeError:
        return False
    return True
