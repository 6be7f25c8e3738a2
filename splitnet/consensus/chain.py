"""The tree of valid blocks, and which of its branches is the chain.

Which block is rather the head says `entry.py`. Knows neither clock nor disk nor peers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from splitnet.consensus.audit_records import FraudProof
from splitnet.consensus.block import Block, Body, EntryKey, Header, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.difficulty import difficulty_of, reputation_of, target_of
from splitnet.consensus.entry import Entry
from splitnet.consensus.errors import (
    AheadError,
    ConsensusError,
    EvidenceMissingError,
    FraudProofError,
    RecordedTwiceError,
    StoreError,
)
from splitnet.consensus.genesis import Rules
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.orphans import Orphans
from splitnet.consensus.receipt import SignedReceipt, top_flops, validate_receipt
from splitnet.consensus.validation import (
    Place,
    ReceiptCheck,
    Standing,
    counts_for,
    proved_flops,
    validate_body,
    validate_place,
    validate_reputation,
    validate_sealed,
    validate_slot,
)

Judge = Callable[[FraudProof], bool]
"""Whether re-execution shows what a fraud proof claims."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a block.

    Attributes:
        blocks: those that are in the tree now and were not, parents first: it, and orphans that waited for it.
        left, joined: blocks that are no more in the chain, newest first; that are now, oldest first.
        missing: the parent it waits for, if it is an orphan.
        evidence: digests that orphans wait for whose parents are there now.
    """

    blocks: tuple[Block, ...] = ()
    left: tuple[Entry, ...] = ()
    joined: tuple[Entry, ...] = ()
    missing: bytes | None = None
    evidence: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Branch:
    """The blocks at or below one of the tree, found once for all that a block holds.

    Attributes:
        aside: hashes of those that are not in the chain.
        fork_height: of the highest that is.
    """

    aside: frozenset[bytes]
    fork_height: int


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
        self._orphans = Orphans()

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
        """Hashes of the blocks that wait."""
        return iter(self._orphans)

    def waits(self, block_hash: bytes) -> bool:
        return block_hash in self._orphans

    def missing(self, block_hash: bytes) -> bytes | None:
        """The block that a waiting block, or the lowest below it that waits, waits for; None where that is there."""
        if block_hash not in self._orphans:
            return None
        below = self._orphans[self._orphans.lowest(block_hash)].block.header.previous
        return None if below in self._entries else below

    def in_chain(self, entry: Entry) -> bool:
        return self.at(entry.height) is entry

    def recorded(self, key: EntryKey) -> Entry | None:
        """The block of the chain that holds this."""
        return self._holder(key, self._branch(self.head))

    def _branch(self, upto: Entry) -> _Branch:
        aside = set()
        while not self.in_chain(upto):
            aside.add(upto.hash)
            assert upto.parent is not None
            upto = upto.parent
        return _Branch(frozenset(aside), upto.height)

    def _holder(self, key: EntryKey, branch: _Branch) -> Entry | None:
        """The block of a branch that holds this."""
        for entry in self._holders.get(key, ()):
            if entry.hash in branch.aside or (entry.height <= branch.fork_height and self.in_chain(entry)):
                return entry
        return None

    def add(self, block: Block, now_ms: int) -> Added:
        """Validate a block and put it where it belongs.

        Raises:
            AheadError, EvidenceMissingError: it may be valid yet; add it again then.
            ConsensusError: it, by itself or after its parent, breaks a rule.
        """
        block_hash = hash_of(self.rules, block.sealed)
        waits = block_hash in self._orphans and block.header.previous not in self._entries
        if waits or block_hash in self._entries:
            return Added(missing=self.missing(block_hash))
        self._orphans.discard(block_hash)  # its parent is there
        validate_sealed(self.rules, block.sealed)
        parent = self._entries.get(block.header.previous)
        if parent is not None:  # before the body, which takes longer
            validate_place(self.rules, block.header, parent.place, now_ms)
        validate_body(self.rules, block.header, block.body, self._check)
        if parent is None:
            self._orphans.add(block_hash, block)
            return Added(missing=self.missing(block_hash))
        before = self.head
        self._connect(block_hash, block, parent)
        adopted, evidence = self._adopt([block_hash], now_ms)
        return self._moved(before, (block, *adopted), evidence)

    def retry(self, now_ms: int, came: bytes | None = None) -> Added:
        """Connect orphans whose parents are there.

        Args:
            came: those that waited for this evidence; None: those that waited for their time.
        """
        before, adopted, evidence = self.head, list[Block](), list[bytes]()
        for block_hash in self._orphans.ready(self._entries, came):
            connected, missing = self._connect_orphan(block_hash, now_ms)
            evidence += missing
            if connected is not None:
                more, missing = self._adopt([block_hash], now_ms)
                adopted += [connected, *more]
                evidence += missing
        return self._moved(before, adopted, evidence)

    def candidate(self, body: Body, miner: int, time_ms: int) -> Header:
        """The header of a block on the head, of the slot of the body's plan, ready to be mined.

        Raises:
            ConsensusError: the chain is already at or beyond that slot, or holds some of the body.
        """
        head = self.head
        validate_slot(body.slot, head.place)
        self.validate_new(body, head)
        standing = self._standings(head, body, body.slot, miner)[0][miner]
        return make_header(self.rules, head.place, body, miner, time_ms, standing)

    def holds(self, signed: SignedReceipt) -> bool:
        """Whether a block of the chain holds this receipt, byte for byte."""
        return self._holds(signed, self._branch(self.head))

    def _holds(self, signed: SignedReceipt, branch: _Branch) -> bool:
        holder = self._holder(("receipt", signed.key), branch)
        return holder is not None and holder.records["receipt", signed.key] == leaf_hash(encode(signed))

    def validate_new(self, body: Body, parent: Entry) -> None:
        """What depends on the chain below: a receipt counts once ever, and only what is recorded can be voided.

        Else a liar could use up the one void of its receipt before the receipt counts, or on one that never does.

        Raises:
            RecordedTwiceError: the chain holds some of the body already.
            FraudProofError: a void of a receipt that it does not hold, byte for byte.
        """
        branch = self._branch(parent)
        for key in body.records():
            if holder := self._holder(key, branch):
                kind, (slot, twin) = key
                raise RecordedTwiceError(
                    f"the {kind} of slot {slot} and device {twin} stands in block {holder.height} already"
                )
        for void in body.voids:
            if not self._holds(void.signed, branch):
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
        if entry.rank > self.head.rank:
            self._follow(entry)

    def _standings(
        self, parent: Entry, body: Body, slot: int, miner: int
    ) -> tuple[tuple[Standing, ...], tuple[Standing, ...]]:
        """Of each AP: as this block's reputation counts, and after it.

        A fraud proof takes hold with the block that holds it; a void takes back only what was counted.
        """
        now, branch = list(parent.standings), self._branch(parent)
        suspended = self.rules.genesis.audit.suspended_slots
        for fraud in body.frauds:
            liar = fraud.signed.receipt.ap
            now[liar] = replace(now[liar], suspended_to=max(now[liar].suspended_to, slot + suspended))
        for void in body.voids:
            receipt = void.signed.receipt
            holder = self._holder(("receipt", void.key), branch)
            if holder is not None and _counted(holder, void.signed):
                owed = now[receipt.ap].owed_flops + top_flops(self.rules, receipt)
                now[receipt.ap] = replace(now[receipt.ap], owed_flops=owed)
        after = list(now)
        after[miner] = after[miner].after(slot, proved_flops(self.rules, slot, miner, body))
        return tuple(now), tuple(after)

    def _follow(self, entry: Entry) -> None:
        """Make this the head."""
        joined = []
        while not self.in_chain(entry):
            joined.append(entry)
            assert entry.parent is not None
            entry = entry.parent
        self._chain[entry.height + 1 :] = reversed(joined)

    def _moved(self, before: Entry, blocks: Sequence[Block], evidence: Sequence[bytes]) -> Added:
        left, old = [], before
        while not self.in_chain(old):
            left.append(old)
            assert old.parent is not None
            old = old.parent
        joined = tuple(self._chain[old.height + 1 :])
        return Added(tuple(blocks), tuple(left), joined, evidence=tuple(dict.fromkeys(evidence)))

    def _adopt(self, parents: list[bytes], now_ms: int) -> tuple[list[Block], list[bytes]]:
        """Connect the orphans that waited for these blocks, and those that waited for them.

        Returns:
            Blocks that are in the tree now, and digests of evidence that others wait for.
        """
        adopted, evidence = list[Block](), list[bytes]()
        while parents:
            above = parents.pop()
            for block_hash in self._orphans.children(above):
                connected, missing = self._connect_orphan(block_hash, now_ms)
                evidence += missing
                if connected is not None:
                    parents.append(block_hash)
                    adopted.append(connected)
        return adopted, evidence

    def _connect_orphan(self, block_hash: bytes, now_ms: int) -> tuple[Block | None, list[bytes]]:
        """Connect an orphan whose parent is there; the block where that is done, else what evidence it lacks."""
        orphan = self._orphans[block_hash]
        block, parent = orphan.block, self._entries[orphan.block.header.previous]
        try:
            validate_place(self.rules, block.header, parent.place, now_ms)
            self._connect(block_hash, block, parent)
        except AheadError:
            return None, []
        except EvidenceMissingError as error:
            orphan.evidence = set(error.missing)
            return None, list(error.missing)
        except StoreError:  # the judge's, and nobody's fault
            raise
        except ConsensusError:  # it was invalid all the time; what stands on it will never connect
            self._orphans.discard(block_hash)
            return None, []
        self._orphans.discard(block_hash)
        return block, []


def _counted(holder: Entry, signed: SignedReceipt) -> bool:
    """Whether a receipt was work of the block that holds it, and its miner not suspended."""
    header = holder.header
    suspended = header.slot <= holder.standings[header.miner].suspended_to
    return counts_for(header.slot, header.miner, signed) and not suspended


def make_header(rules: Rules, parent: Place, body: Body, miner: int, time_ms: int, standing: Standing) -> Header:
    """The header that the rules ask for."""
    mining, slot = rules.genesis.mining, body.slot
    reputation = reputation_of(mining, standing.counts(slot, proved_flops(rules, slot, miner, body)))
    difficulty = difficulty_of(mining, reputation)
    return Header(
        previous=parent.hash,
        height=parent.height + 1,
        slot=slot,
        miner=miner,
        plan=body.plan_digest(),
        receipts=body.receipts_root(),
        audits=body.audits_root(),
        reputation_micro=reputation,
        difficulty=difficulty,
        target=target_of(mining, difficulty).to_bytes(32),
        time_ms=max(time_ms, parent.time_ms + 1),
    )
