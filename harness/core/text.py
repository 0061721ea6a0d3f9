"""Text from elsewhere (errors, names, logs), made safe to put into a line of ours."""

from __future__ import annotations

import unicodedata

# Control characters, invisible ones that turn the reading direction, and halves of characters.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    """Return text on one line, without anything that a terminal would act on."""
    return "".join(" " if unicodedata.category(c) in _HOSTILE else c for c in text)
