"""Blocks that wait: for a parent, for evidence, for their time; how many, and what becomes of them."""

from __future__ import annotations

import msgspec
import pytest

from splitnet.consensus.audit_records import FraudProof, prove_fraud
from splitnet.consensus.block import Block
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import (
    ConsensusError,
    EvidenceMissingError,
    FraudProofError,
    ReexecutionError,
    ReputationError,
    StoreError,
)
from splitnet.consensus.orphans import MOST_OF_A_MINER
from splitnet.consensus.validation import Place, Standing
from tests.consensus.trees import CONSORTIUM, RULES, a_chain, hashes, line, place_of
from tests.consortium import NOW_MS, STARTED_MS, Contents, a_key


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
    assert len(waiting) == MOST_OF_A_MINER + 1
    assert waiting == {place_of(block).hash for block in [of_other, *flood[-MOST_OF_A_MINER:]]}
    assert len(chain) == 0


def test_an_orphan_that_cannot_be_true_does_not_wait() -> None:
    """Its receipts prove less than its header claims, whatever stands below it."""
    claims = CONSORTIUM.block(4, 0, Contents(CONSORTIUM.receipts(4, [0, 3])))
    empty = CONSORTIUM.body(4)
    header = msgspec.structs.replace(claims.header, receipts=empty.receipts_root(), previous=bytes(32))
    chain = a_chain()
    with pytest.raises(ReputationError, match="at most 0"):
        chain.add(CONSORTIUM.mined(header, empty), NOW_MS)
    assert not list(chain.orphans())


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of the miner's own go until the new one fits; another's stay."""
    unknown = [Place(bytes([2, number]) + bytes(30), 9, 9, STARTED_MS + 9) for number in range(8)]
    of_other = line(1, unknown[0], slot=10, miner=1)[0]
    small = [line(1, place, slot=10)[0] for place in unknown[1:]]
    large = CONSORTIUM.block(10, 0, Contents(CONSORTIUM.receipts(10)), parent=unknown[0])
    sizes = [len(encode(block)) for block in small]
    monkeypatch.setattr("splitnet.consensus.orphans.MOST_BYTES_OF_A_MINER", len(encode(large)) + sum(sizes[-2:]))
    chain = a_chain()
    for block in (of_other, *small, large):
        chain.add(block, NOW_MS)
    kept = {place_of(block).hash for block in (of_other, *small[-2:], large)}
    assert set(chain.orphans()) == kept
    assert len(encode(large)) > 3 * sizes[0]


def test_an_orphan_that_is_ahead_waits_for_its_time() -> None:
    first = line(1)[0]
    early = line(1, place_of(first), slot=1, time_ms=NOW_MS + 6000)[0]
    after = line(1, place_of(early), slot=2, time_ms=NOW_MS + 6001)[0]
    chain = a_chain()
    for block in (after, early):
        chain.add(block, NOW_MS)
    assert list(chain.add(first, NOW_MS).blocks) == [first]
    assert set(chain.orphans()) == {place_of(early).hash, place_of(after).hash}
    assert chain.missing(place_of(after).hash) is None, "all that it waits for is here"
    assert chain.retry(NOW_MS).blocks == ()
    again = chain.retry(NOW_MS + 1001)
    assert list(again.blocks) == [early, after]
    assert hashes(again.joined) == [place_of(block).hash for block in (early, after)]
    assert not list(chain.orphans())


def test_an_orphan_that_is_ahead_may_be_added_again() -> None:
    first = line(1)[0]
    early = line(1, place_of(first), slot=1, time_ms=NOW_MS + 6000)[0]
    chain = a_chain()
    for block in (early, first):
        chain.add(block, NOW_MS)
    assert list(chain.add(early, NOW_MS + 1000).blocks) == [early]
    assert not list(chain.orphans())


class Evidence:
    """A judge that knows nothing until it is told."""

    def __init__(self, *missing: bytes) -> None:
        self.missing, self.asked = set(missing), 0

    def judge(self, fraud: FraudProof) -> bool:
        self.asked += 1
        if self.missing:
            raise EvidenceMissingError("fetch it", tuple(sorted(self.missing)))
        return True


def accusing(parent: Block) -> Block:
    """A block with a fraud proof."""
    lie = CONSORTIUM.receipt(0, 0)
    proof = prove_fraud(RULES, a_key("ap", 1), 1, lie)
    return CONSORTIUM.block(1, 1, Contents(frauds=(proof,)), parent=place_of(parent), standing=Standing())


def test_an_orphan_that_lacks_evidence_waits_for_all_of_it() -> None:
    activation, result = bytes([1] * 32), bytes([2] * 32)
    evidence = Evidence(activation, result)
    chain = Chain(RULES, evidence.judge)
    first = line(1)[0]
    block = accusing(first)
    after = line(1, place_of(block), slot=2)[0]
    for one in (after, block):
        chain.add(one, NOW_MS)
    added = chain.add(first, NOW_MS)
    assert (list(added.blocks), added.evidence) == ([first], (activation, result))
    assert chain.retry(NOW_MS).blocks == chain.retry(NOW_MS, bytes(32)).blocks == ()
    evidence.missing = {result}
    assert chain.retry(NOW_MS, activation).blocks == ()
    assert evidence.asked == 1, "not judged before all is there"
    evidence.missing = set()
    assert list(chain.retry(NOW_MS, result).blocks) == [block, after]
    assert chain.head.standings[0].suspended_to == 11


@pytest.mark.parametrize("error", [ReexecutionError("the model is not held here"), FraudProofError("a lie")])
def test_an_orphan_that_cannot_be_valid_here_goes(error: ConsensusError) -> None:
    def judge(fraud: FraudProof) -> bool:
        raise error

    chain, first = Chain(RULES, judge), line(1)[0]
    for one in (accusing(first), first):
        chain.add(one, NOW_MS)
    assert len(chain) == 1
    assert not list(chain.orphans())


def test_a_disk_that_fails_is_no_orphans_fault() -> None:
    def judge(fraud: FraudProof) -> bool:
        raise StoreError("damaged")

    chain, first = Chain(RULES, judge), line(1)[0]
    chain.add(accusing(first), NOW_MS)
    with pytest.raises(StoreError):
        chain.add(first, NOW_MS)
