"""Proofs and voids among APs: what is mined after a reorganisation, and peers whose word cannot be judged here."""

from __future__ import annotations

import pytest

from splitnet.consensus.audit_records import FraudProof, Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.errors import EvidenceMissingError, ReexecutionError, StoreError
from splitnet.consensus.genesis import Audit
from splitnet.consensus.instructions import Drop, NotJudged, Send, StoreValue, ValueStored
from splitnet.consensus.messages import BlockBytes, Fraud, GetBlocks, GetValue, Headers, Value
from splitnet.consensus.receipt import SignedReceipt, value_digest
from splitnet.consensus.validation import Place
from tests.consensus.fakes import FakeNetwork, FakeNode
from tests.consortium import NOW_MS, Contents, a_key

RARELY = Audit(share_millionths=1, suspended_slots=10)


def vote_all(network: FakeNetwork, node: FakeNode, signed: SignedReceipt) -> None:
    """Every AP but the accused tells this one that the activation was withheld."""
    rules = network.consortium.rules
    for voter in range(len(network.nodes)):
        if voter not in (signed.receipt.ap, node.number):
            vote = vote_void(rules, a_key("ap", voter), voter, signed)
            node.perform(node.gossip.accusations.vote_heard(signed, vote, NOW_MS))


def voids(block: Block) -> list[Void]:
    return list(block.body.voids)


# --- voids follow the chain


def test_a_void_waits_until_its_receipt_is_recorded() -> None:
    network = FakeNetwork(4, audit=RARELY)
    node, signed = network.nodes[1], network.consortium.receipt(0, 0)
    vote_all(network, node, signed)
    assert voids(node.mine(0)) == []
    node.perform(node.gossip.submit(signed, b"result"))
    assert voids(node.mine(1)) == [], "not in the block that records it"
    (void,) = voids(node.mine(2))
    assert void.signed == signed
    assert voids(node.mine(3)) == []


def test_a_void_whose_receipt_left_the_chain_does_not_stop_mining() -> None:
    """The longer branch holds another receipt for the same arrival; what it does not hold is not voided in it."""
    network = FakeNetwork(4, audit=RARELY)
    consortium, node = network.consortium, network.nodes[1]
    signed, other = consortium.receipt(0, 0), consortium.receipt(0, 0, result=b"other")
    node.perform(node.gossip.submit(signed, b"result"))
    node.mine(0)
    vote_all(network, node, signed)
    assert [void.signed for void in node.gossip.body(consortium.plan(1), 1).voids] == [signed]
    branch = [consortium.block(0, 2, Contents((other,)))]
    branch.append(
        consortium.block(1, 2, parent=Place.of_block(hash_of(consortium.rules, branch[0].sealed), branch[0].header))
    )
    for block in branch:
        node.perform(node.gossip.submit_block(block, NOW_MS))
    assert node.head == hash_of(consortium.rules, branch[1].sealed)
    assert voids(node.mine(2)) == []
    assert node.gossip.chain.head.height == 3


def test_a_void_of_a_second_receipt_does_not_push_out_that_of_the_first() -> None:
    """AP and gateway sign two receipts for one arrival and withhold both activations."""
    network = FakeNetwork(4, audit=RARELY)
    consortium, node = network.consortium, network.nodes[1]
    signed, other = consortium.receipt(0, 0), consortium.receipt(0, 0, result=b"other")
    node.perform(node.gossip.submit(signed, b"result"))
    node.mine(0)
    for one in (signed, other):
        vote_all(network, node, one)
    assert [void.signed for void in voids(node.mine(1))] == [signed]


# --- what cannot be judged here


def accusing(network: FakeNetwork, parent: Block | None, slot: int) -> Block:
    """A block of AP 2 with a proof of a lie by AP 0."""
    consortium = network.consortium
    proof = prove_fraud(consortium.rules, a_key("ap", 2), 2, consortium.receipt(0, 0))
    place = None if parent is None else Place.of_block(hash_of(consortium.rules, parent.sealed), parent.header)
    return consortium.block(slot, 2, Contents(frauds=(proof,)), parent=place)


def no_model(fraud: FraudProof) -> bool:
    raise ReexecutionError("the model is not held here")


@pytest.mark.parametrize("said", ["block", "proof"])
def test_who_says_what_cannot_be_judged_here_stays(said: str) -> None:
    network = FakeNetwork(3, audit=RARELY)
    node = network.nodes[1]
    node.judge = no_model
    node.gossip.connected(2, NOW_MS)
    block = accusing(network, None, 0)
    message, body = (
        (BlockBytes(bytes(32)), encode(block)) if said == "block" else (Fraud(encode(block.body.frauds[0])), b"")
    )
    assert node.gossip.heard(2, message, body, NOW_MS) == [NotJudged(2, "the model is not held here")]
    assert len(node.gossip.chain) == 0


