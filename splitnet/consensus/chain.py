"""The tree of valid blocks, and which of its branches is the chain.

Each valid block counts its work divided by gamma, which is the same for all, so the longest branch is the chain; of
two as long, the one whose last hash is lower. Counting expected hashes instead would let an AP of low reputation
overturn one of high reputation. Knows neither clock nor disk nor peers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from splitnet.consensus.audit_records import FraudProof
from splitnet.consensus.block import Block, Body, EntryKey, Header, SealedHeader, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.difficulty import difficulty_of, reputation_of, target_of
from splitnet.consensus.errors import ConsensusError, FraudProofError, RecordedTwiceError
from splitnet.consensus.genesis import Rules
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.receipt import top_flops, validate_receipt
from splitnet.consensus.validation import (
    Place,
    ReceiptCheck,
    Standing,
    proved_flops,
    validate_body,
    validate_place,
    validate_reputation,
    validate_sealed,
    validate_slot,
)

MOST_ORPHANS_OF_A_MINER = 64
"""Blocks whose parent is not known yet; each miner pushes out only its own."""

Judge = Callable[[FraudProof], bool]
"""Whether re-execution shows what a fraud proof claims."""


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


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a block.

    Attributes:
        blocks: those that are in the tree now and were not, parents first: it, and orphans that waited for it.
        left, joined: blocks that are no more in the chain, newest first; that are now, oldest first.
        missing: the parent it waits for, if it is an orphan.
    """

    blocks: tuple[Block, ...] = ()
    left: tuple[Entry, ...] = ()
    joined: tuple[Entry, ...] = ()
    missing: bytes | None = None


