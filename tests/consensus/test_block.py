"""Blocks by themselves: each rule of header and body, broken alone in a block that is mined and signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, Body, hash_of, seal_of, sign_block
from splitnet.consensus.canonical import digest_of, encode
from splitnet.consensus.difficulty import GAMMA_UNITS, difficulty_of, target_of
from splitnet.consensus.errors import (
    AheadError,
    BlockError,
    BodyError,
    DifficultyError,
    FraudProofError,
    MinerError,
    ParentError,
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
from splitnet.consensus.genesis import Audit
from splitnet.consensus.identity import sign
from splitnet.consensus.plan import SignedPlan
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import SignedReceipt
from splitnet.consensus.validation import (
    Place,
    Standing,
    proved_flops,
    validate_body,
    validate_place,
    validate_reputation,
    validate_sealed,
)
from tests.consensus import by_hand
from tests.consortium import NOW_MS, STARTED_MS, Consortium, Contents, a_key, some_rules

CONSORTIUM = Consortium(some_rules(aps=3, gateways=3, devices=6, audit=Audit(share_millionths=1)))
RULES = CONSORTIUM.rules
MINING = RULES.genesis.mining
GENESIS = Place.of_genesis(RULES)
RECEIPTS = CONSORTIUM.receipts(4)
replace = msgspec.structs.replace


def validate(block: Block, place: Place = GENESIS, now_ms: int = NOW_MS, standing: Standing | None = None) -> None:
    validate_sealed(RULES, block.sealed)
    validate_place(RULES, block.header, place, now_ms)
    validate_body(RULES, block.header, block.body)
    validate_reputation(RULES, block, standing or Standing())


def test_a_valid_block() -> None:
    """Devices 1 and 4 are on gateway 1, that on AP 1: 2 x 10 data points x 150 FLOPs of 10,000 make U = 0.3."""
    block = CONSORTIUM.block(4, 1, Contents(RECEIPTS))
    validate(block)
    assert proved_flops(RULES, 4, 1, block.body) == 3000
    assert block.header.reputation_micro == 300_000
    assert block.header.difficulty == by_hand.gamma(2_000_000, 0, 300_000)
    assert hash_of(RULES, block.sealed) == work_hash(seal_of(RULES, block.header), block.sealed.nonce)


def test_only_receipts_of_the_slot_and_the_miner_count() -> None:
    others = CONSORTIUM.receipts(3)
    block = CONSORTIUM.block(4, 2, Contents((*others, *CONSORTIUM.receipts(4, [0, 1, 5]))))
    validate(block)
    assert block.header.reputation_micro == 150_000
    assert CONSORTIUM.block(4, 2, Contents(others)).header.reputation_micro == 0


def test_an_empty_block_is_mined_at_full_difficulty() -> None:
    block = CONSORTIUM.block(4, 2)
    validate(block)
    assert block.header.reputation_micro == 0
    assert block.header.difficulty == GAMMA_UNITS


@pytest.mark.parametrize(
    ("standing", "reputation"),
    [
        (Standing(suspended_to=4), 0),
        (Standing(suspended_to=3), 300_000),
        (Standing(owed_flops=1000), 200_000),
        (Standing(owed_flops=3000), 0),
        (Standing(owed_flops=9000), 0),
        (Standing(suspended_to=4, owed_flops=1000), 0),
    ],
)
def test_standings_by_hand(standing: Standing, reputation: int) -> None:
    """3,000 FLOPs proved, of 10,000 that make U = 1."""
    block = CONSORTIUM.block(4, 1, Contents(RECEIPTS), standing=standing)
    assert block.header.reputation_micro == reputation
    validate(block, standing=standing)
    if reputation != 300_000:
        with pytest.raises(ReputationError, match=rf"a reputation of {reputation} micro-units .* give 300000"):
            validate(block)


# --- headers, each mined and signed as it is


def eased(reputation: int) -> dict[str, Any]:
    """A reputation that was not earned, with the difficulty and target that go with it."""
    difficulty = difficulty_of(MINING, reputation)
    return {
        "reputation_micro": reputation,
        "difficulty": difficulty,
        "target": target_of(MINING, difficulty).to_bytes(32),
    }


HEADERS: dict[str, tuple[dict[str, Any], type[BlockError], str]] = {
    "a miner who is no AP": ({"miner": 3}, MinerError, "miner 3 is not an AP: there are 3"),
    "another's reputation": ({"miner": 0, **eased(1_000_000)}, ReputationError, "give at most 300000"),
    "a reputation too high": (eased(300_001), ReputationError, "of slot 4 and AP 1 give at most 300000"),
    "a reputation too low": (eased(299_999), ReputationError, "of slot 4 and AP 1 give 300000"),
    "a reputation over the cap": (
        eased(1_000_001),
        ReputationError,
        "1000001 .* over the cap of 1000000",
    ),
    "an easier difficulty": ({"difficulty": 1}, DifficultyError, "difficulty 1, but a reputation of 300000"),
    "a harder difficulty": ({"difficulty": GAMMA_UNITS}, DifficultyError, "gives 548811636094026433"),
    "an easier target": ({"target": b"\xff" * 32}, TargetError, "target ffff"),
    "the next target": (
        {"target": (target_of(MINING, by_hand.gamma(2_000_000, 0, 300_000)) + 1).to_bytes(32)},
        TargetError,
        "where the difficulty gives",
    ),
    "other receipts": ({"receipts": bytes(32)}, RootError, "the receipts are not those"),
    "other audits": ({"audits": bytes(32)}, RootError, "the fraud proofs and voids are not those"),
    "a slot before the receipts": (
        {"slot": 3, **eased(0)},
        PlanOfBlockError,
        "the plan of slot 4 in a block of slot 3",
    ),
    "another slot": ({"slot": 5}, PlanOfBlockError, "the plan of slot 4 in a block of slot 5"),
    "another plan": ({"plan": bytes(32)}, RootError, "the plan is not the one that the header commits to"),
    "another parent": ({"previous": bytes(32)}, ParentError, "a block of height 1 on 000000000000 cannot stand on"),
    "another height": ({"height": 2}, ParentError, "a block of height 2 on"),
    "the parent's time": ({"time_ms": STARTED_MS}, TimeError, "is not after the parent's"),
    "before the parent": ({"time_ms": STARTED_MS - 1}, TimeError, "is not after the parent's"),
    "too far ahead": ({"time_ms": NOW_MS + 5001}, AheadError, r"is 5\.001 s ahead of this clock, at most 5 s"),
    "the end of time": ({"time_ms": 2**62}, AheadError, "are the clocks right"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(case: str) -> None:
    changes, error, message = HEADERS[case]
    good = CONSORTIUM.block(4, 1, Contents(RECEIPTS))
    block = CONSORTIUM.mined(replace(good.header, **changes), good.body)
    with pytest.raises(error, match=message) as caught:
        validate(block)
    assert type(caught.value) is error


def test_the_limits_themselves_hold() -> None:
    validate(CONSORTIUM.block(0, 1, time_ms=STARTED_MS + 1))
    validate(CONSORTIUM.block(0, 1, time_ms=NOW_MS + 5000))
    above = Place(b"\1" * 32, 7, 3, STARTED_MS + 10)
    validate(CONSORTIUM.block(4, 1, Contents(RECEIPTS), parent=above), above)
    for slot in (2, 3):
        with pytest.raises(SlotError, match=f"slot {slot} does not come after the parent's slot 3"):
            validate(CONSORTIUM.block(slot, 1, parent=above), above)


def test_the_work_must_be_done() -> None:
    block = CONSORTIUM.block(4, 1, Contents(RECEIPTS))
    seal, target = seal_of(RULES, block.header), int.from_bytes(block.header.target)
    failing = [
        nonce for nonce in (n.to_bytes(NONCE_BYTES) for n in range(200)) if not meets(work_hash(seal, nonce), target)
    ]
    assert len(failing) > 100
    for nonce in failing:
        with pytest.raises(WorkError, match="is not below the target"):
            validate(sign_block(RULES, a_key("ap", 1), block.header, nonce, block.body))


def test_a_hash_equal_to_the_target_is_not_below_it() -> None:
    assert meets((99).to_bytes(32), 100)
    assert not meets((100).to_bytes(32), 100)


@pytest.mark.parametrize(
    "key", [a_key("ap", 0), a_key("gateway", 1), a_key("device", 1), a_key("controller"), a_key("stranger")]
)
def test_the_miner_signs(key: Any) -> None:
    block = CONSORTIUM.block(4, 1, Contents(RECEIPTS))
    with pytest.raises(SealSignatureError, match="is not signed by its miner ap-1"):
        validate(sign_block(RULES, key, block.header, block.sealed.nonce, block.body))


# --- bodies


def lie(twin: int) -> SignedReceipt:
    return CONSORTIUM.receipt(4, twin, result=b"lie")


def fraud(twin: int, verifier: int) -> Contents:
    return Contents(frauds=(prove_fraud(RULES, a_key("ap", verifier), verifier, lie(twin)),))


def void(twin: int, *voters: int, signed: SignedReceipt | None = None) -> Contents:
    accused = signed or lie(twin)
    return Contents(voids=(Void(accused, tuple(vote_void(RULES, a_key("ap", ap), ap, accused) for ap in voters)),))


BODIES: dict[str, tuple[Callable[[], Contents], type[BlockError], str]] = {
    "a receipt twice": (
        lambda: Contents((RECEIPTS[0], RECEIPTS[0])),
        BodyError,
        "the receipts of a block do not rise",
    ),
    "two receipts of one slot and DT": (
        lambda: Contents((RECEIPTS[0], lie(0))),
        BodyError,
        "do not rise by slot and DT",
    ),
    "receipts out of order": (lambda: Contents(RECEIPTS[::-1]), BodyError, "do not rise"),
    "a later slot first": (lambda: Contents((RECEIPTS[0], *CONSORTIUM.receipts(3, [1]))), BodyError, "do not rise"),
    "a receipt to come": (
        lambda: Contents(CONSORTIUM.receipts(5, [0])),
        ReceiptSlotError,
        "slot 5 in a block of slot 4",
    ),
    "a proof twice": (
        lambda: Contents(frauds=fraud(0, 1).frauds * 2),
        BodyError,
        "the fraud proofs of a block do not",
    ),
    "a void twice": (lambda: Contents(voids=void(0, 1, 2).voids * 2), BodyError, "the voids of a block do not rise"),
    "its own verifier": (lambda: fraud(0, 0), FraudProofError, "AP 0 cannot accuse AP 0"),
    "a verifier who is no AP": (lambda: fraud(0, 3), FraudProofError, "AP 3 cannot accuse AP 0"),
    "a proof by another's key": (
        lambda: Contents(frauds=(prove_fraud(RULES, a_key("ap", 2), 1, lie(0)),)),
        FraudProofError,
        "not signed by the AP ap-1",
    ),
    "a void by too few": (
        lambda: void(0, 1),
        FraudProofError,
        r"votes of APs \[1\]; it takes two and more than half",
    ),
    "a void by nobody": (lambda: void(0), FraudProofError, r"votes of APs \[\]"),
    "a vote twice": (lambda: void(0, 1, 1), FraudProofError, "in rising order"),
    "votes out of order": (lambda: void(0, 2, 1), FraudProofError, "in rising order"),
    "the accused votes": (lambda: void(0, 0, 1), FraudProofError, "AP 0 cannot accuse AP 0"),
    "votes for another receipt": (
        lambda: Contents(voids=(Void(lie(0), void(0, 1, 2, signed=RECEIPTS[0]).voids[0].votes),)),
        FraudProofError,
        "not signed by the AP ap-1",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies(case: str) -> None:
    make, error, message = BODIES[case]
    with pytest.raises(error, match=message) as caught:
        validate(CONSORTIUM.block(4, 1, make()))
    assert type(caught.value) is error


def test_valid_proofs_and_voids() -> None:
    body = CONSORTIUM.body(4, Contents(RECEIPTS, fraud(0, 1).frauds, void(2, 0, 1).voids))
    validate(CONSORTIUM.block(4, 1, body))
    assert set(body.records()) == {
        *(("receipt", (4, twin)) for twin in range(6)),
        ("fraud", (4, 0)),
        ("void", (4, 2)),
    }


def test_a_proof_and_a_void_have_different_roots() -> None:
    all_contents = Contents(), fraud(0, 1), void(0, 1, 2), void(0, 1)
    assert len({CONSORTIUM.body(4, contents).audits_root() for contents in all_contents}) == 4


def test_so_many_receipts_and_no_more() -> None:
    few = Consortium(some_rules(most_receipts=2))
    for count, fits in ((2, True), (3, False)):
        block = few.block(4, 1, Contents(few.receipts(4, range(count))))
        if fits:
            validate_body(few.rules, block.header, block.body)
        else:
            with pytest.raises(BodyError, match="3 receipts in a block, at most 2"):
                validate_body(few.rules, block.header, block.body)


@pytest.mark.parametrize("contents", [fraud(0, 1), void(0, 1, 2)])
def test_no_audits_where_they_are_off(contents: Contents) -> None:
    off = Consortium(some_rules(aps=3, gateways=3, devices=6))
    block = off.block(4, 1, contents)
    with pytest.raises(BodyError, match="fraud proofs or voids, where the genesis block has audits off"):
        validate_body(off.rules, block.header, block.body)


# --- plans, each in a block that is mined and signed with it


def planned(plan: SignedPlan) -> Block:
    """AP 1's block of slot 4 with all receipts, and this plan."""
    body = Body(plan, RECEIPTS)
    return CONSORTIUM.mined(replace(CONSORTIUM.block(4, 1, Contents(RECEIPTS)).header, plan=body.plan_digest()), body)