def test_a_chain_that_cannot_be_judged_is_not_fetched_again_and_again() -> None:
    network = FakeNetwork(3, audit=RARELY)
    node, other = network.nodes[1], network.nodes[2]
    node.judge = no_model
    network.connect(1, 2)
    network.settle()
    for slot in range(3):
        block = accusing(network, None, 0) if slot == 0 else network.consortium.on(other.gossip.chain, slot, 2)
        other.perform(other.gossip.submit_block(block, NOW_MS))
    network.settle()
    assert not node.dropped
    assert node.not_judged == ["the model is not held here"]
    assert len(node.gossip.chain) == 0
    assert len(other.gossip.chain) == 3


def test_a_false_name_does_not_keep_an_honest_block_away() -> None:
    """What a peer calls a block is not what is set aside: its own bytes are."""
    network = FakeNetwork(3, audit=RARELY)
    node, honest = network.nodes[1], network.consortium.block(0, 2)
    name = hash_of(network.consortium.rules, honest.sealed)
    node.judge = no_model
    node.gossip.connected(2, NOW_MS)
    node.gossip.heard(2, BlockBytes(name), encode(accusing(network, None, 0)), NOW_MS)
    assert node.gossip.heard(2, Headers([encode(honest.sealed)]), b"", NOW_MS) == [Send(2, GetBlocks([name]))]


class Lacking:
    """A judge for whom evidence is missing until the value is there."""

    def __init__(self, node: FakeNode, value: bytes) -> None:
        self.node, self.digest = node, value_digest(value)

    def __call__(self, fraud: FraudProof) -> bool:
        if self.digest not in self.node.values:
            raise EvidenceMissingError("fetch it", (self.digest,))
        return True


def test_an_orphan_that_lacks_evidence_has_it_asked_of_all() -> None:
    network = FakeNetwork(3, audit=RARELY)
    node, value = network.nodes[1], b"an activation"
    node.judge = Lacking(node, value)
    first = network.consortium.block(0, 2)
    block = accusing(network, first, 1)
    for peer in (0, 2):
        node.gossip.connected(peer, NOW_MS)
    node.perform(node.gossip.heard(2, BlockBytes(bytes(32)), encode(block), NOW_MS))
    done = node.gossip.heard(2, BlockBytes(bytes(32)), encode(first), NOW_MS)
    node.perform(done)
    for peer in (0, 2):
        assert Send(peer, GetValue(value_digest(value))) in done
    assert not any(isinstance(one, Drop) for one in done)
    assert len(node.gossip.chain) == 1
    node.perform(node.gossip.heard(0, Value(value_digest(value)), value, NOW_MS))
    assert len(node.gossip.chain) == 2
    assert node.head in node.blocks, "and it is on disk"


def test_a_block_that_lacks_evidence_is_asked_for_once_and_taken_when_it_came() -> None:
    """Children come meanwhile; it is not asked for again, whoever speaks of it is asked for the evidence."""
    network = FakeNetwork(3, audit=RARELY)
    node, value = network.nodes[1], b"an activation"
    node.judge = Lacking(node, value)
    for peer in (0, 2):
        node.gossip.connected(peer, NOW_MS)
    rules = network.consortium.rules
    block = accusing(network, None, 0)
    child = network.consortium.block(1, 2, parent=Place.of_block(hash_of(rules, block.sealed), block.header))
    assert node.gossip.heard(2, BlockBytes(bytes(32)), encode(block), NOW_MS) == [
        Send(2, GetValue(value_digest(value)))
    ]
    assert node.gossip.heard(2, BlockBytes(bytes(32)), encode(child), NOW_MS) == []
    asked = node.gossip.heard(0, Headers([encode(block.sealed), encode(child.sealed)]), b"", NOW_MS)
    assert asked == [Send(0, GetValue(value_digest(value)))]
    done = node.gossip.heard(2, Value(value_digest(value)), value, NOW_MS)
    assert done == [StoreValue(value), ValueStored(value_digest(value), value)]
    node.perform(done)
    assert len(node.gossip.chain) == 2


def test_an_orphan_that_came_too_early_is_taken_by_the_clock() -> None:
    network = FakeNetwork(3)
    node, consortium = network.nodes[1], network.consortium
    first = consortium.block(0, 2)
    place = Place.of_block(hash_of(consortium.rules, first.sealed), first.header)
    early = consortium.block(1, 2, parent=place, time_ms=NOW_MS + 6000)
    for block in (early, first):
        node.perform(node.gossip.submit_block(block, NOW_MS))
    assert len(node.gossip.chain) == 1
    node.perform(node.gossip.tick(NOW_MS + 1001))
    assert len(node.gossip.chain) == 2
    assert node.head in node.blocks


def test_a_disk_that_fails_is_no_peers_fault() -> None:
    network = FakeNetwork(3, audit=RARELY)
    node = network.nodes[1]

    def failing(fraud: FraudProof) -> bool:
        raise StoreError("the disk is full")

    node.judge = failing
    node.gossip.connected(2, NOW_MS)
    with pytest.raises(StoreError):
        node.gossip.heard(2, BlockBytes(bytes(32)), encode(accusing(network, None, 0)), NOW_MS)
