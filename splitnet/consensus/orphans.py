"""Blocks that cannot be put into the tree yet: they wait for their parent, for evidence, or for their time.

Decides how many are kept: of each miner so many blocks and bytes, so that nobody pushes out another's. Does not know
what is valid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import final

from splitnet.consensus.block import Block
from splitnet.consensus.canonical import encode
from splitnet.consensus.sizes import MOST_BLOCK_BYTES

MOST_OF_A_MINER = 64
"""Blocks of one miner that wait."""
MOST_BYTES_OF_A_MINER = 2 * MOST_BLOCK_BYTES
"""Of its blocks, encoded."""


@dataclass(slots=True)
class Orphan:
    """A block that waits.

    Attributes:
        evidence: digests that it lacks; where its parent is there and nothing is lacking, it waits for its time.
    """

    block: Block
    size: int
    evidence: set[bytes] = field(default_factory=set)


@final
class Orphans:
    """Blocks that wait, by hash."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Orphan] = OrderedDict()

    def __contains__(self, block_hash: object) -> bool:
        return block_hash in self._kept

    def __iter__(self) -> Iterator[bytes]:
        """Oldest first."""
        return iter(self._kept)

    def __getitem__(self, block_hash: bytes) -> Orphan:
        return self._kept[block_hash]

    def add(self, block_hash: bytes, block: Block) -> None:
        """Keep it; the oldest of its miner make room."""
        size = len(encode(block))
        own = {kept: one.size for kept, one in self._kept.items() if one.block.header.miner == block.header.miner}
        count, total = len(own) + 1, sum(own.values()) + size
        for oldest, freed in own.items():
            if count <= MOST_OF_A_MINER and total <= MOST_BYTES_OF_A_MINER:
                break
            self.discard(oldest)
            count, total = count - 1, total - freed
        self._kept[block_hash] = Orphan(block, size)

    def discard(self, block_hash: bytes) -> None:
        self._kept.pop(block_hash, None)

    def children(self, parent: bytes) -> list[bytes]:
        """Those that stand on this block."""
        return [block_hash for block_hash, one in self._kept.items() if one.block.header.previous == parent]

    def lowest(self, block_hash: bytes) -> bytes:
        """The lowest of its ancestors that wait, or itself."""
        while (previous := self._kept[block_hash].block.header.previous) in self._kept:
            block_hash = previous
        return block_hash

    def ready(self, known: Container[bytes], came: bytes | None) -> list[bytes]:
        """Those whose parent is known and that now lack nothing.

        Args:
            came: of those that lacked this evidence; None: of those that waited for their time.
        """
        found = []
        for block_hash, one in self._kept.items():
            if one.block.header.previous in known and (came in one.evidence if came else not one.evidence):
                one.evidence.discard(came or b"")
                if not one.evidence:
                    found.append(block_hash)
        return found
