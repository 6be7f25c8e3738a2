"""The tree of blocks: fork choice against brute force, reorganisations, orphans, and a receipt once ever."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import FraudProof, Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, Body, hash_of
from splitnet.consensus.chain import MOST_ORPHANS_OF_A_MINER, Chain, Entry
from splitnet.consensus.errors import (
    ConsensusError,
    FraudProofError,
    ParentError,
    RecordedTwiceError,
    ReputationError,
    SignatureOfReceiptError,
    SlotError,
    TimeError,
)
from splitnet.consensus.genesis import Audit
from splitnet.consensus.receipt import SignedReceipt
from splitnet.consensus.validation import Place, Standing
from tests.consortium import NOW_MS, STARTED_MS, Consortium, a_key, some_rules, trusting

CONSORTIUM = Consortium(some_rules(aps=3, gateways=3, devices=6, audit=Audit(1_000_000, suspended_slots=10)))
RULES = CONSORTIUM.rules


def a_chain() -> Chain:
    return Chain(RULES, trusting)


def place_of(block: Block) -> Place:
    return Place.of_block(hash_of(RULES, block.sealed), block.header)


def hashes(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.hash for entry in entries]


def line(count: int, parent: Place | None = None, slot: int = 0, miner: int = 0, **changes: Any) -> list[Block]:
    """Empty blocks, one on the other, in slots from `slot`."""
    found: list[Block] = []
    for number in range(count):
        found.append(CONSORTIUM.block(slot + number, miner, parent=parent, **changes))
        parent = place_of(found[-1])
    return found


# --- fork choice


def random_tree(chance: random.Random, count: int) -> list[Block]:
    """Valid blocks, each on the genesis block or on one before it."""
    blocks: list[Block] = []
    while len(blocks) < count:
        parent = chance.choice([None, *blocks, *blocks[-2:]])
        place = place_of(parent) if parent else Place.of_genesis(RULES)
        slot = place.slot + chance.randint(1, 3)
        body = Body(CONSORTIUM.receipts(slot, sorted(chance.sample(range(6), chance.randint(0, 2)))))
        block = CONSORTIUM.block(slot, chance.randrange(3), body, parent=place)
        if block not in blocks:
            blocks.append(block)
    return blocks


def chain_by_brute_force(blocks: list[Block]) -> list[bytes]:
    """Of every path from the genesis block, the longest; of these the one whose last hash is lowest."""
    parent_of = {hash_of(RULES, block.sealed): block.header.previous for block in blocks}
    paths = []
    for block_hash in parent_of:
        path = [block_hash]
        while path[0] in parent_of:
            path.insert(0, parent_of[path[0]])
        paths.append(path)
    return min(paths, key=lambda path: (-len(path), int.from_bytes(path[-1])))


@pytest.mark.parametrize("seed", range(25))
def test_the_head_does_not_depend_on_the_order(seed: int) -> None:
    chance = random.Random(seed)
    blocks = random_tree(chance, 14)
    expected = chain_by_brute_force(blocks)
    for _ in range(6):
        chance.shuffle(blocks)
        chain = a_chain()
        chosen: list[bytes] = [RULES.network]
        added: list[bytes] = []
        for block in blocks:
            result = chain.add(block, NOW_MS)
            added += [hash_of(RULES, known.sealed) for known in result.blocks]
            assert hashes(result.left) == chosen[::-1][: len(result.left)]
            chosen = chosen[: len(chosen) - len(result.left)] + hashes(result.joined)
            present = [chain.at(height) for height in range(len(chain) + 1)]
            assert chosen == [entry.hash for entry in present if entry]
        assert chosen == expected
        assert chain.head.hash == expected[-1]
        assert sorted(added) == sorted(hash_of(RULES, block.sealed) for block in blocks)
        assert not list(chain.orphans())


def test_a_reorganisation_says_what_left_and_what_joined() -> None:
    second, first = sorted((line(3), line(3, miner=1)), key=lambda blocks: place_of(blocks[2]).hash, reverse=True)
    second += line(1, place_of(second[2]), slot=3)
    chain = a_chain()
    for block in first:
        chain.add(block, NOW_MS)
    results = [chain.add(block, NOW_MS) for block in second]
    moved = results[3]
    assert hashes(moved.left) == [place_of(block).hash for block in first[::-1]]
    assert hashes(moved.joined) == [place_of(block).hash for block in second]
    assert chain.head.hash == place_of(second[3]).hash
    assert [result.joined for result in results[:3]] == [(), (), ()]


def test_of_two_as_long_the_lower_hash_wins() -> None:
    blocks = [line(1, miner=miner)[0] for miner in range(3)]
    lowest = min(place_of(block).hash for block in blocks)
    for order in (blocks, blocks[::-1]):
        chain = a_chain()
        for block in order:
            chain.add(block, NOW_MS)
        assert chain.head.hash == lowest


def test_a_longer_invalid_chain_loses() -> None:
    """One receipt with a forged signature in its second block; all else is mined, signed, and longer."""
    good, bad = line(2), line(1, miner=1)
    forged = CONSORTIUM.receipt(5, 0)
    forged = SignedReceipt(forged.receipt, forged.device_signature, forged.ap_signature, bytes(64))
    bad.append(CONSORTIUM.block(5, 1, Body((forged,)), parent=place_of(bad[0])))
    bad += line(6, place_of(bad[1]), slot=6, miner=1)
    chain = a_chain()
    for block in good:
        chain.add(block, NOW_MS)
    chain.add(bad[0], NOW_MS)
    with pytest.raises(SignatureOfReceiptError):
        chain.add(bad[1], NOW_MS)
    for block in bad[2:]:
        assert chain.add(block, NOW_MS).missing == place_of(bad[1]).hash
    assert chain.head.hash == place_of(good[1]).hash


def test_a_longer_chain_of_another_genesis_block_loses() -> None:
    other = Consortium(some_rules(aps=3, gateways=3, devices=6, started_ms=STARTED_MS + 1))
    chain, theirs = a_chain(), Chain(other.rules, trusting)
    chain.add(line(1)[0], NOW_MS)
    head = chain.head
    for slot in range(4):
        block = other.on(theirs, slot)
        theirs.add(block, NOW_MS)
        with pytest.raises(ConsensusError):
            chain.add(block, NOW_MS)
    assert chain.head is head
    assert not list(chain.orphans())


# --- place


def test_a_block_is_added_once_whatever_its_signature() -> None:
    block = line(1)[0]
    chain = a_chain()
    assert len(chain.add(block, NOW_MS).blocks) == 1
    again = chain.add(block, NOW_MS)
    assert (again.blocks, again.left, again.joined, again.missing) == ((), (), (), None)
    assert len(chain) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"height": 3}, ParentError),
        ({"height": 1}, ParentError),
        ({"slot": 0}, SlotError),
        ({"time_ms": STARTED_MS + 1000}, TimeError),
        ({"time_ms": NOW_MS + 5001}, TimeError),
    ],
)
@pytest.mark.parametrize("as_orphan", [False, True])
def test_places_that_do_not_fit(changes: dict[str, int], error: type[ConsensusError], as_orphan: bool) -> None:
    """An orphan's place is judged once its parent is there."""
    chain, first = a_chain(), line(1)[0]
    good = CONSORTIUM.block(1, 1, parent=place_of(first))
    bad = CONSORTIUM.mined(msgspec.structs.replace(good.header, **changes), good.body)
    if as_orphan:
        assert chain.add(bad, NOW_MS).missing == place_of(first).hash
        chain.add(first, NOW_MS)
    else:
        chain.add(first, NOW_MS)
        with pytest.raises(error):
            chain.add(bad, NOW_MS)
    assert chain.head.hash == place_of(first).hash
    assert place_of(bad).hash not in chain
    assert not list(chain.orphans())


