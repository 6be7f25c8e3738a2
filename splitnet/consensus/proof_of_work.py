"""The proof of work: nonces whose hash is below a target.

    hash = SHA-256(seal || nonce), as a number below the target     MODEL.md row 10: one in 2^256 / target on average

`search` is the whole computation. Does not know blocks, nor the process that calls it (`mining_process.py`).
"""

from __future__ import annotations

import hashlib
from typing import Final

SEAL_BYTES = HASH_BYTES = 32
"""Of SHA-256's digests."""
NONCE_BYTES = 16
"""So many that no search comes to their end: 2^128 at 2 MH/s take 5e24 years."""
HASHES = 2**256
"""How many different hashes there are: a target is below this."""
NONCES = 2 ** (8 * NONCE_BYTES)
"""How many different nonces there are."""

_LAST_BYTES: Final = tuple(bytes([number]) for number in range(256))


def work_hash(seal: bytes, nonce: bytes) -> bytes:
    """[32] SHA-256(seal || nonce); ValueError unless they have 32 and 16 bytes."""
    check_seal(seal)
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce of {len(nonce)} bytes: it has {NONCE_BYTES}")
    return hashlib.sha256(seal + nonce).digest()


def meets(block_hash: bytes, target: int) -> bool:
    """Whether the hash, most significant byte first, is below the target; ValueError unless it has 32 bytes."""
    if len(block_hash) != HASH_BYTES:
        raise ValueError(f"a hash of {len(block_hash)} bytes: it has {HASH_BYTES}")
    return int.from_bytes(block_hash) < target


def search(seal: bytes, first_nonce: int, count: int, target: int) -> int | None:
    """The first of `count` nonces from `first_nonce` on whose hash is below the target; None if there is none.

    Here a nonce is a number, most significant byte first in its 16 bytes.

    Raises:
        ValueError: the seal has not 32 bytes, nonces below 0 or of more than 16 bytes, a target outside 1..2^256-1.
    """
    check_seal(seal)
    check_target(target)
    end = first_nonce + count
    if first_nonce < 0 or count < 0 or end > NONCES:
        raise ValueError(f"nonces {first_nonce}..{end - 1} are not within 0..2^128-1")
    below, nonce, sha256 = target.to_bytes(HASH_BYTES), first_nonce, hashlib.sha256
    while nonce < end:
        # One state for all nonces that differ in their last byte only: a fifth faster than one for the seal.
        head, last_byte = divmod(nonce, 256)
        copy = sha256(seal + head.to_bytes(NONCE_BYTES - 1)).copy
        lasts = _LAST_BYTES[last_byte : last_byte + end - nonce]
        for last in lasts:
            hasher = copy()
            hasher.update(last)
            if hasher.digest() < below:
                return head * 256 + last[0]
        nonce += len(lasts)
    return None


def check_seal(seal: bytes) -> None:
    """Raises ValueError unless it has 32 bytes."""
    if len(seal) != SEAL_BYTES:
        raise ValueError(f"a seal of {len(seal)} bytes: it has {SEAL_BYTES}")


def check_target(target: int) -> None:
    """Raises ValueError unless it is within 1..2^256-1."""
    if not 0 < target < HASHES:
        raise ValueError(f"target {target} is not within 1..2^256-1")
