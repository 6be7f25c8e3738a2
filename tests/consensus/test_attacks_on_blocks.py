"""Blocks of miners who claim, jump or forge, and the rule that stops each."""

from __future__ import annotations

import pytest

from splitnet.consensus.block import Block, Body, hash_of, signing_digest
from splitnet.consensus.errors import (
    AheadError,
    BodyError,
    DataPointsError,
    DifficultyError,
    MinerError,
    ParentError,
    PlannedCutError,
    PlanOfBlockError,
    ReceiptSlotError,
    RecordedTwiceError,
    ReputationError,
    RootError,
    SealSignatureError,
    SlotError,
    TargetError,
    TimeError,
    WorkError,
)
from tests.consensus.adversaries import (
    AP,
    BLOCK,
    GATEWAY,
    GOOD,
    NETWORK,
    OWN_WORK,
    RULES,
    SISTER,
    Attack,
    accusation,
    bent,
    claiming,
    header_of,
    longer_but_invalid,
    mined,
    mined_at_another_target,
    on_the_block,
    place_of,
    plan_by,
    planned,
    replace,
    replace_target,
    replayed,
    signed_anew,
    submit,
    unworked,
    with_signature,
)
from tests.consortium import NOW_MS, STARTED_MS, Contents, a_key

CONTROLLER = a_key("controller")


def far_ahead() -> Block:
    """An empty block of slot 2^62, after which no slot comes, with the last plan there was."""
    header = NETWORK.block(2**62, 0, parent=place_of(BLOCK)).header
    body = Body(NETWORK.plan(7))
    return NETWORK.mined(replace(header, plan=body.plan_digest()), body)


