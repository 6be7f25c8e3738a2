"""Verification of a store from its genesis block: every stored byte hashed, derived again, or signed.

    the file     SQLite's own check, exactly the tables and rows that a node writes      `Store.check_structure`
    settings     genesis block -> network's id; registry -> the digest in the genesis    `Store.read`, `Rules`
    blocks       canonical bytes -> hash -> the key of the row; every rule of `Chain`; each after its parent
    results      bytes -> digest -> the key of the row

What it cannot see: a block or result that is gone altogether where nothing stands on it. The head that a peer or an
earlier verification named shows that. Fraud proofs are signed by whoever accuses; whether they are true only
re-execution shows, by a judge that is handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from splitnet.consensus.audit_records import FraudProof
from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.canonical import decode
from splitnet.consensus.chain import Chain, Judge
from splitnet.consensus.entry import Entry
from splitnet.consensus.errors import ConsensusError, ParentError, StoreError
from splitnet.consensus.receipt import value_digest
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.consensus.store import Row, Step, Store


class BrokenBlockError(ConsensusError):
    """A stored block that breaks a rule.

    Attributes:
        broken: the error of that rule; `rule` is its name.
        height: that the block claims, None where its bytes are no block.
        block_hash: under which it is stored.
    """

    def __init__(self, broken: ConsensusError, height: int | None, block_hash: bytes) -> None:
        where = "a block" if height is None else f"block {height}"
        super().__init__(f"{where} ({block_hash.hex()[:12]}) breaks the rule {broken.rule}: {broken}")
        self.broken, self.height, self.block_hash = broken, height, block_hash

    @property
    def rule(self) -> str:
        return self.broken.rule


@dataclass(frozen=True, slots=True)
class Verified:
    """What a store holds in which nothing is wrong.

    Attributes:
        network: the network's id.
        hashes: of the chain, by height; the first is that of the genesis block, which is the network's id.
        slot: of the head; -1 where there is only the genesis block.
        blocks: stored, of all branches.
        receipts, frauds, voids: that the chain records.
        not_reexecuted: fraud proofs, of all branches, that nobody judged.
        values: results and evidence.
        mined: blocks of the chain by the name of their miner; every AP is there.
    """

    network: bytes
    hashes: tuple[bytes, ...]
    slot: int
    blocks: int
    receipts: int
    frauds: int
    voids: int
    not_reexecuted: int
    values: int
    mined: Mapping[str, int]

    @property
    def height(self) -> int:
        """Blocks of the chain, the genesis block not counted."""
        return len(self.hashes) - 1

    @property
    def head(self) -> bytes:
        """Hash of the chain's last block."""
        return self.hashes[-1]


def verify_store(store: Store, now_ms: int, judge: Judge | None = None, step: Step | None = None) -> Verified:
    """Check all that a store holds.

    Args:
        now_ms: ms since 1970 by this machine's clock.
        judge: re-executes what fraud proofs accuse; without one they are counted.
        step: is told how far it is.

    Raises:
        BrokenBlockError: a block that breaks a rule.
        ConsensusError: something else that is damaged.
    """
    store.check_structure()
    unjudged: list[FraudProof] = []

    def count(fraud: FraudProof) -> bool:
        unjudged.append(fraud)
        return True

    chain = Chain(store.rules, judge or count)
    total, stored = store.block_count(), 0
    for row in store.rows():
        _verify_block(chain, row, now_ms)
        stored = row.number
        if step is not None:
            step(stored, max(stored, total), "verifying blocks")
    values = 0
    for digest, data in store.values():
        values += 1
        if value_digest(data) != digest:
            raise StoreError(f"{store.path} is damaged: what is kept under {digest.hex()[:12]} has another digest")
    return _report(chain, stored, values, len(unjudged))


def _verify_block(chain: Chain, row: Row, now_ms: int) -> None:
    height = None
    try:
        block = decode(row.data, Block, MOST_BLOCK_BYTES)
        height = block.header.height
        found = hash_of(chain.rules, block.sealed)
        if found != row.hash:
            raise StoreError(f"its hash is {found.hex()}, it is stored under {row.hash.hex()}")
        if missing := chain.add(block, now_ms).missing:
            raise ParentError(f"it stands on {missing.hex()[:12]}, which is not stored before it")
    except ConsensusError as error:
        raise BrokenBlockError(error, height, row.hash) from error


def _report(chain: Chain, blocks: int, values: int, not_reexecuted: int) -> Verified:
    entries: list[Entry] = []
    entry: Entry | None = chain.head
    while entry is not None:
        entries.append(entry)
        entry = entry.parent
    entries.reverse()
    recorded = Counter(kind for entry in entries for kind, _ in entry.records)
    mined = Counter(entry.header.miner for entry in entries[1:])
    return Verified(
        network=chain.rules.network,
        hashes=tuple(entry.hash for entry in entries),
        slot=chain.head.place.slot,
        blocks=blocks,
        receipts=recorded["receipt"],
        frauds=recorded["fraud"],
        voids=recorded["void"],
        not_reexecuted=not_reexecuted,
        values=values,
        mined={ap.name: mined[number] for number, ap in enumerate(chain.rules.genesis.aps)},
    )
