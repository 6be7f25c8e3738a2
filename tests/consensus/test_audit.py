"""Audits: what is drawn, what a difference is, what majority voids, what the chain makes of it."""

from __future__ import annotations

import math
import random
from itertools import combinations
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitnet.consensus.audit import deviation, exceeds, is_drawn
from splitnet.consensus.audit_records import Void, Vote, prove_fraud, validate_votes, vote_void
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import FraudProofError
from splitnet.consensus.genesis import MILLION, Audit, Rules
from splitnet.consensus.receipt import SignedReceipt
from tests.consortium import FLOPS, NOW_MS, Consortium, Contents, a_key, some_rules, trusting

ALL = Audit(share_millionths=MILLION, tolerance_micro=1000, suspended_slots=4)
NAN, INF = math.nan, math.inf


def network(aps: int = 4, audit: Audit = ALL, **changes: Any) -> Rules:
    return some_rules(aps=aps, gateways=aps, devices=aps, audit=audit, **changes)


def a_vote(rules: Rules, voter: int, signed: SignedReceipt) -> Vote:
    return vote_void(rules, a_key("ap", voter), voter, signed)


# --- drawing


@pytest.mark.parametrize(("share", "expected"), [(0, 0.0), (MILLION, 1.0), (100_000, 0.1), (1, 1e-6)])
def test_a_share_is_drawn(share: int, expected: float) -> None:
    """Within 5 standard deviations of a binomial; all and none exactly."""
    chance, count = random.Random(1), 20_000
    drawn = sum(is_drawn(Audit(share_millionths=share), chance) for _ in range(count))
    assert abs(drawn - count * expected) <= 5 * math.sqrt(count * expected * (1 - expected))


# --- differences


@pytest.mark.parametrize(
    ("disclosed", "again", "expected"),
    [
        ([1.0, 2.0, -4.0], [1.0, 2.0, -4.0], 0.0),
        ([1.0, 2.5, -4.0], [1.0, 2.0, -4.0], 0.125),
        ([1.0, 2.0, 400.0], [1.0, 2.0, -4.0], 101.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([-0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-30, 0.0], [0.0, 0.0], INF),
        ([NAN, 1.0], [2.0, 1.0], INF),
        ([NAN, 1.5], [NAN, 2.0], 0.25),
        ([INF, 1.5], [INF, 2.0], 0.25),
        ([NAN, NAN], [NAN, NAN], 0.0),
        ([], [], 0.0),
    ],
)
def test_deviation_by_hand(disclosed: list[float], again: list[float], expected: float) -> None:
    assert deviation([torch.tensor(disclosed)], [torch.tensor(again)]) == expected


def test_each_tensor_is_judged_by_its_own_largest_value() -> None:
    large, small = torch.tensor([1000.0]), torch.tensor([0.5])
    assert deviation([large, small + 0.25], [large, small]) == 0.5
    assert deviation([large + 1, small], [large, small]) == 0.001


@pytest.mark.parametrize(
    ("disclosed", "again", "expected"),
    [
        ([torch.ones(2)], [torch.ones(3)], INF),
        ([torch.ones(2)], [torch.ones(1, 2)], INF),
        ([torch.ones(2)], [torch.ones(2).double()], INF),
        ([torch.ones(2)], [], INF),
        ([], [], 0.0),
        ([1], [1], 0.0),
        ([1], [True], INF),
        ([1], [1.0], INF),
        ([torch.ones(1)], [1.0], INF),
        ([2.5], [2.0], 0.25),
        ([NAN], [NAN], 0.0),
        ([{"a": torch.ones(1)}], [{"b": torch.ones(1)}], INF),
        ([{"a": (torch.tensor(1.5), None)}], [{"a": (torch.tensor(2.0), None)}], 0.25),
        ([torch.tensor([1, 2])], [torch.tensor([1, 2])], 0.0),
        ([torch.tensor([1, 1_000_001])], [torch.tensor([1, 1_000_000])], INF),
        ([torch.tensor([True])], [torch.tensor([False])], INF),
        ([torch.tensor([3 + 4j])], [torch.tensor([3 + 2j])], 2 / 3),
        ([torch.ones(2, 3).t()], [torch.ones(3, 2)], 0.0),
    ],
)
def test_deviation_of_kinds(disclosed: list[Any], again: list[Any], expected: float) -> None:
    assert deviation(disclosed, again) == pytest.approx(expected, rel=1e-15)


HUGE = torch.finfo(torch.float32).max / 2


@pytest.mark.parametrize(
    ("disclosed", "again", "expected"),
    [
        ([1.0, INF], [1.0, 2.0], INF),  # a liar that hopes that nobody compares
        ([1.0, NAN], [1.0, 2.0], INF),
        ([1.0, INF], [1.0, HUGE], 0.0),  # an honest AP that added up in another order
        ([1.0, HUGE], [1.0, INF], 0.0),
        ([1.0, -INF], [1.0, INF], 0.0),
        ([1.0, INF], [1.0, NAN], 0.0),
        ([1.0, 2.0], [1.0, NAN], 0.0),
        ([2.0, HUGE], [1.0, INF], 1.0),  # and elsewhere it is judged as ever
    ],
)
def test_near_overflow_the_order_of_a_sum_blames_nobody(
    disclosed: list[float], again: list[float], expected: float
) -> None:
    assert deviation([torch.tensor(disclosed)], [torch.tensor(again)]) == expected


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=5),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=5),
)
def test_deviation_against_plain_python(disclosed: list[float], again: list[float]) -> None:
    found = deviation([torch.tensor(disclosed)], [torch.tensor(again)])
    if len(disclosed) != len(again):
        assert found == INF
    else:
        worst = max(abs(one - other) for one, other in zip(disclosed, again, strict=True))
        largest = max(map(abs, again))
        assert found == (worst / largest if largest else (INF if worst else 0.0))


