"""Seeded payloads that cost no more memory than their size."""

from __future__ import annotations

import hashlib


def payload(seed: int, label: str, size: int) -> bytes:
    """Return ``size`` pseudo-random, incompressible bytes.

    The bytes are the SHAKE-128 output (FIPS 202) of seed and label, written by the hash
    function straight into the result: nothing of the same size exists beside it.
    ``random.randbytes`` would hold the payload twice, and the measurement would show that.

    Args:
        seed: the plan's seed.
        label: names the object within a workflow; other label, other bytes.
        size: in bytes.
    """
    return hashlib.shake_128(f"{seed}/{label}".encode()).digest(size)
