"""Seeded payloads that cost no more memory than their size, and little time."""

from __future__ import annotations

import hashlib
import io

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

_CHUNK = 256 * 1024
_ZEROS = bytes(_CHUNK)


def payload(seed: int, label: str, size: int) -> bytes:
    """Return ``size`` pseudo-random, incompressible bytes.

    The bytes are the key stream of AES-128 in counter mode (NIST SP 800-38A), whose key and first
    counter are the SHA-256 of seed and label. They are written straight into the result: nothing
    of the same size exists beside it, where ``random.randbytes`` holds the payload twice. Making
    payloads is inside of the measured window, so it is also the fastest generator at hand: a
    quarter of the time of ``random.randbytes`` and a third of SHAKE-128's.

    Args:
        seed: the plan's seed.
        label: names the object within a workflow; other label, other bytes.
        size: in bytes.
    """
    if size == 0:
        return b""
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    encryptor = Cipher(AES(digest[:16]), CTR(digest[16:])).encryptor()
    buffer = io.BytesIO()
    # Writing the last byte first makes the buffer as large as it must be and no larger; one that
    # grows as it is written over-allocates by an eighth.
    buffer.seek(size - 1)
    buffer.write(b"\0")
    with buffer.getbuffer() as view:
        for start in range(0, size, _CHUNK):
            chunk = view[start : start + _CHUNK]
            encryptor.update_into(_ZEROS[: len(chunk)], chunk)
            chunk.release()
    # Not a copy: a BytesIO that nothing else looks into gives its bytes away.
    return buffer.getvalue()
