"""How large a task is for Globus Compute, and what is too large (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.core.pairs import Payloads
from harness.core.text import format_size

MAX_SUBMISSION_BYTES = 10 * 2**20
"""The service's limit for one submission: "10 MB" in its documentation."""

MAX_RESULT_BYTES = 10 * 2**20
"""The endpoint's limit for one serialised result."""

# What a task of this benchmark has besides its payloads: proxies, keyword arguments, the function.
_FIXED_BYTES = 4096


def encoded_bytes(size: int) -> int:
    """Return what ``size`` bytes become: base64 with a line's end after each 76 characters."""
    characters = -(-size // 3) * 4
    return characters + -(-characters // 76)


def serialised_bytes(args: Sequence[Any]) -> int:
    """Return about how many bytes a call's arguments have on their way to the service.

    Payloads are counted, everything else is a fixed allowance: arguments are not serialised twice
    only to be measured.
    """
    return _FIXED_BYTES + encoded_bytes(sum(len(arg) for arg in args if type(arg) is bytes))


def too_large(payloads: Payloads, max_submission_bytes: int) -> str | None:
    """Return which payload cannot pass when bytes go through the service, and why."""
    for what, size, limit, whose in (
        ("a task gets", payloads.input_bytes, max_submission_bytes, "the service takes"),
        ("a task returns", payloads.result_bytes, MAX_RESULT_BYTES, "the endpoint returns"),
    ):
        encoded = _FIXED_BYTES + encoded_bytes(size)
        if encoded > limit:
            return (
                f"{what} {format_size(size)}, which are {format_size(encoded)} serialised, but"
                f" {whose} at most {format_size(limit)} (Globus Compute's limit)"
            )
    return None
