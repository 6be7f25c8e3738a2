"""Merkle root of a list: a commitment to its items, their order and their number.

Leaves and inner nodes are hashed under different first bytes, so that no node can be shown as a leaf. A node without
a partner moves up as it is: doubling it, as elsewhere, would give two lists one root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

LEAF, NODE, EMPTY = b"\x00", b"\x01", b"\x02"
"""The first byte of what is hashed, so that no leaf passes for a node nor an empty tree for either."""


def leaf_hash(item: bytes) -> bytes:
    """[32] of one item."""
    return hashlib.sha256(LEAF + item).digest()


def merkle_root(items: Iterable[bytes]) -> bytes:
    """[32] root of the items' canonical bytes."""
    level = [leaf_hash(item) for item in items]
    if not level:
        return hashlib.sha256(EMPTY).digest()
    while len(level) > 1:
        paired = [
            hashlib.sha256(NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]
