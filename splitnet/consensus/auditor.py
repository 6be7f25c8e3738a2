"""What an AP does about other APs' receipts: events in, instructions out. No sockets, no tensors, no clock.

    state      event                               new state   instructions
    (none)     receipt seen, drawn                 asked       Ask
    (none)     another AP's vote                   asked       Ask
    asked      activation arrived                  running     Examine
    asked      refused, or no answer in time       withheld    PublishVote
    running    within two tolerances               cleared
    running    beyond                              proved      PublishFraud
    running    cannot be run here                  withheld    PublishVote
    asked,     enough votes                        voided      PublishVoid
    withheld

A vote makes every AP ask, because each draws by itself: without that an activation that is withheld from the few
who drew it would never be voided. Whoever is given it does not vote. A model whose weights nobody else holds
cannot be audited, so it is voided as if withheld: else a made-up fingerprint would be a way round.

An AP may sign two receipts for one slot and DT, so cases are told apart by the whole signed receipt. Memory is
bounded for each accused AP and each voter, so that no one crowds out the others; what is over a bound is not audited.

Does not know: how bytes travel (`Ask` goes to the AP, whose work it is, and which asks its gateway), and which
receipts the chain holds.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.audit import PUBLISH_BEYOND, exceeds, is_drawn
from splitnet.consensus.audit_records import (
    FraudProof,
    Void,
    Vote,
    enough_votes,
    prove_fraud,
    validate_vote,
    vote_void,
)
from splitnet.consensus.canonical import encode
from splitnet.consensus.genesis import Rules
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.receipt import SignedReceipt


@dataclass(frozen=True, slots=True)
class Terms:
    """How long and how much; no rule of the chain.

    Attributes:
        answer_s: from asking to the vote.
        kept_slots: for which a gateway keeps an activation. Older receipts are neither asked for nor voted on.
        most_open: cases that wait for an answer or run, for each accused AP.
        most_called: cases that one voter may have opened at a time.
        most_known: closed cases, and receipts that were not drawn, that are remembered for each accused AP.
    """

    answer_s: float = 10.0
    kept_slots: int = 8
    most_open: int = 1024
    most_called: int = 64
    most_known: int = 4096

    def __post_init__(self) -> None:
        if self.answer_s <= 0 or self.kept_slots < 1 or min(self.most_open, self.most_called, self.most_known) < 1:
            raise ValueError(f"terms must be positive: {self}")


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for the activation; report `activation_arrived` or `refused`."""

    signed: SignedReceipt


@dataclass(frozen=True, slots=True)
class Examine:
    """Run it again (`audit.examine`); report `examined`, or `failed` where that cannot be."""

    signed: SignedReceipt


@dataclass(frozen=True, slots=True)
class PublishFraud:
    """Record and relay it, and keep the evidence for whoever asks."""

    fraud: FraudProof


@dataclass(frozen=True, slots=True)
class PublishVote:
    signed: SignedReceipt
    vote: Vote


@dataclass(frozen=True, slots=True)
class PublishVoid:
    """Enough votes are there: record it in the next block."""

    void: Void


Instruction: TypeAlias = Ask | Examine | PublishFraud | PublishVote | PublishVoid


class State(Enum):
    """Of a case; those that wait for an answer or run are open."""

    ASKED = auto()
    RUNNING = auto()
    WITHHELD = auto()
    CLEARED = auto()
    PROVED = auto()
    VOIDED = auto()


@dataclass(slots=True)
class _Case:
    signed: SignedReceipt
    state: State
    deadline_s: float
    caller: int | None
    """The voter that opened it."""
    votes: dict[int, Vote] = field(default_factory=dict)


