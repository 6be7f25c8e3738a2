"""A block of the tree, and which of two blocks is rather the head.

Each valid block counts its work divided by gamma, which is the same for all, so the longest branch is the chain.
Counting expected hashes instead would let an AP of low reputation overturn one of high reputation.

Of two branches as long, the one is the chain whose last block has the lower hash * gamma. A valid hash lies anywhere
below its target, 2^256 / (H_0 gamma), with the same chance; so hash * gamma lies anywhere below 2^256 / H_0, whoever
mined it, and a tie says nothing about reputation. The lower hash alone would favour low targets, and with them low
reputation: gamma = 1 beats gamma = e^-2 in 93% of such ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from splitnet.consensus.block import EntryKey, Header, SealedHeader
from splitnet.consensus.validation import Place, Standing


@dataclass(frozen=True, slots=True)
class Entry:
    """A block of the tree; the genesis block has neither sealed header nor parent.

    Attributes:
        standings: of each AP, after this block.
        records: what it records, with the leaf hash of the receipt meant.
    """

    place: Place
    sealed: SealedHeader | None
    parent: Entry | None
    standings: tuple[Standing, ...]
    records: Mapping[EntryKey, bytes] = field(default_factory=dict)

    @property
    def hash(self) -> bytes:
        return self.place.hash

    @property
    def height(self) -> int:
        return self.place.height

    @property
    def header(self) -> Header:
        """Raises ValueError for the genesis block."""
        if self.sealed is None:
            raise ValueError("the genesis block has no header")
        return self.sealed.header

    @property
    def rank(self) -> tuple[int, int, int]:
        """That of the genesis block is below all others."""
        return (0, 0, 0) if self.sealed is None else rank_of(self.hash, self.sealed.header)


def rank_of(block_hash: bytes, header: Header) -> tuple[int, int, int]:
    """By which the head is the highest: height, then hash * gamma, then the hash, the lower the higher."""
    number = int.from_bytes(block_hash)
    return header.height, -number * header.difficulty, -number