def signed_by(key: Any, **changes: Any) -> SignedPlan:
    """A plan of slot 4 with changes, signed whatever it says."""
    plan = replace(CONSORTIUM.plan(4).plan, **changes)
    return SignedPlan(plan, sign(key, digest_of("plan", RULES.network, encode(plan))))


CONTROLLER = a_key("controller")
PLANS: dict[str, tuple[SignedPlan, type[BlockError], str]] = {
    "of a slot to come": (CONSORTIUM.plan(5), PlanOfBlockError, "the plan of slot 5 in a block of slot 4"),
    "of a slot that was": (CONSORTIUM.plan(3), PlanOfBlockError, "the plan of slot 3 in a block of slot 4"),
    "of the miner's own": (signed_by(a_key("ap", 1)), PlanOfBlockError, "not signed by controller, the controller"),
    "of another network": (
        Consortium(some_rules(aps=3, gateways=3, devices=6)).plan(4),
        PlanOfBlockError,
        "not signed by controller",
    ),
    "with fewer cuts": (signed_by(CONTROLLER, cuts=(2,) * 5), PlanOfBlockError, "a plan with 5 cuts for 6 members"),
    "beyond a model": (
        signed_by(CONTROLLER, cuts=(2, 2, 6, 2, 2, 2)),
        PlanOfBlockError,
        "cut 6 for device 2, whose model has 5 layers",
    ),
    "of a higher cut": (CONSORTIUM.plan(4, {1: 3}), PlannedCutError, "device 1: a receipt of cut 2 where cut 3 was"),
    "of a lower cut": (CONSORTIUM.plan(4, {4: 0}), PlannedCutError, "device 4: a receipt of cut 2 where cut 0 was"),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans(case: str) -> None:
    plan, error, message = PLANS[case]
    with pytest.raises(error, match=message) as caught:
        validate(planned(plan))
    assert type(caught.value) is error


def test_only_what_counts_must_be_as_planned() -> None:
    """Receipts of other APs and slots are recorded at whatever cut they were run."""
    body = Body(CONSORTIUM.plan(4, {0: 0, 3: 5}), (*CONSORTIUM.receipts(3, [1]), *RECEIPTS))
    block = CONSORTIUM.block(4, 1, body)
    assert block.header.reputation_micro == 300_000
    validate(block)
    validate(planned(CONSORTIUM.plan(4, {0: 1, 2: 5})))