@pytest.mark.parametrize(
    ("deviation_micro", "accepted", "published"),
    [(0, False, False), (1000, False, False), (1001, True, False), (2000, True, False), (2001, True, True)],
)
def test_twice_the_tolerance_to_accuse_and_once_to_accept(
    deviation_micro: float, accepted: bool, published: bool
) -> None:
    assert exceeds(ALL, deviation_micro / MILLION) == accepted
    assert exceeds(ALL, deviation_micro / MILLION, 2) == published


# --- majorities


@pytest.mark.parametrize(("aps", "needed"), [(1, None), (2, None), (3, 2), (4, 2), (5, 3), (6, 3)])
def test_it_takes_two_and_more_than_half_of_the_others(aps: int, needed: int | None) -> None:
    """Among all sets of other APs that might vote, exactly the large ones make a void that is valid."""
    rules = network(aps)
    signed = Consortium(rules).receipt(0, 0)
    others = range(1, aps)
    for count in range(aps):
        for voters in combinations(others, count):
            void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in voters))
            if needed is not None and count >= needed:
                validate_votes(rules, void)
            else:
                with pytest.raises(FraudProofError):
                    validate_votes(rules, void)


# --- what the chain makes of it


def reputation(chain: Chain, consortium: Consortium, slot: int, ap: int = 0) -> int:
    """What AP `ap` would mine at, with its receipts of that slot."""
    twins = [twin for twin, gateway in enumerate(chain.rules.genesis.gateway_of) if gateway == ap]
    body = consortium.body(slot, Contents(receipts=consortium.receipts(slot, twins)))
    return chain.candidate(body, ap, NOW_MS).reputation_micro


@pytest.mark.parametrize("slots", [0, 1, 4])
def test_a_proven_liar_is_suspended_for_exactly_k_slots(slots: int) -> None:
    rules = network(3, msgspec.structs.replace(ALL, suspended_slots=slots))
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    lie = consortium.receipt(0, 0)
    chain.add(consortium.on(chain, 0, 1, Contents(receipts=(lie,))), NOW_MS)
    full = reputation(chain, consortium, 10)
    assert full == 10 * (100 + 0 + 50) * 1_000_000 // 10_000
    fraud = prove_fraud(rules, a_key("ap", 2), 2, lie)
    chain.add(consortium.on(chain, 10, 1, Contents(frauds=(fraud,))), NOW_MS)
    found = [reputation(chain, consortium, slot) for slot in range(11, 11 + slots + 3)]
    assert found == [0] * slots + [full] * 3
    assert reputation(chain, consortium, 11, ap=1) == full  # nobody else


def test_suspension_ends_by_slots_and_not_by_blocks() -> None:
    rules = network(3)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    lie = consortium.receipt(0, 0)
    chain.add(consortium.on(chain, 0, 1, Contents((lie,), (prove_fraud(rules, a_key("ap", 2), 2, lie),))), NOW_MS)
    for slot in (1, 3, 4):  # the liar mines, at no reputation
        block = consortium.on(chain, slot, 0, Contents(receipts=(consortium.receipt(slot, 0),)))
        assert block.header.reputation_micro == 0
        chain.add(block, NOW_MS)
    assert reputation(chain, consortium, 5) > 0