def test_a_clock_that_has_gone_on_lets_a_block_in() -> None:
    block = line(1, time_ms=NOW_MS + 6000)[0]
    chain = a_chain()
    with pytest.raises(TimeError):
        chain.add(block, NOW_MS)
    chain.add(block, NOW_MS + 1000)
    assert len(chain) == 1


def test_no_candidate_for_a_slot_that_has_passed() -> None:
    chain = a_chain()
    chain.add(line(1, slot=7)[0], NOW_MS)
    assert chain.candidate(Body(), 8, 0, NOW_MS).slot == 8
    for slot in (0, 6, 7):
        with pytest.raises(SlotError, match=f"slot {slot} does not come after the parent's slot 7"):
            chain.candidate(Body(), slot, 0, NOW_MS)


# --- orphans


def test_orphans_wait_and_say_for_what() -> None:
    blocks = line(5)
    chain = a_chain()
    for block in blocks[:0:-1]:
        result = chain.add(block, NOW_MS)
        assert result.missing == block.header.previous
        assert result.blocks == ()
    last = place_of(blocks[4]).hash
    assert chain.waits(last)
    assert last not in chain
    assert chain.missing(last) == place_of(blocks[0]).hash
    assert chain.add(blocks[4], NOW_MS).missing == place_of(blocks[0]).hash
    result = chain.add(blocks[0], NOW_MS)
    assert list(result.blocks) == blocks
    assert hashes(result.joined) == [place_of(block).hash for block in blocks]
    assert chain.missing(last) is None