ATTACKS: dict[str, Attack] = {
    # receipts where they do not belong
    "AP: a receipt twice in a block": Attack(lambda: submit(mined(contents=Contents((GOOD, GOOD)))), BodyError),
    "AP and gateway: two receipts for one arrival": Attack(
        lambda: submit(mined(contents=Contents((GOOD, NETWORK.receipt(7, 0, cut=0))))), BodyError
    ),
    "AP: a receipt that the chain holds": Attack(lambda: submit(*replayed()), RecordedTwiceError),
    "AP and gateway: another receipt for an arrival that the chain holds": Attack(
        lambda: submit(*replayed(cut=0)), RecordedTwiceError
    ),
    "AP: a receipt of a slot to come": Attack(
        lambda: submit(mined(contents=Contents(NETWORK.receipts(8, [0])), **claiming(0))), ReceiptSlotError
    ),
    "AP: counts a receipt of a slot before": Attack(
        lambda: submit(mined(contents=Contents(NETWORK.receipts(6, [0])), **claiming(OWN_WORK // 2))), ReputationError
    ),
    "AP: counts another AP's receipts": Attack(
        lambda: submit(mined(1, Contents(NETWORK.receipts(7, [0, 3])), **claiming(OWN_WORK))), ReputationError
    ),
    "AP: counts receipts that it leaves out": Attack(
        lambda: submit(mined(contents=Contents((GOOD,)), **claiming(OWN_WORK))), ReputationError
    ),
    "AP: another body under its header": Attack(
        lambda: submit(replace(BLOCK, body=replace(BLOCK.body, receipts=(GOOD,)))), RootError
    ),
    "outsider: an accusation under a mined header": Attack(
        lambda: submit(replace(BLOCK, body=replace(BLOCK.body, frauds=accusation(a_key("ap", 1), 1).body.frauds))),
        RootError,
    ),
    # difficulty
    "AP: the reputation of the cap": Attack(lambda: submit(mined(**claiming(1_000_000))), ReputationError),
    "AP: a reputation over the cap": Attack(lambda: submit(mined(**claiming(1_000_001))), ReputationError),
    "AP: one micro-unit more": Attack(lambda: submit(mined(**claiming(OWN_WORK + 1))), ReputationError),
    "AP: less, to look harmless": Attack(lambda: submit(mined(**claiming(OWN_WORK - 1))), ReputationError),
    "AP: the least difficulty": Attack(lambda: submit(mined(difficulty=1)), DifficultyError),
    "AP: a difficulty one unit off": Attack(
        lambda: submit(mined(difficulty=BLOCK.header.difficulty - 1)), DifficultyError
    ),
    "AP: the easiest target": Attack(lambda: submit(mined(target=b"\xff" * 32)), TargetError),
    "AP: a target of 0": Attack(lambda: submit(replace_target(bytes(32))), TargetError),
    "AP: another AP's target": Attack(lambda: submit(mined(1, Contents(), target=BLOCK.header.target)), TargetError),
    "AP: no work": Attack(lambda: submit(unworked()), WorkError),
    "outsider: another nonce": Attack(
        lambda: submit(replace(BLOCK, sealed=replace(BLOCK.sealed, nonce=unworked().sealed.nonce))), WorkError
    ),
    # who mines
    "AP: mines at another's target": Attack(lambda: submit(mined_at_another_target()), SealSignatureError),
    "gateway: signs the header": Attack(lambda: submit(signed_anew(GATEWAY)), SealSignatureError),
    "controller: signs the header": Attack(lambda: submit(signed_anew(a_key("controller"))), SealSignatureError),
    "outsider: signs the header": Attack(lambda: submit(signed_anew(a_key("x"))), SealSignatureError),
    "outsider: mines as AP 3": Attack(lambda: submit(NETWORK.mined(header_of(3), NETWORK.body(7))), MinerError),
    "outsider: mines as AP 2^62": Attack(
        lambda: submit(NETWORK.mined(header_of(2**62), NETWORK.body(7))), MinerError
    ),
    "outsider: a header's signature of zeros": Attack(lambda: submit(with_signature(bytes(64))), SealSignatureError),
    "outsider: the header's signature in its second form": Attack(
        lambda: submit(with_signature(bent(BLOCK.sealed.signature))), SealSignatureError
    ),
    "outsider: the signature of the miner's receipt": Attack(
        lambda: submit(with_signature(GOOD.ap_signature)), SealSignatureError
    ),
    "AP: its own signature of a sister network": Attack(
        lambda: submit(
            with_signature(
                AP.sign(signing_digest(SISTER.rules, hash_of(RULES, BLOCK.sealed))),
            )
        ),
        SealSignatureError,
    ),
    # place and time
    "AP: on a parent of another height": Attack(lambda: submit(*on_the_block(height=3)), ParentError),
    "AP: a slot of the past": Attack(lambda: submit(*on_the_block(slot=6)), SlotError),
    "AP: the parent's slot once more": Attack(lambda: submit(*on_the_block(slot=7)), SlotError),
    "AP: before its parent": Attack(lambda: submit(*on_the_block(time_ms=STARTED_MS + 999)), TimeError),
    "AP: at its parent's time": Attack(lambda: submit(*on_the_block(time_ms=STARTED_MS + 1000)), TimeError),
    "AP: before the network began": Attack(lambda: submit(mined(time_ms=0)), TimeError),
    "AP: an hour ahead": Attack(lambda: submit(mined(time_ms=NOW_MS + 3_600_000)), AheadError),
    "AP: a longer invalid chain": Attack(longer_but_invalid, DataPointsError),
    # slots and plans
    "AP: an empty block of slot 2^62, to freeze the chain": Attack(
        lambda: submit(BLOCK, far_ahead()),
        PlanOfBlockError,
    ),
    "AP: a plan of slot 2^62 by its own key": Attack(
        lambda: submit(planned(plan_by(AP, 2**62), 2**62)), PlanOfBlockError
    ),
    "AP: jumps over suspended slots with the plan it has": Attack(
        lambda: submit(planned(NETWORK.plan(7), 107)), PlanOfBlockError
    ),
    "AP: the plan of a slot before": Attack(lambda: submit(planned(NETWORK.plan(6))), PlanOfBlockError),
    "AP: the plan of a slot to come": Attack(lambda: submit(planned(NETWORK.plan(8))), PlanOfBlockError),
    "gateway: signs a plan": Attack(lambda: submit(planned(plan_by(GATEWAY))), PlanOfBlockError),
    "outsider: signs a plan": Attack(lambda: submit(planned(plan_by(a_key("x")))), PlanOfBlockError),
    "AP: the controller's plan for a sister network": Attack(
        lambda: submit(planned(plan_by(CONTROLLER, sister=True))), PlanOfBlockError
    ),
    "AP: lower cuts in the controller's plan": Attack(
        lambda: submit(planned(replace(NETWORK.plan(7, {0: 0, 3: 0}), signature=NETWORK.plan(7).signature), cut=0)),
        PlanOfBlockError,
    ),
    "AP: a plan of no device": Attack(lambda: submit(planned(plan_by(CONTROLLER, cuts=()))), PlanOfBlockError),
    "AP, gateway and device: all layers on the AP, where cut 2 was planned": Attack(
        lambda: submit(planned(NETWORK.plan(7), cut=0)), PlannedCutError
    ),
    "AP, gateway and device: a higher cut than planned": Attack(
        lambda: submit(planned(NETWORK.plan(7), cut=3)), PlannedCutError
    ),
    "AP: another plan under its header": Attack(
        lambda: submit(replace(BLOCK, body=replace(BLOCK.body, plan=NETWORK.plan(7, {1: 0})))), RootError
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    ATTACKS[name].is_refused()
