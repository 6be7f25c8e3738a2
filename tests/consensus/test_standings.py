"""What audits leave of an AP: suspensions and debts, each in its own branch.

AP 0 serves the devices 0 and 3, 150 FLOPs a data point at cut 2; 10,000 FLOPs make U = 1.
"""

from __future__ import annotations

import pytest

from splitnet.consensus.audit_records import FraudProof, Void, prove_fraud, vote_void
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import FraudProofError, RecordedTwiceError, ReputationError
from splitnet.consensus.receipt import SignedReceipt
from splitnet.consensus.validation import Standing
from tests.consensus.trees import CONSORTIUM, RULES, a_chain, place_of
from tests.consortium import NOW_MS, Contents, a_key


def fraud(signed: SignedReceipt, verifier: int = 1) -> FraudProof:
    return prove_fraud(RULES, a_key("ap", verifier), verifier, signed)


def void(signed: SignedReceipt) -> Void:
    voters = [ap for ap in range(3) if ap != signed.receipt.ap]
    return Void(signed, tuple(vote_void(RULES, a_key("ap", ap), ap, signed) for ap in voters))


def test_a_liar_is_suspended() -> None:
    """Proved in slot 2, K = 10: no reputation through slot 12, all of it in slot 13; others keep theirs."""
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    chain.add(CONSORTIUM.on(chain, 0, 0, Contents((lie,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 2, 1, Contents(frauds=(fraud(lie),))), NOW_MS)
    assert chain.head.standings == (Standing(suspended_to=12), Standing(), Standing())
    for slot, miner, reputation in ((3, 0, 0), (4, 1, 300_000), (12, 0, 0), (13, 0, 300_000)):
        body = Contents(CONSORTIUM.receipts(slot))
        if reputation == 0:
            unpunished = CONSORTIUM.block(slot, miner, body, parent=chain.head.place)
            with pytest.raises(ReputationError, match=r"a reputation of 300000 .* give 0"):
                chain.add(unpunished, NOW_MS)
        chain.add(CONSORTIUM.on(chain, slot, miner, body), NOW_MS)
        assert chain.head.header.reputation_micro == reputation


def test_a_proof_takes_hold_in_its_own_block_and_branch() -> None:
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    own = Contents(CONSORTIUM.receipts(1, [0]), frauds=(fraud(lie),))
    chain.add(CONSORTIUM.on(chain, 1, 0, own), NOW_MS)
    assert chain.head.header.reputation_micro == 0
    beside = CONSORTIUM.block(1, 0, Contents(CONSORTIUM.receipts(1, [0, 3])))
    chain.add(beside, NOW_MS)
    entry = chain.get(place_of(beside).hash)
    assert entry is not None
    assert entry.header.reputation_micro == 300_000
    assert entry.standings[0] == Standing()


def test_a_proof_must_convince_the_judge() -> None:
    seen: list[FraudProof] = []

    def doubting(proof: FraudProof) -> bool:
        seen.append(proof)
        return False

    chain = Chain(RULES, doubting)
    proof = fraud(CONSORTIUM.receipt(0, 0))
    with pytest.raises(FraudProofError, match="re-execution does not show that AP 0 lied in slot 0 about device 0"):
        chain.add(CONSORTIUM.block(1, 1, Contents(frauds=(proof,))), NOW_MS)
    assert seen == [proof]
    assert len(chain) == 0


def test_a_void_takes_back_what_was_counted() -> None:
    """1,500 of 3,000 counted FLOPs are owed: 2,100 proved count for 600, and then nothing is owed."""
    chain = a_chain()
    counted = CONSORTIUM.receipts(0, [0, 3])
    chain.add(CONSORTIUM.on(chain, 0, 0, Contents(counted)), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Contents(voids=(void(counted[0]),))), NOW_MS)
    assert chain.head.standings[0] == Standing(owed_flops=1500)
    proved = (CONSORTIUM.receipt(2, 0, data_points=4), CONSORTIUM.receipt(2, 3))
    chain.add(CONSORTIUM.on(chain, 2, 0, Contents(proved)), NOW_MS)
    assert chain.head.header.reputation_micro == 60_000
    assert chain.head.standings[0] == Standing()


def test_a_debt_is_paid_over_several_blocks() -> None:
    chain = a_chain()
    counted = CONSORTIUM.receipts(0, [0, 3])
    chain.add(CONSORTIUM.on(chain, 0, 0, Contents(counted)), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Contents(voids=tuple(map(void, counted)))), NOW_MS)
    for slot, reputation, owed in ((2, 0, 1500), (3, 0, 0), (4, 150_000, 0)):
        chain.add(CONSORTIUM.on(chain, slot, 0, Contents(CONSORTIUM.receipts(slot, [0]))), NOW_MS)
        assert chain.head.header.reputation_micro == reputation
        assert chain.head.standings[0].owed_flops == owed


def test_what_was_never_counted_is_not_owed() -> None:
    """A receipt in another's block, or in a block of a later slot."""
    chain = a_chain()
    elsewhere, late = CONSORTIUM.receipt(0, 0), CONSORTIUM.receipt(0, 3)
    chain.add(CONSORTIUM.on(chain, 0, 1, Contents((elsewhere,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 0, Contents((late,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 2, 1, Contents(voids=(void(elsewhere), void(late)))), NOW_MS)
    assert chain.head.standings[0] == Standing()


def test_only_what_the_chain_holds_is_voided() -> None:
    """Not before it is recorded, nor in the same block, nor another receipt for the same arrival."""
    chain, counted = a_chain(), CONSORTIUM.receipt(0, 0)
    for body in (Contents(voids=(void(counted),)), Contents((counted,), voids=(void(counted),))):
        with pytest.raises(FraudProofError, match="slot 0 and device 0: the chain below holds no such receipt"):
            chain.add(CONSORTIUM.block(0, 0, body), NOW_MS)
        with pytest.raises(FraudProofError):
            chain.candidate(CONSORTIUM.body(0, body), 0, NOW_MS)
    chain.add(CONSORTIUM.on(chain, 0, 0, Contents((counted,))), NOW_MS)
    second = Contents(voids=(void(CONSORTIUM.receipt(0, 0, result=b"second")),))
    with pytest.raises(FraudProofError):
        chain.add(CONSORTIUM.block(1, 0, second, parent=chain.head.place), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Contents(voids=(void(counted),))), NOW_MS)
    assert chain.head.standings[0].owed_flops == 1500


def test_proofs_and_voids_are_recorded_once() -> None:
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    chain.add(CONSORTIUM.on(chain, 0, 0, Contents((lie,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Contents(frauds=(fraud(lie),), voids=(void(lie),))), NOW_MS)
    for body in (Contents(frauds=(fraud(lie, 2),)), Contents(voids=(void(lie),))):
        with pytest.raises(RecordedTwiceError):
            chain.add(CONSORTIUM.block(2, 2, body, parent=chain.head.place), NOW_MS)
