"""Blocks: a header that commits to everything, the proof of work on it, the miner's signature, and a body.

    seal = digest of the header                  one thing, whatever the nonce
    hash = SHA-256(seal || nonce)                below the target
    signature = of the hash, by the miner        nobody mines on the target of another

A block is known by its hash. The signature is not part of it: it could be made anew.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.audit_records import FraudProof, Void
from splitnet.consensus.canonical import Digest, Number, Positive, Record, Signature, digest_of, encode
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import sign
from splitnet.consensus.merkle import leaf_hash, merkle_root
from splitnet.consensus.plan import SignedPlan
from splitnet.consensus.proof_of_work import NONCE_BYTES, work_hash
from splitnet.consensus.receipt import ReceiptKey, SignedReceipt
from splitnet.consensus.sizes import MOST_AUDIT_ENTRIES, MOST_RECEIPTS

MOST_HEADER_BYTES = 1024
"""Of a sealed header, encoded: more than the largest that the rules allow."""

Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
EntryKey: TypeAlias = tuple[str, ReceiptKey]
"""What a chain holds at most once: a receipt, a fraud proof of it, a void of it."""


class Header(Record, frozen=True):
    """What a block commits to.

    Attributes:
        previous: hash of the parent; of block 1 the network's id.
        height: blocks below it.
        slot: t, which rises strictly along a chain.
        miner: j, number of the AP.
        plan: leaf hash of the slot's signed plan.
        receipts: Merkle root of the receipts.
        audits: Merkle root of fraud proofs and voids.
        reputation_micro: U_j in micro-units, from the receipts of this slot and this AP in this block.
        difficulty: gamma_j in units of 1e-18.
        target: [32] a number, most significant byte first.
        time_ms: ms since 1970 by the miner's clock, after the parent's.
    """

    previous: Digest
    height: Positive
    slot: Number
    miner: Number
    plan: Digest
    receipts: Digest
    audits: Digest
    reputation_micro: Number
    difficulty: Positive
    target: Digest
    time_ms: Number


class SealedHeader(Record, frozen=True):
    """A header with its proof of work and the miner's signature."""

    header: Header
    nonce: Nonce
    signature: Signature


class Body(Record, frozen=True):
    """What the header's digests commit to.

    Attributes:
        plan: of the block's slot, by the controller.
        receipts: by rising slot and DT.
        frauds, voids: by rising slot and DT of the receipt.
    """

    plan: SignedPlan
    receipts: Annotated[tuple[SignedReceipt, ...], msgspec.Meta(max_length=MOST_RECEIPTS)] = ()
    frauds: Annotated[tuple[FraudProof, ...], msgspec.Meta(max_length=MOST_AUDIT_ENTRIES)] = ()
    voids: Annotated[tuple[Void, ...], msgspec.Meta(max_length=MOST_AUDIT_ENTRIES)] = ()

    @property
    def slot(self) -> int:
        """t, of the plan and so of the block."""
        return self.plan.plan.slot

    def plan_digest(self) -> bytes:
        """[32] for the header."""
        return leaf_hash(encode(self.plan))

    def receipts_root(self) -> bytes:
        """[32] for the header."""
        return merkle_root(map(encode, self.receipts))

    def audits_root(self) -> bytes:
        """[32] for the header; a proof and a void are told apart by their kind."""
        return merkle_root(
            [b"fraud" + encode(fraud) for fraud in self.frauds] + [b"void" + encode(void) for void in self.voids]
        )

    def records(self) -> dict[EntryKey, bytes]:
        """Everything in it, with the leaf hash of the receipt meant."""
        entries = [
            *(("receipt", signed) for signed in self.receipts),
            *(("fraud", fraud.signed) for fraud in self.frauds),
            *(("void", void.signed) for void in self.voids),
        ]
        return {(kind, signed.key): leaf_hash(encode(signed)) for kind, signed in entries}


class Block(Record, frozen=True):
    """A sealed header and its body."""

    sealed: SealedHeader
    body: Body

    @property
    def header(self) -> Header:
        return self.sealed.header


def seal_of(rules: Rules, header: Header) -> bytes:
    """[32] what is mined on."""
    return digest_of("block", rules.network, encode(header))


def hash_of(rules: Rules, sealed: SealedHeader) -> bytes:
    """[32] the block's hash."""
    return work_hash(seal_of(rules, sealed.header), sealed.nonce)


def sign_block(rules: Rules, key: Ed25519PrivateKey, header: Header, nonce: bytes, body: Body) -> Block:
    """The whole block, once a nonce has been found."""
    block_hash = work_hash(seal_of(rules, header), nonce)
    return Block(SealedHeader(header, nonce, sign(key, signing_digest(rules, block_hash))), body)


def signing_digest(rules: Rules, block_hash: bytes) -> bytes:
    """[32] what the miner signs."""
    return digest_of("sealed", rules.network, block_hash)