def test_a_miner_pushes_out_only_its_own_orphans() -> None:
    unknown = [Place(bytes([1, number]) + bytes(30), 9, 9, STARTED_MS + 9) for number in range(80)]
    of_other = line(1, unknown[0], slot=10, miner=1)[0]
    chain = a_chain()
    chain.add(of_other, NOW_MS)
    flood = [line(1, place, slot=10, miner=0)[0] for place in unknown]
    for block in flood:
        chain.add(block, NOW_MS)
    waiting = set(chain.orphans())
    assert len(waiting) == MOST_ORPHANS_OF_A_MINER + 1
    assert waiting == {place_of(block).hash for block in [of_other, *flood[-MOST_ORPHANS_OF_A_MINER:]]}
    assert len(chain) == 0


def test_an_orphan_that_cannot_be_true_does_not_wait() -> None:
    """Its receipts prove less than its header claims, whatever stands below it."""
    claims = CONSORTIUM.block(4, 0, Body(CONSORTIUM.receipts(4, [0, 3])))
    empty = Body()
    header = msgspec.structs.replace(claims.header, receipts=empty.receipts_root(), previous=bytes(32))
    chain = a_chain()
    with pytest.raises(ReputationError, match="at most 0"):
        chain.add(CONSORTIUM.mined(header, empty), NOW_MS)
    assert not list(chain.orphans())


# --- a receipt counts once ever


def test_a_receipt_is_recorded_once_on_a_branch() -> None:
    receipt = CONSORTIUM.receipt(0, 0)
    chain = a_chain()
    first = CONSORTIUM.block(0, 0, Body((receipt,)))
    between = CONSORTIUM.block(1, 1, parent=place_of(first))
    for block in (first, between):
        chain.add(block, NOW_MS)
    other_content = CONSORTIUM.receipt(0, 0, cut=0)
    for replayed in (receipt, other_content):
        for parent in (first, between):
            block = CONSORTIUM.block(9, 2, Body((replayed,)), parent=place_of(parent))
            with pytest.raises(RecordedTwiceError, match="slot 0 and device 0 stands in block 1 already"):
                chain.add(block, NOW_MS)
        with pytest.raises(RecordedTwiceError):
            chain.candidate(Body((replayed,)), 9, 2, NOW_MS)
    assert chain.head.hash == place_of(between).hash


def test_each_branch_may_record_it() -> None:
    """Beside the chain, on the chain after a reorganisation, and then not once more."""
    receipt = CONSORTIUM.receipt(0, 0)
    body = Body((receipt,))
    ours = [CONSORTIUM.block(0, 0, body)]
    ours.append(CONSORTIUM.block(1, 0, parent=place_of(ours[0])))
    theirs = line(1, miner=1)
    theirs.append(CONSORTIUM.block(1, 1, body, parent=place_of(theirs[0])))
    theirs += line(1, place_of(theirs[1]), slot=2, miner=1)
    chain = a_chain()
    for block in (*ours, *theirs):
        chain.add(block, NOW_MS)
    assert chain.head.hash == place_of(theirs[2]).hash
    holder = chain.recorded(("receipt", (0, 0)))
    assert holder is not None
    assert holder.hash == place_of(theirs[1]).hash
    for parent in (theirs[2], theirs[1], ours[1], ours[0]):
        with pytest.raises(RecordedTwiceError):
            chain.add(CONSORTIUM.block(7, 2, body, parent=place_of(parent)), NOW_MS)
    aside = CONSORTIUM.block(7, 2, body, parent=place_of(theirs[0]))
    chain.add(aside, NOW_MS)
    assert place_of(aside).hash in chain


# --- what audits leave; AP 0 serves the devices 0 and 3, 150 FLOPs a data point at cut 2, 10,000 FLOPs make U = 1


def fraud(signed: SignedReceipt, verifier: int = 1) -> FraudProof:
    return prove_fraud(RULES, a_key("ap", verifier), verifier, signed)


def void(signed: SignedReceipt) -> Void:
    voters = [ap for ap in range(3) if ap != signed.receipt.ap]
    return Void(signed, tuple(vote_void(RULES, a_key("ap", ap), ap, signed) for ap in voters))


