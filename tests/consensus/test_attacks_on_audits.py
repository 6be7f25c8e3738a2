"""False accusations, and voids that are used up or too easy; the rule that stops each."""

from __future__ import annotations

import pytest

from splitnet.consensus.audit_records import Void, prove_fraud, vote_void
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import BodyError, FraudProofError
from splitnet.consensus.genesis import Audit
from tests.consensus.adversaries import (
    AP,
    BLOCK,
    GATEWAY,
    GOOD,
    NETWORK,
    Attack,
    accusation,
    mined,
    place_of,
    refused_by_judge,
    submit,
    void_of,
    voided,
)
from tests.consortium import NOW_MS, Consortium, Contents, a_key, some_rules, trusting

OFF = Consortium(some_rules(aps=3, gateways=3, devices=6))
"""Where there are no audits."""
PAIR = Consortium(some_rules(aps=2, audit=Audit(share_millionths=1)))


def voided_by_its_rival() -> None:
    """Of two APs the other is more than half of the others."""
    signed = PAIR.receipt(0, 0)
    chain = Chain(PAIR.rules, trusting)
    chain.add(PAIR.on(chain, 0, 0, Contents((signed,))), NOW_MS)
    votes = (vote_void(PAIR.rules, a_key("ap", 1), 1, signed),)
    chain.add(PAIR.on(chain, 1, 1, Contents(voids=(Void(signed, votes),))), NOW_MS)


def accused_where_nobody_audits() -> None:
    signed = OFF.receipt(0, 0)
    proof = prove_fraud(OFF.rules, a_key("ap", 1), 1, signed)
    Chain(OFF.rules, trusting).add(OFF.block(0, 1, Contents(frauds=(proof,))), NOW_MS)


def voided_where_nobody_audits() -> None:
    signed = OFF.receipt(0, 0)
    chain = Chain(OFF.rules, trusting)
    chain.add(OFF.on(chain, 0, 0, Contents((signed,))), NOW_MS)
    votes = tuple(vote_void(OFF.rules, a_key("ap", voter), voter, signed) for voter in (1, 2))
    chain.add(OFF.on(chain, 1, 1, Contents(voids=(Void(signed, votes),))), NOW_MS)


ATTACKS: dict[str, Attack] = {
    # accusations
    "AP: clears itself by accusing itself": Attack(lambda: submit(accusation(AP, 0)), FraudProofError),
    "gateway: accuses in an AP's name": Attack(lambda: submit(accusation(GATEWAY, 1)), FraudProofError),
    "outsider: accuses as AP 3": Attack(lambda: submit(accusation(a_key("ap", 3), 3)), FraudProofError),
    "AP: accuses of what is not so": Attack(refused_by_judge, FraudProofError),
    "AP: voids alone": Attack(lambda: submit(BLOCK, voided(1)), FraudProofError),
    "AP: votes twice": Attack(lambda: submit(BLOCK, voided(1, 1)), FraudProofError),
    "AP: votes of a sister network": Attack(lambda: submit(BLOCK, voided(1, 2, sister=True)), FraudProofError),
    "AP: uses up the void in the block that counts the receipt": Attack(
        lambda: submit(mined(contents=Contents((GOOD,), voids=(void_of(GOOD),)))), FraudProofError
    ),
    "AP: uses up the void before the receipt is recorded": Attack(
        lambda: submit(mined(contents=Contents(voids=(void_of(GOOD),)))), FraudProofError
    ),
    "AP and gateway: use up the void on a second receipt for one arrival": Attack(
        lambda: submit(
            BLOCK,
            NETWORK.block(8, 0, Contents(voids=(void_of(NETWORK.receipt(7, 0, cut=0)),)), parent=place_of(BLOCK)),
        ),
        FraudProofError,
    ),
    "AP: voids the work of its only rival": Attack(voided_by_its_rival, FraudProofError),
    "AP: accuses where nobody audits": Attack(accused_where_nobody_audits, BodyError),
    "APs: void where nobody audits": Attack(voided_where_nobody_audits, BodyError),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    ATTACKS[name].is_refused()
