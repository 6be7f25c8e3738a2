"""The auditor: which events lead to which instructions, how votes come together, what it keeps."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import Void, Vote, prove_fraud, validate_votes, vote_void
from splitnet.consensus.auditor import (
    Ask,
    Auditor,
    Examine,
    Instruction,
    PublishFraud,
    PublishVoid,
    PublishVote,
    State,
    Terms,
)
from splitnet.consensus.errors import FraudProofError
from splitnet.consensus.genesis import MILLION, Audit, Rules
from splitnet.consensus.receipt import SignedReceipt
from tests.consortium import Consortium, a_key, some_rules

ALL = Audit(share_millionths=MILLION, tolerance_micro=1000, suspended_slots=4)
NAN, INF = math.nan, math.inf


def network(aps: int = 4, audit: Audit = ALL, **changes: Any) -> Rules:
    return some_rules(aps=aps, gateways=aps, devices=aps, audit=audit, **changes)


def an_auditor(
    rules: Rules, number: int = 1, terms: Terms | None = None, chance: random.Random | None = None
) -> Auditor:
    return Auditor(rules, number, a_key("ap", number), chance or random.Random(0), terms)


def a_vote(rules: Rules, voter: int, signed: SignedReceipt) -> Vote:
    return vote_void(rules, a_key("ap", voter), voter, signed)


def test_two_aps_draw_by_themselves() -> None:
    """What one audits says nothing about what another does: both with p^2."""
    rules = network(audit=msgspec.structs.replace(ALL, share_millionths=MILLION // 2))
    first, second = an_auditor(rules, 1, chance=random.Random(1)), an_auditor(rules, 2, chance=random.Random(2))
    consortium = Consortium(rules)
    drawn = []
    for slot in range(400):
        signed = consortium.receipt(slot, 0)
        drawn.append((bool(first.receipt_seen(signed, 0.0)), bool(second.receipt_seen(signed, 0.0))))
    for wanted in ((True, True), (True, False), (False, True), (False, False)):
        assert abs(drawn.count(wanted) - 100) <= 5 * math.sqrt(400 * 0.25 * 0.75)


def test_a_receipt_is_drawn_once_however_often_it_is_seen() -> None:
    """By gossip and in a block: a second draw would make p larger."""
    rules = network(audit=msgspec.structs.replace(ALL, share_millionths=MILLION // 2))
    auditor, consortium = an_auditor(rules), Consortium(rules)
    for slot in range(50):
        signed = consortium.receipt(slot, 0)
        auditor.receipt_seen(signed, 0.0)
        assert [auditor.receipt_seen(signed, 0.0) for _ in range(20)] == [[]] * 20


def test_an_honest_result_is_asked_for_run_and_cleared() -> None:
    rules = network()
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    assert auditor.receipt_seen(signed, 0.0) == [Ask(signed)]
    assert auditor.activation_arrived(signed) == [Examine(signed)]
    assert auditor.examined(signed, 0.002) == []
    assert auditor.state(signed) is State.CLEARED
    assert auditor.advance(1, 1e9) == []


def test_a_lie_is_published() -> None:
    rules = network()
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    auditor.receipt_seen(signed, 0.0)
    auditor.activation_arrived(signed)
    assert auditor.examined(signed, 0.0021) == [PublishFraud(prove_fraud(rules, a_key("ap", 1), 1, signed))]
    assert auditor.examined(signed, 0.0021) == []


def test_a_withheld_activation_costs_a_vote_at_its_deadline() -> None:
    rules = network()
    auditor, signed = an_auditor(rules, terms=Terms(answer_s=5.0)), Consortium(rules).receipt(0, 0)
    auditor.receipt_seen(signed, 100.0)
    assert auditor.advance(0, 104.999) == []
    assert auditor.advance(0, 105.0) == [PublishVote(signed, a_vote(rules, 1, signed))]
    assert auditor.advance(0, 200.0) == []
    assert auditor.activation_arrived(signed) == []


@pytest.mark.parametrize("event", ["refused", "failed"])
def test_a_refusal_and_a_failed_run_cost_a_vote_at_once(event: str) -> None:
    rules = network()
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    auditor.receipt_seen(signed, 0.0)
    if event == "failed":
        assert auditor.failed(signed) == []  # nothing runs yet
        auditor.activation_arrived(signed)
    assert getattr(auditor, event)(signed) == [PublishVote(signed, a_vote(rules, 1, signed))]
    assert getattr(auditor, event)(signed) == []


def test_events_that_do_not_fit_the_state_do_nothing() -> None:
    rules = network()
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    assert auditor.activation_arrived(signed) == auditor.refused(signed) == auditor.examined(signed, INF) == []
    auditor.receipt_seen(signed, 0.0)
    assert auditor.examined(signed, INF) == []
    auditor.activation_arrived(signed)
    assert auditor.refused(signed) == auditor.activation_arrived(signed) == auditor.advance(0, 1e9) == []
    assert auditor.state(signed) is State.RUNNING


def test_a_vote_of_another_makes_an_ap_ask_that_drew_nothing() -> None:
    rules = network(5, audit=msgspec.structs.replace(ALL, share_millionths=1))
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    assert auditor.receipt_seen(signed, 0.0) == []
    assert auditor.vote_arrived(signed, a_vote(rules, 2, signed), 0.0) == [Ask(signed)]
    assert auditor.vote_arrived(signed, a_vote(rules, 2, signed), 0.0) == []
    (voted,) = auditor.refused(signed)  # 2 votes of 4 others are not more than half
    assert voted == PublishVote(signed, a_vote(rules, 1, signed))
    (void,) = auditor.vote_arrived(signed, a_vote(rules, 4, signed), 0.0)
    assert void == PublishVoid(Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2, 4))))


def test_whoever_was_given_the_activation_does_not_vote_nor_count_votes() -> None:
    rules = network(4)
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    auditor.receipt_seen(signed, 0.0)
    auditor.activation_arrived(signed)
    for voter in (2, 3):
        assert auditor.vote_arrived(signed, a_vote(rules, voter, signed), 0.0) == []
    assert auditor.examined(signed, INF) != []  # votes do not hide a lie


def test_votes_that_came_while_it_ran_count_when_it_fails() -> None:
    rules = network(4)
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    auditor.receipt_seen(signed, 0.0)
    auditor.activation_arrived(signed)
    auditor.vote_arrived(signed, a_vote(rules, 2, signed), 0.0)
    votes = tuple(a_vote(rules, voter, signed) for voter in (1, 2))
    assert auditor.failed(signed) == [PublishVote(signed, votes[0]), PublishVoid(Void(signed, votes))]


def test_forged_votes_are_refused() -> None:
    rules = network(4)
    auditor, consortium = an_auditor(rules), Consortium(rules)
    signed, other = consortium.receipt(0, 0), consortium.receipt(1, 0)
    for vote in (
        Vote(2, a_vote(rules, 3, signed).signature),
        a_vote(rules, 0, signed),  # the accused
        a_vote(rules, 2, other),
        Vote(9, bytes(64)),
    ):
        with pytest.raises(FraudProofError):
            auditor.vote_arrived(signed, vote, 0.0)
    assert len(auditor) == 0


def test_own_receipts_old_ones_and_networks_without_audits_are_left_alone() -> None:
    rules = network()
    auditor, consortium = an_auditor(rules, terms=Terms(kept_slots=3)), Consortium(rules)
    assert auditor.receipt_seen(consortium.receipt(0, 1), 0.0) == []
    auditor.advance(5, 0.0)
    old, young = consortium.receipt(2, 0), consortium.receipt(3, 0)
    assert auditor.receipt_seen(old, 0.0) == auditor.vote_arrived(old, a_vote(rules, 2, old), 0.0) == []
    assert auditor.receipt_seen(young, 0.0) == [Ask(young)]
    quiet = network(audit=Audit())
    signed = Consortium(quiet).receipt(0, 0)
    assert an_auditor(quiet).vote_arrived(signed, a_vote(quiet, 2, signed), 0.0) == []


def test_two_receipts_for_one_slot_and_device_are_two_cases() -> None:
    rules = network()
    auditor, consortium = an_auditor(rules), Consortium(rules)
    for signed in (consortium.receipt(0, 0), consortium.receipt(0, 0, result=b"another")):
        assert auditor.receipt_seen(signed, 0.0) == [Ask(signed)]


def test_memory_is_bounded_for_each_accused_and_each_voter() -> None:
    rules = network(5)
    terms = Terms(answer_s=10.0, most_open=6, most_called=3, most_known=10)
    auditor, consortium = an_auditor(rules, terms=terms), Consortium(rules)
    asked = [auditor.receipt_seen(consortium.receipt(slot, 0), 0.0) for slot in range(40)]
    assert sum(map(len, asked)) == 6
    assert auditor.receipt_seen(signed := consortium.receipt(0, 2), 0.0) == [Ask(signed)]  # another accused
    called = []
    for slot in range(40):
        signed = consortium.receipt(slot, 3)
        called += auditor.vote_arrived(signed, a_vote(rules, 4, signed), 0.0)
    assert len(called) == 3
    voted = auditor.advance(0, 10.0)
    assert len(voted) == 6 + 1 + 3
    for slot in range(40, 100):  # closed ones are forgotten, oldest first
        auditor.receipt_seen(consortium.receipt(slot, 0), 20.0)
        auditor.advance(0, 30.0 + 20 * slot)
    assert len(auditor) <= 4 * (6 + 10)


@pytest.mark.parametrize("changes", [{"answer_s": 0.0}, {"kept_slots": 0}, {"most_open": 0}, {"most_known": 0}])
def test_terms_are_positive(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Terms(**changes)


# --- many auditors


@pytest.mark.parametrize("aps", [3, 4, 5, 6])
@pytest.mark.parametrize("alone", [False, True])
def test_a_withheld_activation_ends_in_a_void_among_real_auditors(aps: int, alone: bool) -> None:
    """Also where only one AP drew it: its vote makes the others ask."""
    rules = network(aps, msgspec.structs.replace(ALL, share_millionths=MILLION // 2))
    auditors = {
        number: an_auditor(rules, number, chance=Fixed(1 if alone and number > 1 else 0)) for number in range(1, aps)
    }
    signed = Consortium(rules).receipt(0, 0)
    voids = list(run_to_end(auditors, signed))
    assert len(voids) >= 1
    for void in voids:
        validate_votes(rules, void)
    states = [auditor.state(signed) for auditor in auditors.values()]
    assert states.count(State.VOIDED) >= 1
    assert set(states) <= {State.VOIDED, State.WITHHELD}


def test_of_two_aps_neither_voids_the_others_work() -> None:
    """One vote is one word; it stays a vote."""
    rules = network(2)
    auditor, signed = an_auditor(rules), Consortium(rules).receipt(0, 0)
    assert list(run_to_end({1: auditor}, signed)) == []
    assert auditor.state(signed) is State.WITHHELD


class Fixed(random.Random):
    """Draws everything (0) or, at p = 1/2, nothing (1)."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self._half = half

    def randrange(self, start: int, *rest: int) -> int:  # type: ignore[override]
        return self._half * start // 2


def run_to_end(auditors: dict[int, Auditor], signed: SignedReceipt) -> Iterator[Void]:
    """Every instruction performed, where nobody is given the activation."""
    waiting: list[tuple[int, Instruction]] = [
        (number, instruction)
        for number, auditor in auditors.items()
        for instruction in auditor.receipt_seen(signed, 0.0)
    ]
    while waiting:
        number, instruction = waiting.pop(0)
        match instruction:
            case Ask():
                waiting += [(number, more) for more in auditors[number].refused(signed)]
            case PublishVote(_, vote):
                for other, auditor in auditors.items():
                    if other != number:
                        waiting += [(other, more) for more in auditor.vote_arrived(signed, vote, 0.0)]
            case PublishVoid(void):
                yield void
            case _:
                pytest.fail(f"unexpected {instruction}")