class Chain:
    """Valid blocks by hash, the head, and orphans."""

    def __init__(self, rules: Rules, judge: Judge, check: ReceiptCheck = validate_receipt) -> None:
        """
        Args:
            judge: re-executes what a fraud proof accuses.
            check: of one receipt by itself.
        """
        self.rules = rules
        self._judge = judge
        self._check = check
        genesis = Entry(Place.of_genesis(rules), None, None, (Standing(),) * len(rules.genesis.aps))
        self._entries = {genesis.hash: genesis}
        self._chain = [genesis]
        self._holders: dict[EntryKey, list[Entry]] = {}
        self._orphans: OrderedDict[bytes, Block] = OrderedDict()

    @property
    def head(self) -> Entry:
        """The last block of the chain."""
        return self._chain[-1]

    def __contains__(self, block_hash: object) -> bool:
        return block_hash in self._entries

    def get(self, block_hash: bytes) -> Entry | None:
        return self._entries.get(block_hash)

    def at(self, height: int) -> Entry | None:
        """The chain's block at a height."""
        return self._chain[height] if 0 <= height < len(self._chain) else None

    def __len__(self) -> int:
        """Blocks of the chain, the genesis block not counted."""
        return len(self._chain) - 1

    def orphans(self) -> Iterator[bytes]:
        """Hashes of the blocks that wait for their parent."""
        return iter(self._orphans)

    def waits(self, block_hash: bytes) -> bool:
        return block_hash in self._orphans

    def missing(self, block_hash: bytes) -> bytes | None:
        """The block that the lowest known ancestor of a waiting block waits for."""
        if block_hash not in self._orphans:
            return None
        while block_hash in self._orphans:
            block_hash = self._orphans[block_hash].header.previous
        return block_hash

    def in_chain(self, entry: Entry) -> bool:
        return self.at(entry.height) is entry

    def recorded(self, key: EntryKey, upto: Entry | None = None) -> Entry | None:
        """The block that holds this, at or below `upto` (the head by default)."""
        holders = self._holders.get(key)
        if not holders:
            return None
        return next((entry for entry in holders if self._is_below(entry, upto or self.head)), None)

    def _is_below(self, entry: Entry, upto: Entry) -> bool:
        while not self.in_chain(upto):
            if upto is entry:
                return True
            assert upto.parent is not None
            upto = upto.parent
        return entry.height <= upto.height and self.in_chain(entry)

    def add(self, block: Block, now_ms: int) -> Added:
        """Validate a block and put it where it belongs.

        Raises:
            ConsensusError: it, by itself or after its parent, breaks a rule; nothing has changed.
        """
        block_hash = hash_of(self.rules, block.sealed)
        if block_hash in self._entries or block_hash in self._orphans:
            return Added(missing=self.missing(block_hash))
        validate_sealed(self.rules, block.sealed)
        parent = self._entries.get(block.header.previous)
        if parent is not None:  # before the body, which takes longer
            validate_place(self.rules, block.header, parent.place, now_ms)
        validate_body(self.rules, block.header, block.body, self._check)
        if parent is None:
            self._keep_orphan(block_hash, block)
            return Added(missing=self.missing(block_hash))
        before = self.head
        self._connect(block_hash, block, parent)
        return self._moved(before, (block, *self._adopt(block_hash, now_ms)))

    def candidate(self, body: Body, slot: int, miner: int, time_ms: int) -> Header:
        """The header of a block on the head, ready to be mined.

        Raises:
            ConsensusError: the chain is already at or beyond that slot, or holds some of the body.
        """
        head = self.head
        validate_slot(slot, head.place)
        self.validate_new(body, head)
        standing = self._standings(head, body, slot, miner)[0][miner]
        return make_header(self.rules, head.place, body, slot, miner, time_ms, standing)

    def validate_new(self, body: Body, parent: Entry) -> None:
        """What depends on the chain below: a receipt counts once ever, and only what is recorded can be voided.

        Else a liar could use up the one void of its receipt before the receipt counts, or on one that never does.

        Raises:
            RecordedTwiceError: the chain holds some of the body already.
            FraudProofError: a void of a receipt that it does not hold, byte for byte.
        """
        for key in body.records():
            if holder := self.recorded(key, parent):
                kind, (slot, twin) = key
                raise RecordedTwiceError(
                    f"the {kind} of slot {slot} and device {twin} stands in block {holder.height} already"
                )
        for void in body.voids:
            holder = self.recorded(("receipt", void.key), parent)
            if holder is None or holder.records["receipt", void.key] != leaf_hash(encode(void.signed)):
                slot, twin = void.key
                raise FraudProofError(
                    f"a void of slot {slot} and device {twin}: the chain below holds no such receipt"
                )

    def _connect(self, block_hash: bytes, block: Block, parent: Entry) -> None:
        """Validate a block after its parent, and put it into the tree."""
        header, body = block.header, block.body
        self.validate_new(body, parent)
        before, after = self._standings(parent, body, header.slot, header.miner)
        validate_reputation(self.rules, block, before[header.miner])
        for fraud in body.frauds:
            if not self._judge(fraud):
                raise FraudProofError(
                    f"re-execution does not show that AP {fraud.signed.receipt.ap} lied in slot {fraud.key[0]} "
                    f"about device {fraud.key[1]}"
                )
        entry = Entry(Place.of_block(block_hash, header), block.sealed, parent, after, body.records())
        self._entries[block_hash] = entry
        for key in entry.records:
            self._holders.setdefault(key, []).append(entry)
        if (entry.height, _inverted(entry.hash)) > (self.head.height, _inverted(self.head.hash)):
            self._follow(entry)

    def _standings(
        self, parent: Entry, body: Body, slot: int, miner: int
    ) -> tuple[tuple[Standing, ...], tuple[Standing, ...]]:
        """Of each AP: as this block's reputation counts, and after it.

        A fraud proof takes hold with the block that holds it; a void takes back only what was counted.
        """
        now = list(parent.standings)
        suspended = self.rules.genesis.audit.suspended_slots
        for fraud in body.frauds:
            liar = fraud.signed.receipt.ap
            now[liar] = replace(now[liar], suspended_to=max(now[liar].suspended_to, slot + suspended))
        for void in body.voids:
            receipt = void.signed.receipt
            holder = self.recorded(("receipt", void.key), parent)
            if holder and holder.header.miner == receipt.ap and holder.header.slot == receipt.arrival.slot:
                owed = now[receipt.ap].owed_flops + top_flops(self.rules, receipt)
                now[receipt.ap] = replace(now[receipt.ap], owed_flops=owed)
        after = list(now)
        after[miner] = after[miner].after(proved_flops(self.rules, slot, miner, body))
        return tuple(now), tuple(after)

    def _follow(self, entry: Entry) -> None:
        """Make this the head."""
        joined = []
        while not self.in_chain(entry):
            joined.append(entry)
            assert entry.parent is not None
            entry = entry.parent
        self._chain[entry.height + 1 :] = reversed(joined)

    def _moved(self, before: Entry, blocks: Sequence[Block]) -> Added:
        left, old = [], before
        while not self.in_chain(old):
            left.append(old)
            assert old.parent is not None
            old = old.parent
        return Added(tuple(blocks), tuple(left), tuple(self._chain[old.height + 1 :]))

    def _keep_orphan(self, block_hash: bytes, block: Block) -> None:
        own = [kept for kept, orphan in self._orphans.items() if orphan.header.miner == block.header.miner]
        if len(own) >= MOST_ORPHANS_OF_A_MINER:
            del self._orphans[own[0]]
        self._orphans[block_hash] = block

    def _adopt(self, parent_hash: bytes, now_ms: int) -> Iterator[Block]:
        """Connect the orphans that waited for this block, and those that waited for them."""
        parents = [parent_hash]
        while parents:
            above = parents.pop()
            for block_hash, orphan in [item for item in self._orphans.items() if item[1].header.previous == above]:
                del self._orphans[block_hash]
                try:
                    validate_place(self.rules, orphan.header, self._entries[above].place, now_ms)
                    self._connect(block_hash, orphan, self._entries[above])
                except ConsensusError:  # it was invalid all the time; what stands on it will never connect
                    continue
                parents.append(block_hash)
                yield orphan


def make_header(
    rules: Rules, parent: Place, body: Body, slot: int, miner: int, time_ms: int, standing: Standing
) -> Header:
    """The header that the rules ask for."""
    mining = rules.genesis.mining
    reputation = reputation_of(mining, standing.counts(slot, proved_flops(rules, slot, miner, body)))
    difficulty = difficulty_of(mining, reputation)
    return Header(
        previous=parent.hash,
        height=parent.height + 1,
        slot=slot,
        miner=miner,
        receipts=body.receipts_root(),
        audits=body.audits_root(),
        reputation_micro=reputation,
        difficulty=difficulty,
        target=target_of(mining, difficulty).to_bytes(32),
        time_ms=max(time_ms, parent.time_ms + 1),
    )


def _inverted(block_hash: bytes) -> int:
    """Higher for a lower hash."""
    return -int.from_bytes(block_hash)
