"""What makes a block valid: first what it says by itself, then what it says after its parent.

Everything but the proof of fraud is derived from bytes alone. Each rule is one small function with its own error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from splitnet.consensus.audit_records import validate_fraud_signature, validate_votes
from splitnet.consensus.block import Block, Body, Header, SealedHeader, hash_of, signing_digest
from splitnet.consensus.difficulty import difficulty_of, reputation_of, target_of
from splitnet.consensus.errors import (
    AheadError,
    BodyError,
    DifficultyError,
    MinerError,
    ParentError,
    PlanError,
    PlannedCutError,
    PlanOfBlockError,
    ReceiptSlotError,
    ReputationError,
    RootError,
    SealSignatureError,
    SlotError,
    TargetError,
    TimeError,
    WorkError,
)
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import holds
from splitnet.consensus.plan import validate_plan
from splitnet.consensus.proof_of_work import meets
from splitnet.consensus.receipt import SignedReceipt, top_flops, validate_receipt
from splitnet.consensus.sizes import MOST_AUDIT_ENTRIES

ReceiptCheck = Callable[[Rules, SignedReceipt], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What audits in the chain so far have left of an AP.

    Attributes:
        suspended_to: last slot in which its reputation is zero; -1 where it is not suspended.
        owed_flops: of receipts that were counted and then voided; taken from what it proves next.
    """

    suspended_to: int = -1
    owed_flops: int = 0

    def counts(self, slot: int, flops: int) -> int:
        """O_j of a block of this slot with receipts for so many FLOPs."""
        return 0 if slot <= self.suspended_to else max(0, flops - self.owed_flops)

    def after(self, slot: int, flops: int) -> Standing:
        """Once such a block stands: what would have counted has paid what was owed."""
        if slot <= self.suspended_to:
            return self
        return replace(self, owed_flops=max(0, self.owed_flops - flops))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block goes: what the rules ask about its parent. The genesis block is at height 0, before slot 0."""

    hash: bytes
    height: int
    slot: int
    time_ms: int

    @classmethod
    def of_genesis(cls, rules: Rules) -> Place:
        return cls(rules.network, 0, -1, rules.genesis.started_ms)

    @classmethod
    def of_block(cls, block_hash: bytes, header: Header) -> Place:
        return cls(block_hash, header.height, header.slot, header.time_ms)


def validate_sealed(rules: Rules, sealed: SealedHeader) -> None:
    """What a sealed header says by itself: cheap to check, dear to forge."""
    header = sealed.header
    validate_miner(rules, header)
    validate_difficulty(rules, header)
    validate_target(rules, header)
    block_hash = hash_of(rules, sealed)
    validate_work(header, block_hash)
    validate_seal_signature(rules, sealed, block_hash)


def validate_miner(rules: Rules, header: Header) -> None:
    """An AP of the genesis block."""
    if header.miner >= len(rules.genesis.aps):
        raise MinerError(f"miner {header.miner} is not an AP: there are {len(rules.genesis.aps)}, counted from 0")


def validate_difficulty(rules: Rules, header: Header) -> None:
    """gamma of the header's reputation, which is within its cap."""
    most = rules.genesis.mining.most_micro
    if header.reputation_micro > most:
        raise ReputationError(f"a reputation of {header.reputation_micro} micro-units is over the cap of {most}")
    right = difficulty_of(rules.genesis.mining, header.reputation_micro)
    if header.difficulty != right:
        raise DifficultyError(
            f"difficulty {header.difficulty}, but a reputation of {header.reputation_micro} micro-units gives {right}"
        )


def validate_target(rules: Rules, header: Header) -> None:
    """The target of the header's difficulty."""
    right = target_of(rules.genesis.mining, header.difficulty)
    if int.from_bytes(header.target) != right:
        raise TargetError(f"target {header.target.hex()} where the difficulty gives {right:064x}")


def validate_work(header: Header, block_hash: bytes) -> None:
    """A hash below the target."""
    if not meets(block_hash, int.from_bytes(header.target)):
        raise WorkError(f"hash {block_hash.hex()} is not below the target {header.target.hex()}")


def validate_seal_signature(rules: Rules, sealed: SealedHeader, block_hash: bytes) -> None:
    """The miner's own signature."""
    miner = rules.genesis.aps[sealed.header.miner]
    if not holds(miner.public_key, signing_digest(rules, block_hash), sealed.signature):
        raise SealSignatureError(f"block {block_hash.hex()[:12]} is not signed by its miner {miner.name}")


def validate_body(rules: Rules, header: Header, body: Body, check: ReceiptCheck = validate_receipt) -> None:
    """What a body says by itself and with its header.

    Args:
        check: of one receipt; a node that has seen it before may know the answer.
    """
    validate_order(rules, body)
    validate_roots(header, body)
    validate_plan_of_block(rules, header, body)
    validate_claim(rules, header, body)
    for signed in body.receipts:
        validate_receipt_slot(header, signed)
        check(rules, signed)
        validate_planned_cut(header, body, signed)
    for fraud in body.frauds:
        validate_receipt_slot(header, fraud.signed)
        check(rules, fraud.signed)
        validate_fraud_signature(rules, fraud)
    for void in body.voids:
        validate_receipt_slot(header, void.signed)
        check(rules, void.signed)
        validate_votes(rules, void)