class Auditor:
    """The cases of one AP."""

    def __init__(
        self, rules: Rules, number: int, key: Ed25519PrivateKey, chance: random.Random, terms: Terms | None = None
    ) -> None:
        """
        Args:
            number, key: of this AP.
            chance: which receipts to audit; its own and secret (`secrets.SystemRandom()`).
        """
        self.rules = rules
        self.number = number
        self.terms = terms or Terms()
        self._key = key
        self._chance = chance
        self._slot = 0
        self._open: dict[bytes, _Case] = {}
        self._closed: tuple[OrderedDict[bytes, _Case | None], ...] = tuple(OrderedDict() for _ in rules.genesis.aps)
        """By accused AP, oldest first; None for receipts that were not drawn."""

    def state(self, signed: SignedReceipt) -> State | None:
        """Of this receipt's case; None where there is none."""
        case = self._case(signed)
        return case.state if case else None

    def __len__(self) -> int:
        """Receipts that are remembered."""
        return len(self._open) + sum(map(len, self._closed))

    def receipt_seen(self, signed: SignedReceipt, now_s: float) -> list[Instruction]:
        """A valid receipt with its result is here, for the first time or again."""
        identity = _identity(signed)
        if self._is_known(signed, identity) or not self._may_audit(signed):
            return []
        if is_drawn(self.rules.genesis.audit, self._chance):
            return self._begin(signed, identity, now_s, caller=None)
        self._remember(signed.receipt.ap, identity, None)
        return []

    def vote_arrived(self, signed: SignedReceipt, vote: Vote, now_s: float) -> list[Instruction]:
        """Another AP says that the activation of a valid receipt was withheld from it.

        Raises:
            FraudProofError: not its signature, or not one who may vote.
        """
        validate_vote(self.rules, signed, vote)
        if vote.verifier == self.number or not self._may_audit(signed):
            return []
        instructions: list[Instruction] = []
        if self._case(signed) is None:
            instructions = self._begin(signed, _identity(signed), now_s, caller=vote.verifier)
        case = self._case(signed)
        if case is None:  # over a bound
            return []
        case.votes.setdefault(vote.verifier, vote)
        return instructions + self._combined(case)

    def activation_arrived(self, signed: SignedReceipt) -> list[Instruction]:
        """The activation with the signed digest is here."""
        case = self._in_state(signed, State.ASKED)
        if case is None:
            return []
        case.state = State.RUNNING
        return [Examine(signed)]

    def refused(self, signed: SignedReceipt) -> list[Instruction]:
        """Whoever was asked says that it does not have the activation."""
        case = self._in_state(signed, State.ASKED)
        return self._voted(case) if case else []

    def examined(self, signed: SignedReceipt, deviation: float) -> list[Instruction]:
        """Re-execution came to an end."""
        case = self._in_state(signed, State.RUNNING)
        if case is None:
            return []
        if not exceeds(self.rules.genesis.audit, deviation, PUBLISH_BEYOND):
            self._close(case, State.CLEARED)
            return []
        self._close(case, State.PROVED)
        return [PublishFraud(prove_fraud(self.rules, self._key, self.number, signed))]

    def failed(self, signed: SignedReceipt) -> list[Instruction]:
        """Re-execution is not possible here."""
        case = self._in_state(signed, State.RUNNING)
        return self._voted(case) if case else []

    def advance(self, slot: int, now_s: float) -> list[Instruction]:
        """Time has passed, and with it deadlines."""
        self._slot = max(self._slot, slot)
        late = [case for case in self._open.values() if case.state is State.ASKED and now_s >= case.deadline_s]
        return [instruction for case in late for instruction in self._voted(case)]

    def _may_audit(self, signed: SignedReceipt) -> bool:
        receipt = signed.receipt
        return (
            self.rules.genesis.audit.share_millionths > 0
            and receipt.ap != self.number
            and receipt.arrival.slot + self.terms.kept_slots > self._slot
        )

    def _is_known(self, signed: SignedReceipt, identity: bytes) -> bool:
        return identity in self._open or identity in self._closed[signed.receipt.ap]

    def _case(self, signed: SignedReceipt) -> _Case | None:
        identity = _identity(signed)
        return self._open.get(identity) or self._closed[signed.receipt.ap].get(identity)

    def _in_state(self, signed: SignedReceipt, state: State) -> _Case | None:
        case = self._case(signed)
        return case if case is not None and case.state is state else None

    def _begin(self, signed: SignedReceipt, identity: bytes, now_s: float, caller: int | None) -> list[Instruction]:
        """A new case, unless a bound is reached."""
        accused = signed.receipt.ap
        against = sum(case.signed.receipt.ap == accused for case in self._open.values())
        called = sum(case.caller == caller for case in self._open.values())
        if against >= self.terms.most_open or (caller is not None and called >= self.terms.most_called):
            return []
        self._closed[accused].pop(identity, None)
        self._open[identity] = _Case(signed, State.ASKED, now_s + self.terms.answer_s, caller)
        return [Ask(signed)]

    def _close(self, case: _Case, state: State) -> None:
        case.state = state
        identity = _identity(case.signed)
        self._open.pop(identity, None)
        self._remember(case.signed.receipt.ap, identity, case)

    def _remember(self, accused: int, identity: bytes, case: _Case | None) -> None:
        closed = self._closed[accused]
        closed[identity] = case
        while len(closed) > self.terms.most_known:
            closed.popitem(last=False)

    def _voted(self, case: _Case) -> list[Instruction]:
        vote = vote_void(self.rules, self._key, self.number, case.signed)
        case.votes[self.number] = vote
        self._close(case, State.WITHHELD)
        return [PublishVote(case.signed, vote), *self._combined(case)]

    def _combined(self, case: _Case) -> list[Instruction]:
        if case.state not in (State.ASKED, State.WITHHELD) or not enough_votes(self.rules, len(case.votes)):
            return []
        self._close(case, State.VOIDED)
        return [PublishVoid(Void(case.signed, tuple(case.votes[voter] for voter in sorted(case.votes))))]


def _identity(signed: SignedReceipt) -> bytes:
    return leaf_hash(encode(signed))
