"""Audits among peers: what the auditor asks for and publishes, and the proofs and voids that wait for a block.

The auditor decides (`auditor.py`); a proof that comes from a peer is believed only after it was re-executed here, by
the same judge that a block's proofs meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from splitnet.consensus import auditor as audits
from splitnet.consensus.audit_records import FraudProof, Void, Vote, validate_fraud_signature
from splitnet.consensus.auditor import Auditor
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Judge
from splitnet.consensus.contact import Contact
from splitnet.consensus.errors import FraudProofError
from splitnet.consensus.instructions import Examine, Instruction, Send
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.messages import Fraud, GetValue, VoidVote
from splitnet.consensus.receipt import ReceiptKey, SignedReceipt
from splitnet.consensus.sizes import MOST_AUDIT_ENTRIES

Key = TypeVar("Key")
Kept = TypeVar("Kept")


class Accusations:
    """Fraud proofs by slot and DT, voids by their whole receipt, and the auditor's part in the gossip.

    One lie about a slot and DT is as good as another; but a void of a second receipt, which was never recorded, would
    push out that of the first.
    """

    def __init__(self, judge: Judge, auditor: Auditor, contacts: Mapping[int, Contact]) -> None:
        """
        Args:
            contacts: of the gossip, which adds and removes them.
        """
        self._judge = judge
        self._auditor = auditor
        self._contacts = contacts
        self.frauds: OrderedDict[ReceiptKey, FraudProof] = OrderedDict()
        self.voids: OrderedDict[bytes, Void] = OrderedDict()
        self._awaited: dict[bytes, list[SignedReceipt]] = {}

    def waiting(
        self, slot: int, recorded: Callable[[str, ReceiptKey], bool], holds: Callable[[SignedReceipt], bool]
    ) -> tuple[tuple[FraudProof, ...], tuple[Void, ...]]:
        """What a block of this slot may hold: voids only of receipts that the chain holds, byte for byte."""
        frauds = [self.frauds[key] for key in sorted(self.frauds) if key[0] <= slot and not recorded("fraud", key)]
        voids = [
            void
            for void in sorted(self.voids.values(), key=lambda void: void.key)
            if void.key[0] <= slot and not recorded("void", void.key) and holds(void.signed)
        ]
        return tuple(frauds[:MOST_AUDIT_ENTRIES]), tuple(voids[:MOST_AUDIT_ENTRIES])

    # --- events

    def receipt_seen(self, signed: SignedReceipt, now_ms: int) -> list[Instruction]:
        """A receipt with its result is here."""
        return self._told(self._auditor.receipt_seen(signed, now_ms / 1000), now_ms)

    def value_came(self, digest: bytes, now_ms: int) -> list[Instruction]:
        """A value is on disk; perhaps an activation that was asked for."""
        return [
            instruction
            for signed in self._awaited.pop(digest, ())
            for instruction in self._told(self._auditor.activation_arrived(signed), now_ms)
        ]

    def refused(self, peer: int, digest: bytes, now_ms: int) -> list[Instruction]:
        """A peer does not have this value, which it was asked for; only the accused answers for an activation."""
        accused = [signed for signed in self._awaited.get(digest, ()) if signed.receipt.ap == peer]
        return [
            instruction for signed in accused for instruction in self._told(self._auditor.refused(signed), now_ms)
        ]

    def examined(self, signed: SignedReceipt, deviation: float | None, now_ms: int) -> list[Instruction]:
        """Re-execution came to an end; None: it is not possible here."""
        if deviation is None:
            return self._told(self._auditor.failed(signed), now_ms)
        return self._told(self._auditor.examined(signed, deviation), now_ms)

    def advance(self, slot: int, now_ms: int) -> list[Instruction]:
        """Time has passed."""
        done = self._told(self._auditor.advance(slot, now_ms / 1000), now_ms)
        for digest, waiting in list(self._awaited.items()):
            waiting[:] = [signed for signed in waiting if self._auditor.state(signed) is audits.State.ASKED]
            if not waiting:
                del self._awaited[digest]
        return done

    def fraud_heard(self, fraud: FraudProof) -> list[Instruction]:
        """A peer's proof, of a valid receipt: believed and passed on if re-execution shows it.

        Raises:
            EvidenceMissingError: fetch it, then hear the proof again.
            ReexecutionError: it cannot be judged here.
            ConsensusError: it proves nothing, or audits are off.
        """
        if self._auditor.rules.genesis.audit.share_millionths == 0:
            raise FraudProofError("a fraud proof, where the genesis block has audits off")
        if fraud.key in self.frauds:
            return []
        validate_fraud_signature(self._auditor.rules, fraud)
        if not self._judge(fraud):
            raise FraudProofError(f"re-execution does not show fraud in slot {fraud.key[0]}, device {fraud.key[1]}")
        return self._keep_fraud(fraud)

    def vote_heard(self, signed: SignedReceipt, vote: Vote, now_ms: int) -> list[Instruction]:
        """A peer's vote against a valid receipt. Raises FraudProofError."""
        return self._told(self._auditor.vote_arrived(signed, vote, now_ms / 1000), now_ms)

    # --- what the auditor says

    def _told(self, instructions: Sequence[audits.Instruction], now_ms: int) -> list[Instruction]:
        done: list[Instruction] = []
        for instruction in instructions:
            match instruction:
                case audits.Ask(signed):
                    done += self._ask(signed, now_ms)
                case audits.Examine(signed):
                    done.append(Examine(signed))
                case audits.PublishFraud(fraud):
                    done += self._keep_fraud(fraud)
                case audits.PublishVote(signed, vote):
                    message = VoidVote(encode(signed), vote.verifier, vote.signature)
                    done += [Send(peer, message) for peer in self._contacts]
                case audits.PublishVoid(void):
                    _keep(self.voids, leaf_hash(encode(void.signed)), void)
        return done

    def _ask(self, signed: SignedReceipt, now_ms: int) -> list[Instruction]:
        """Of the accused, and through it of its gateway: the AP answers for both, whose work it is.

        Its node's `find_value` asks the gateway for what is not in the store. Unless it answers, the auditor votes in
        time.
        """
        digest, accused = signed.receipt.activation, self._contacts.get(signed.receipt.ap)
        self._awaited.setdefault(digest, []).append(signed)
        if accused is None or not accused.ask_value(digest, now_ms):
            return []
        return [Send(signed.receipt.ap, GetValue(digest))]

    def _keep_fraud(self, fraud: FraudProof) -> list[Instruction]:
        _keep(self.frauds, fraud.key, fraud)
        return [Send(peer, Fraud(encode(fraud))) for peer in self._contacts]


def _keep(entries: OrderedDict[Key, Kept], key: Key, entry: Kept) -> None:
    entries[key] = entry
    if len(entries) > MOST_AUDIT_ENTRIES:
        entries.popitem(last=False)