def validate_order(rules: Rules, body: Body) -> None:
    """Within the limits, by rising slot and DT, none twice."""
    for what, keys, most in (
        ("receipts", [signed.key for signed in body.receipts], rules.genesis.most_receipts),
        ("fraud proofs", [fraud.key for fraud in body.frauds], MOST_AUDIT_ENTRIES),
        ("voids", [void.key for void in body.voids], MOST_AUDIT_ENTRIES),
    ):
        if len(keys) > most:
            raise BodyError(f"{len(keys)} {what} in a block, at most {most}")
        if any(first >= second for first, second in itertools.pairwise(keys)):
            raise BodyError(f"the {what} of a block do not rise by slot and DT")
    if rules.genesis.audit.share_millionths == 0 and (body.frauds or body.voids):
        raise BodyError("a block with fraud proofs or voids, where the genesis block has audits off")


def validate_roots(header: Header, body: Body) -> None:
    """The body that the header commits to."""
    if body.plan_digest() != header.plan:
        raise RootError("the plan is not the one that the header commits to")
    if body.receipts_root() != header.receipts:
        raise RootError("the receipts are not those that the header commits to")
    if body.audits_root() != header.audits:
        raise RootError("the fraud proofs and voids are not those that the header commits to")


def validate_plan_of_block(rules: Rules, header: Header, body: Body) -> None:
    """The controller's plan for exactly this slot: without its word there is no slot."""
    if body.slot != header.slot:
        raise PlanOfBlockError(f"the plan of slot {body.slot} in a block of slot {header.slot}")
    try:
        validate_plan(rules, body.plan)
    except PlanError as error:
        raise PlanOfBlockError(str(error)) from None


def validate_planned_cut(header: Header, body: Body, signed: SignedReceipt) -> None:
    """A receipt that counts was run at the cut that was planned: a lower one would prove more work."""
    receipt = signed.receipt
    if not counts_for(header.slot, header.miner, signed):
        return
    planned = body.plan.plan.cuts[receipt.arrival.twin]
    if receipt.cut != planned:
        raise PlannedCutError(
            f"slot {header.slot}, device {receipt.arrival.twin}: a receipt of cut {receipt.cut} where cut {planned} "
            f"was planned"
        )


def validate_receipt_slot(header: Header, signed: SignedReceipt) -> None:
    """No receipt from a slot to come."""
    if signed.receipt.arrival.slot > header.slot:
        raise ReceiptSlotError(f"a receipt of slot {signed.receipt.arrival.slot} in a block of slot {header.slot}")


def validate_place(rules: Rules, header: Header, parent: Place, now_ms: int) -> None:
    """Right after its parent, in a later slot, at a later time that is not too far ahead."""
    if header.previous != parent.hash or header.height != parent.height + 1:
        raise ParentError(
            f"a block of height {header.height} on {header.previous.hex()[:12]} cannot stand on "
            f"{parent.hash.hex()[:12]} of height {parent.height}"
        )
    validate_slot(header.slot, parent)
    if header.time_ms <= parent.time_ms:
        raise TimeError(f"time {header.time_ms} ms is not after the parent's {parent.time_ms} ms")
    ahead_ms = header.time_ms - now_ms
    if ahead_ms > rules.genesis.most_ahead_ms:
        raise AheadError(
            f"time {header.time_ms} ms is {ahead_ms / 1000:g} s ahead of this clock, at most "
            f"{rules.genesis.most_ahead_ms / 1000:g} s; are the clocks right?"
        )


def validate_slot(slot: int, parent: Place) -> None:
    """After the parent's."""
    if slot <= parent.slot:
        raise SlotError(f"slot {slot} does not come after the parent's slot {parent.slot}")


def proved_flops(rules: Rules, slot: int, miner: int, body: Body) -> int:
    """O_j: top-layer FLOPs of exactly the receipts of this slot and this AP in this body (letter, eq. (2))."""
    return sum(top_flops(rules, signed.receipt) for signed in body.receipts if counts_for(slot, miner, signed))


def counts_for(slot: int, miner: int, signed: SignedReceipt) -> bool:
    """Whether a receipt is work of this slot and AP; others are recorded and never counted."""
    return signed.receipt.arrival.slot == slot and signed.receipt.ap == miner


def validate_claim(rules: Rules, header: Header, body: Body) -> None:
    """No more reputation than the receipts prove, also where the parent, and so what audits took, is not known."""
    most = reputation_of(rules.genesis.mining, proved_flops(rules, header.slot, header.miner, body))
    if header.reputation_micro > most:
        raise ReputationError(
            f"a reputation of {header.reputation_micro} micro-units where the receipts of slot {header.slot} and "
            f"AP {header.miner} give at most {most}"
        )


def validate_reputation(rules: Rules, block: Block, standing: Standing) -> None:
    """The reputation that the miner has earned in this slot, less what audits took."""
    header = block.header
    flops = proved_flops(rules, header.slot, header.miner, block.body)
    right = reputation_of(rules.genesis.mining, standing.counts(header.slot, flops))
    if header.reputation_micro != right:
        raise ReputationError(
            f"a reputation of {header.reputation_micro} micro-units where the receipts of slot {header.slot} and "
            f"AP {header.miner} give {right}"
        )
