"""Which headers and blocks an AP node asks of whom, so that its chain catches up with its peers' chains.

By headers, then bodies: headers are cheap to check and dear to forge, so nobody fills this node with blocks that
cannot become its chain. Knows neither what is in a block nor what becomes of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from splitnet.consensus.block import MOST_HEADER_BYTES, SealedHeader, hash_of
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.contact import HEADERS, Contact
from splitnet.consensus.errors import ParentError
from splitnet.consensus.instructions import Drop, Instruction, Send
from splitnet.consensus.messages import (
    MOST_BLOCKS_ASKED,
    MOST_HEADERS,
    MOST_LOCATOR,
    GetBlocks,
    GetHeaders,
    GetValue,
)
from splitnet.consensus.validation import Place, validate_place, validate_sealed

MOST_ASIDE = 1024
"""Blocks that cannot be judged now, so that they are not fetched again and again."""


class CatchUp:
    """What is wanted of which peer. Its methods return what is to be asked."""

    def __init__(self, chain: Chain, peers: Mapping[int, Contact]) -> None:
        """`peers`: those that are connected now."""
        self._chain, self._peers = chain, peers
        self._aside: OrderedDict[bytes, set[bytes]] = OrderedDict()
        """By hash, with the evidence that they lack; with none of it where this node cannot judge them at all."""

    # --- headers

    def ask_headers(self, peer: int, now_ms: int, after: bytes | None = None) -> list[Instruction]:
        """Ask for what follows our chain, named by hashes that thin out towards the genesis block; once at a time."""
        state = self._peers[peer]
        if not state.ask(HEADERS, now_ms):
            return []
        state.announced_more = False
        locator = [] if after is None else [after]
        height, step = self._chain.head.height, 1
        while height > 0 and len(locator) < MOST_LOCATOR - 1:
            entry = self._chain.at(height)
            assert entry is not None
            locator.append(entry.hash)
            step = step * 2 if len(locator) > 8 else step
            height -= step
        return [Send(peer, GetHeaders([*locator, self._chain.rules.network]))]

    def headers_after(self, locator: Sequence[bytes]) -> list[bytes]:
        """Sealed headers of the chain after the first block of the locator that it has; the answer to a peer."""
        known = (self._chain.get(block_hash) for block_hash in locator)
        start = next((entry.height for entry in known if entry is not None and self._chain.in_chain(entry)), 0)
        found: list[bytes] = []
        while len(found) < MOST_HEADERS and (entry := self._chain.at(start + 1 + len(found))):
            found.append(encode(entry.sealed))
        return found

    def announced(self, peer: int, data: bytes, now_ms: int) -> list[Instruction]:
        """Fetch an announced block, or first the headers that lead to it."""
        state, sealed = self._peers[peer], decode(data, SealedHeader, MOST_HEADER_BYTES)
        block_hash = hash_of(self._chain.rules, sealed)
        state.learn(block_hash)
        if block_hash in self._chain or block_hash in state.asked or block_hash in state.wanted:
            return []
        validate_sealed(self._chain.rules, sealed)
        if sealed.header.previous in self._chain:
            state.wanted.append(block_hash)
            return self.fetch(peer, now_ms)
        state.announced_more = True
        return self.ask_headers(peer, now_ms)

    def headers(self, peer: int, sealed: Sequence[bytes], now_ms: int) -> list[Instruction]:
        """Check headers that were asked for, and fetch their blocks."""
        rules, state = self._chain.rules, self._peers[peer]
        if state.asked.pop(HEADERS, None) is None:
            return [Drop(peer, "it sent headers that nobody asked for")]
        place: Place | None = None
        for data in sealed:
            one = decode(data, SealedHeader, MOST_HEADER_BYTES)
            if (lacking := self._aside.get(hash_of(rules, one))) is not None:  # nor can be judged what stands on it
                return self.ask_values(lacking, [peer], now_ms) + self.fetch(peer, now_ms)
            if place is None:
                parent = self._chain.get(one.header.previous)
                if parent is None:
                    raise ParentError(
                        f"headers that start on {one.header.previous.hex()[:12]}, which nobody asked for"
                    )
                place = parent.place
            validate_sealed(rules, one)
            validate_place(rules, one.header, place, now_ms)
            place = Place.of_block(hash_of(rules, one), one.header)
            state.learn(place.hash)
            if place.hash not in self._chain and place.hash not in state.wanted and place.hash not in state.asked:
                state.wanted.append(place.hash)
        state.more_after = place.hash if place and len(sealed) == MOST_HEADERS else None
        return self.fetch(peer, now_ms)

    # --- blocks

    def fetch(self, peer: int, now_ms: int) -> list[Instruction]:
        """Ask for the next blocks that its headers promised; then for more headers."""
        state = self._peers[peer]
        if state.asked:
            return []
        hashes: list[bytes] = []
        while state.wanted and len(hashes) < MOST_BLOCKS_ASKED:
            block_hash = state.wanted.popleft()
            if block_hash not in self._chain:
                hashes.append(block_hash)
                state.ask(block_hash, now_ms)
        if hashes:
            return [Send(peer, GetBlocks(hashes))]
        if state.more_after is not None:
            after, state.more_after = state.more_after, None
            return self.ask_headers(peer, now_ms, after)
        if state.announced_more:
            return self.ask_headers(peer, now_ms)
        return []

    def set_aside(self, block_hash: bytes, lacking: Iterable[bytes]) -> None:
        """A block that cannot be judged before these values are here, or never by this node."""
        self._aside[block_hash] = set(lacking)
        if len(self._aside) > MOST_ASIDE:
            self._aside.popitem(last=False)

    def is_aside(self, block_hash: bytes) -> bool:
        """Whether it was set aside and still is."""
        return block_hash in self._aside

    def value_came(self, digest: bytes) -> None:
        """A value is here: blocks that lacked nothing else can be fetched again."""
        for block_hash in [block_hash for block_hash, lacking in self._aside.items() if digest in lacking]:
            self._aside[block_hash].discard(digest)
            if not self._aside[block_hash]:
                del self._aside[block_hash]

    def ask_values(self, digests: Iterable[bytes], peers: Iterable[int], now_ms: int) -> list[Instruction]:
        """Ask these peers for values; each once at a time."""
        wanted = tuple(digests)
        return [
            Send(peer, GetValue(digest))
            for peer in peers
            for digest in wanted
            if self._peers[peer].ask_value(digest, now_ms)
        ]