def test_a_void_takes_back_exactly_what_was_counted() -> None:
    """1500 FLOPs were counted; the next blocks pay 400, 1000, and the last 100 of a third."""
    rules = network(3)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    work = FLOPS[2] + FLOPS[3] + FLOPS[4]
    signed = consortium.receipt(0, 0, cut=2, data_points=10)
    assert work * 10 == 1500
    chain.add(consortium.on(chain, 0, 0, Contents(receipts=(signed,))), NOW_MS)
    void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2)))
    chain.add(consortium.on(chain, 1, 1, Contents(voids=(void,))), NOW_MS)
    assert chain.head.standings[0].owed_flops == 1500
    for slot, cut, data_points, proved, counted, owed in (
        (2, 4, 8, 400, 0, 1100),
        (3, 3, 20 // 2, 500, 0, 600),
        (4, 3, 10, 500, 0, 100),
        (5, 2, 10, 1500, 1400, 0),
        (6, 2, 10, 1500, 1500, 0),
    ):
        receipt = consortium.receipt(slot, 0, cut=cut, data_points=data_points)
        assert sum(FLOPS[cut:]) * data_points == proved
        block = consortium.on(chain, slot, 0, Contents(receipts=(receipt,)))
        assert block.header.reputation_micro == counted * 1_000_000 // 10_000
        chain.add(block, NOW_MS)
        assert chain.head.standings[0].owed_flops == owed


@pytest.mark.parametrize("suspended", [False, True])
def test_a_debt_is_not_paid_while_suspended(suspended: bool) -> None:
    """1,500 FLOPs are owed; as many, proved when none of them would have counted, pay nothing."""
    rules = network(3)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    signed, lie = consortium.receipt(0, 0), consortium.receipt(1, 0)
    chain.add(consortium.on(chain, 0, 0, Contents(receipts=(signed,))), NOW_MS)
    void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2)))
    frauds = (prove_fraud(rules, a_key("ap", 2), 2, lie),) if suspended else ()
    chain.add(consortium.on(chain, 1, 1, Contents(frauds=frauds, voids=(void,))), NOW_MS)
    chain.add(consortium.on(chain, 2, 0, Contents(receipts=(consortium.receipt(2, 0),))), NOW_MS)
    assert chain.head.standings[0].owed_flops == (1500 if suspended else 0)
    assert reputation(chain, consortium, 9) == (0 if suspended else 150_000)


def test_what_did_not_count_while_suspended_is_not_owed() -> None:
    rules = network(3)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    signed, lie = consortium.receipt(1, 0), consortium.receipt(0, 0)
    chain.add(consortium.on(chain, 0, 1, Contents(frauds=(prove_fraud(rules, a_key("ap", 2), 2, lie),))), NOW_MS)
    chain.add(consortium.on(chain, 1, 0, Contents(receipts=(signed,))), NOW_MS)
    void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2)))
    chain.add(consortium.on(chain, 2, 1, Contents(voids=(void,))), NOW_MS)
    assert chain.head.standings[0].owed_flops == 0


def test_a_void_of_what_never_counted_takes_nothing() -> None:
    """Recorded by another's block, or of an earlier slot: it never earned anything."""
    rules = network(3)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    signed = consortium.receipt(0, 0)
    chain.add(consortium.on(chain, 0, 1, Contents(receipts=(signed,))), NOW_MS)
    void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2)))
    chain.add(consortium.on(chain, 1, 1, Contents(voids=(void,))), NOW_MS)
    assert chain.head.standings[0].owed_flops == 0


def test_a_block_with_too_few_votes_is_refused() -> None:
    rules = network(5)
    consortium, chain = Consortium(rules), Chain(rules, trusting)
    signed = consortium.receipt(0, 0)
    chain.add(consortium.on(chain, 0, 0, Contents(receipts=(signed,))), NOW_MS)
    void = Void(signed, tuple(a_vote(rules, voter, signed) for voter in (1, 2)))
    with pytest.raises(FraudProofError, match="more than half of the other 4"):
        chain.add(consortium.on(chain, 1, 1, Contents(voids=(void,))), NOW_MS)
