"""What an audit leaves in the chain: proofs of fraud, and voids of receipts whose activation was withheld.

How audits are done stands in `audit.py`; here is only what is signed, and by whom.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.canonical import Number, Record, Signature, digest_of, encode
from splitnet.consensus.errors import FraudProofError
from splitnet.consensus.genesis import MOST_MEMBERS, Rules
from splitnet.consensus.identity import holds, sign
from splitnet.consensus.receipt import ReceiptKey, SignedReceipt

LEAST_VOTES = 2
"""Of a void; one voter's word proves nothing."""


class FraudProof(Record, frozen=True):
    """A receipt whose result is not what re-execution of its activation gives.

    The evidence, activation and result, is known by the digests in the receipt, and travels beside the proof. Nobody
    needs to believe the verifier: whoever accepts the proof has re-executed it.
    """

    signed: SignedReceipt
    verifier: Number
    signature: Signature

    @property
    def key(self) -> ReceiptKey:
        return self.signed.key


class Vote(Record, frozen=True):
    """One AP's word that the activation of a receipt was asked for in time and not given."""

    verifier: Number
    signature: Signature


class Void(Record, frozen=True):
    """A receipt whose activation was withheld from two other APs and most of them; its work is taken back."""

    signed: SignedReceipt
    votes: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=MOST_MEMBERS)]

    @property
    def key(self) -> ReceiptKey:
        return self.signed.key


def prove_fraud(rules: Rules, key: Ed25519PrivateKey, verifier: int, signed: SignedReceipt) -> FraudProof:
    """The verifier's signed proof."""
    return FraudProof(signed, verifier, sign(key, _digest("fraud", rules, signed, verifier)))


def vote_void(rules: Rules, key: Ed25519PrivateKey, verifier: int, signed: SignedReceipt) -> Vote:
    """The verifier's vote."""
    return Vote(verifier, sign(key, _digest("void", rules, signed, verifier)))


def validate_fraud_signature(rules: Rules, fraud: FraudProof) -> None:
    """The verifier is an AP other than the accused, and signed. Raises FraudProofError."""
    _validate_verifier("fraud", rules, fraud.signed, fraud.verifier, fraud.signature)


def validate_vote(rules: Rules, signed: SignedReceipt, vote: Vote) -> None:
    """The voter is an AP other than the accused, and signed. Raises FraudProofError."""
    _validate_verifier("void", rules, signed, vote.verifier, vote.signature)


def validate_votes(rules: Rules, void: Void) -> None:
    """Different voters, enough of them. Raises FraudProofError."""
    voters = [vote.verifier for vote in void.votes]
    others = len(rules.genesis.aps) - 1
    if voters != sorted(set(voters)) or not enough_votes(rules, len(voters)):
        raise FraudProofError(
            f"a void has the votes of APs {voters}; it takes two and more than half of the other {others}, in "
            f"rising order"
        )
    for vote in void.votes:
        validate_vote(rules, void.signed, vote)


def enough_votes(rules: Rules, votes: int) -> bool:
    """More than half of the APs other than the accused, and two: of two APs neither could void the other's work."""
    return votes >= LEAST_VOTES and 2 * votes > len(rules.genesis.aps) - 1


def _validate_verifier(kind: str, rules: Rules, signed: SignedReceipt, verifier: int, signature: bytes) -> None:
    aps = rules.genesis.aps
    if verifier >= len(aps) or verifier == signed.receipt.ap:
        raise FraudProofError(f"AP {verifier} cannot accuse AP {signed.receipt.ap}: it must be another of {len(aps)}")
    if not holds(aps[verifier].public_key, _digest(kind, rules, signed, verifier), signature):
        raise FraudProofError(f"not signed by the AP {aps[verifier].name}, in whose name it accuses")


def _digest(kind: str, rules: Rules, signed: SignedReceipt, verifier: int) -> bytes:
    return digest_of(kind, rules.network, encode(signed), encode(verifier))
