"""UUIDs as people give them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID


def check_uuids(texts: Iterable[str]) -> None:
    """Make sure that each text is a UUID.

    Raises:
        ValueError: naming the first that is none.
    """
    for text in texts:
        try:
            UUID(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a UUID") from None