def test_a_liar_is_suspended() -> None:
    """Proved in slot 2, K = 10: no reputation through slot 12, all of it in slot 13; others keep theirs."""
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    chain.add(CONSORTIUM.on(chain, 0, 0, Body((lie,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 2, 1, Body(frauds=(fraud(lie),))), NOW_MS)
    assert chain.head.standings == (Standing(suspended_to=12), Standing(), Standing())
    for slot, miner, reputation in ((3, 0, 0), (4, 1, 300_000), (12, 0, 0), (13, 0, 300_000)):
        body = Body(CONSORTIUM.receipts(slot))
        if reputation == 0:
            unpunished = CONSORTIUM.block(slot, miner, body, parent=chain.head.place)
            with pytest.raises(ReputationError, match=r"a reputation of 300000 .* give 0"):
                chain.add(unpunished, NOW_MS)
        chain.add(CONSORTIUM.on(chain, slot, miner, body), NOW_MS)
        assert chain.head.header.reputation_micro == reputation


def test_a_proof_takes_hold_in_its_own_block_and_branch() -> None:
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    own = Body(CONSORTIUM.receipts(1, [0]), frauds=(fraud(lie),))
    chain.add(CONSORTIUM.on(chain, 1, 0, own), NOW_MS)
    assert chain.head.header.reputation_micro == 0
    beside = CONSORTIUM.block(1, 0, Body(CONSORTIUM.receipts(1, [0, 3])))
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
        chain.add(CONSORTIUM.block(1, 1, Body(frauds=(proof,))), NOW_MS)
    assert seen == [proof]
    assert len(chain) == 0


def test_a_void_takes_back_what_was_counted() -> None:
    """1,500 of 3,000 counted FLOPs are owed: 2,100 proved count for 600, and then nothing is owed."""
    chain = a_chain()
    counted = CONSORTIUM.receipts(0, [0, 3])
    chain.add(CONSORTIUM.on(chain, 0, 0, Body(counted)), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Body(voids=(void(counted[0]),))), NOW_MS)
    assert chain.head.standings[0] == Standing(owed_flops=1500)
    proved = (CONSORTIUM.receipt(2, 0, data_points=4), CONSORTIUM.receipt(2, 3))
    chain.add(CONSORTIUM.on(chain, 2, 0, Body(proved)), NOW_MS)
    assert chain.head.header.reputation_micro == 60_000
    assert chain.head.standings[0] == Standing()


def test_a_debt_is_paid_over_several_blocks() -> None:
    chain = a_chain()
    counted = CONSORTIUM.receipts(0, [0, 3])
    chain.add(CONSORTIUM.on(chain, 0, 0, Body(counted)), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Body(voids=tuple(map(void, counted)))), NOW_MS)
    for slot, reputation, owed in ((2, 0, 1500), (3, 0, 0), (4, 150_000, 0)):
        chain.add(CONSORTIUM.on(chain, slot, 0, Body(CONSORTIUM.receipts(slot, [0]))), NOW_MS)
        assert chain.head.header.reputation_micro == reputation
        assert chain.head.standings[0].owed_flops == owed


def test_what_was_never_counted_is_not_owed() -> None:
    """A receipt in another's block, or in a block of a later slot."""
    chain = a_chain()
    elsewhere, late = CONSORTIUM.receipt(0, 0), CONSORTIUM.receipt(0, 3)
    chain.add(CONSORTIUM.on(chain, 0, 1, Body((elsewhere,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 0, Body((late,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 2, 1, Body(voids=(void(elsewhere), void(late)))), NOW_MS)
    assert chain.head.standings[0] == Standing()


def test_only_what_the_chain_holds_is_voided() -> None:
    """Not before it is recorded, nor in the same block, nor another receipt for the same arrival."""
    chain, counted = a_chain(), CONSORTIUM.receipt(0, 0)
    for body in (Body(voids=(void(counted),)), Body((counted,), voids=(void(counted),))):
        with pytest.raises(FraudProofError, match="slot 0 and device 0: the chain below holds no such receipt"):
            chain.add(CONSORTIUM.block(0, 0, body), NOW_MS)
        with pytest.raises(FraudProofError):
            chain.candidate(body, 0, 0, NOW_MS)
    chain.add(CONSORTIUM.on(chain, 0, 0, Body((counted,))), NOW_MS)
    second = Body(voids=(void(CONSORTIUM.receipt(0, 0, result=b"second")),))
    with pytest.raises(FraudProofError):
        chain.add(CONSORTIUM.block(1, 0, second, parent=chain.head.place), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Body(voids=(void(counted),))), NOW_MS)
    assert chain.head.standings[0].owed_flops == 1500


def test_proofs_and_voids_are_recorded_once() -> None:
    chain = a_chain()
    lie = CONSORTIUM.receipt(0, 0)
    chain.add(CONSORTIUM.on(chain, 0, 0, Body((lie,))), NOW_MS)
    chain.add(CONSORTIUM.on(chain, 1, 1, Body(frauds=(fraud(lie),), voids=(void(lie),))), NOW_MS)
    for body in (Body(frauds=(fraud(lie, 2),)), Body(voids=(void(lie),))):
        with pytest.raises(RecordedTwiceError):
            chain.add(CONSORTIUM.block(2, 2, body, parent=chain.head.place), NOW_MS)
