"""APs in one process, with a network between them that delays, cuts and lies: they agree in the end."""

from __future__ import annotations

import random

import msgspec
import pytest

from splitnet.consensus.audit_records import prove_fraud
from splitnet.consensus.block import Block, Body, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.contact import ANSWER_DEADLINE_MS
from splitnet.consensus.instructions import (
    Drop,
    Send,
)
from splitnet.consensus.messages import (
    MOST_BLOCKS_ASKED,
    MOST_HEADERS,
    Announce,
    BlockBytes,
    Fraud,
    GetBlocks,
    GetHeaders,
    GetValue,
    Headers,
    NotHere,
    Ping,
    ReceiptBody,
    Said,
    Value,
)
from splitnet.consensus.receipt import MOST_TRAVELLING_BYTES, value_digest
from tests.consensus.fakes import FakeNetwork
from tests.consortium import NOW_MS, a_key


def test_own_receipts_of_another_cut_than_planned_wait() -> None:
    """The plan came anew while inferences ran: the block is mined all the same, and the next one records them."""
    network = FakeNetwork(2)
    node = network.nodes[0]
    network.submit(0, 0)
    network.submit(0, 2)
    plan = network.consortium.plan(0, {2: 5})
    body = node.gossip.body(plan, 0)
    assert [signed.key for signed in body.receipts] == [(0, 0)]
    node.perform(node.gossip.submit_block(network.consortium.on(node.gossip.chain, 0, 0, body), NOW_MS))
    block = node.mine(1)
    assert [signed.key for signed in block.body.receipts] == [(0, 2)]
    assert block.header.reputation_micro == 0


def test_receipts_and_blocks_reach_all() -> None:
    network = FakeNetwork(3)
    network.connect_all()
    for twin in range(6):
        network.submit(0, twin)
    network.settle()
    assert all(len(node.gossip.pool) == 6 for node in network.nodes)
    block = network.nodes[1].mine(0)
    network.settle()
    assert network.heads() == {hash_of(network.consortium.rules, block.sealed)}
    assert [signed.key for signed in block.body.receipts] == [(0, twin) for twin in range(6)]
    # two of six are of the miner: 2 receipts of 10 data points and 150 FLOPs each, of 10,000
    assert block.header.reputation_micro == 300_000
    empty = network.consortium.body(1)
    assert all(node.gossip.body(empty.plan, node.number) == empty for node in network.nodes)
    assert not any(node.dropped for node in network.nodes)


@pytest.mark.parametrize("seed", range(8))
def test_partitions_heal(seed: int) -> None:
    """Both parts go on alone; the longer chain wins, and the loser's receipts are recorded again."""
    network = FakeNetwork(4, seed)
    chance = random.Random(seed)
    network.connect_all()
    network.nodes[0].mine(0)
    network.settle()
    for one in (0, 1):
        for other in (2, 3):
            network.cut(one, other)
    slots = {0: 1, 2: 1}
    for _ in range(12):
        part = chance.choice((0, 2))
        slot = slots[part]
        network.submit(slot, chance.choice((part, part + 1)))
        network.settle()
        network.nodes[part + chance.randrange(2)].mine(slot)
        network.settle()
        slots[part] += 1
    network.connect_all()
    network.settle()
    assert len(network.heads()) == 1
    chain = network.nodes[0].gossip.chain
    assert chain.head.height == max(slots.values())
    network.nodes[3].mine(50)
    network.settle()
    assert len(network.heads()) == 1
    submitted = {key for node in network.nodes for key in (pooled.signed.key for pooled in node.gossip.pool)}
    assert len(submitted) >= 12
    assert all(network.nodes[2].gossip.chain.recorded(("receipt", key)) for key in submitted)
    assert not any(node.dropped for node in network.nodes)


def test_a_late_joiner_catches_up_over_several_messages() -> None:
    network = FakeNetwork(3)
    network.connect(0, 1)
    for slot in range(MOST_HEADERS + 3 * MOST_BLOCKS_ASKED + 5):
        network.nodes[0].mine(slot)
    network.settle()
    network.connect(1, 2)
    network.settle()
    assert len(network.heads()) == 1
    assert network.nodes[2].gossip.chain.head.height == MOST_HEADERS + 3 * MOST_BLOCKS_ASKED + 5


def test_a_lone_chain_of_many_blocks_is_overtaken_by_a_longer_one() -> None:
    """The branch to be left is longer than one message of headers."""
    network = FakeNetwork(2)
    for slot in range(MOST_HEADERS + 20):
        network.nodes[0].mine(slot)
    for slot in range(MOST_HEADERS + 21):
        network.nodes[1].mine(slot)
    network.connect(0, 1)
    network.settle()
    assert network.heads() == {network.nodes[1].head}
    assert network.nodes[0].gossip.chain.head.height == MOST_HEADERS + 21


def test_large_results_are_fetched_by_digest() -> None:
    network = FakeNetwork(2)
    network.connect_all()
    large = bytes(MOST_TRAVELLING_BYTES + 1)
    network.submit(0, 0, large)
    network.settle()
    assert network.nodes[1].values[value_digest(large)] == large
    assert [signed.key for signed in network.nodes[1].gossip.body(network.consortium.plan(0), 1).receipts] == [(0, 0)]


def test_a_receipt_without_its_result_is_not_mined() -> None:
    network = FakeNetwork(2)
    signed = network.consortium.receipt(0, 0)
    node = network.nodes[1]
    node.gossip.connected(0, NOW_MS)
    done = node.gossip.heard(0, ReceiptBody(encode(signed), with_result=False), b"", NOW_MS)
    assert Send(0, GetValue(signed.receipt.result)) in done
    plan = network.consortium.plan(0)
    assert node.gossip.body(plan, 1) == Body(plan)
    assert node.gossip.heard(0, Value(signed.receipt.result), b"another", NOW_MS)[0] == Drop(
        0, f"a value of 7 bytes does not have the digest {signed.receipt.result.hex()[:12]}"
    )
    assert node.gossip.body(plan, 1) == Body(plan)


def _tampered(block: Block) -> Block:
    header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
    return msgspec.structs.replace(block, sealed=msgspec.structs.replace(block.sealed, header=header))


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("receipt of a forger", "SignatureOfReceipt"),
        ("tampered block", "Work"),
        ("tampered header", "Work"),
        ("rubbish", "Encoding"),
        ("headers from nowhere", "Parent"),
        ("a ping with a body", "Ping with a body of 1 bytes"),
        ("an answer that nobody waits for", "nobody asked for"),
        ("a value nobody asked for", "nobody asked"),
        ("a result that was not signed", "ResultDigest"),
        ("a large result that came along", "at most"),
        ("a block without the controller's word", "PlanOfBlock"),
        ("an accusation where nobody audits", "FraudProof"),
    ],
)
def test_rubbish_is_dropped_with_its_reason(said: str, rule: str) -> None:
    network = FakeNetwork(2)
    consortium, node = network.consortium, network.nodes[0]
    signed = consortium.receipt(0, 0)
    block = consortium.block(0, 1)
    nowhere = consortium.mined(msgspec.structs.replace(block.header, previous=bytes(32)), block.body)
    far = msgspec.structs.replace(consortium.block(2**62, 1).header, plan=block.header.plan)
    jump = consortium.mined(far, block.body)
    messages: dict[str, tuple[Said, bytes]] = {
        "receipt of a forger": (
            ReceiptBody(encode(msgspec.structs.replace(signed, ap_signature=bytes(64))), True),
            b"result",
        ),
        "tampered block": (BlockBytes(bytes(32)), encode(_tampered(block))),
        "tampered header": (Announce(encode(_tampered(block).sealed)), b""),
        "rubbish": (BlockBytes(bytes(32)), b"rubbish"),
        "headers from nowhere": (Headers([encode(nowhere.sealed)]), b""),
        "a ping with a body": (Ping(), b"x"),
        "an answer that nobody waits for": (NotHere(bytes(32)), b""),
        "a value nobody asked for": (Value(bytes(32)), b"x"),
        "a result that was not signed": (ReceiptBody(encode(signed), True), b"another"),
        "a large result that came along": (ReceiptBody(encode(signed), True), bytes(MOST_TRAVELLING_BYTES + 1)),
        "a block without the controller's word": (BlockBytes(bytes(32)), encode(jump)),
        "an accusation where nobody audits": (
            Fraud(encode(prove_fraud(consortium.rules, a_key("ap", 1), 1, signed))),
            b"",
        ),
    }
    message, body = messages[said]
    node.gossip.connected(1, NOW_MS)
    done = node.gossip.heard(1, message, body, NOW_MS)
    assert len(done) == 1
    assert isinstance(done[0], Drop)
    assert done[0].broke_rule
    assert rule in done[0].reason
    assert len(node.gossip.pool) == 0
    assert not node.blocks
    assert node.gossip.chain.head.height == 0


def test_a_block_from_a_clock_ahead_is_left_without_a_drop() -> None:
    network = FakeNetwork(2)
    node = network.nodes[0]
    block = network.consortium.block(0, 1, time_ms=NOW_MS + 60_000)
    node.gossip.connected(1, NOW_MS)
    assert node.gossip.heard(1, BlockBytes(bytes(32)), encode(block), NOW_MS) == []
    assert node.gossip.chain.head.height == 0
    node.perform(node.gossip.heard(1, BlockBytes(bytes(32)), encode(block), NOW_MS + 60_000))
    assert node.gossip.chain.head.height == 1


def test_a_peer_that_does_not_answer_is_dropped_and_may_come_back() -> None:
    network = FakeNetwork(2)
    node = network.nodes[0]
    node.gossip.connected(1, NOW_MS)
    header = encode(network.consortium.block(0, 1).sealed)
    asked = node.gossip.heard(1, Headers([header]), b"", NOW_MS)
    assert [type(instruction.message) for instruction in asked if isinstance(instruction, Send)] == [GetBlocks]
    assert node.gossip.tick(NOW_MS + ANSWER_DEADLINE_MS) == []
    dropped = node.gossip.tick(NOW_MS + ANSWER_DEADLINE_MS + 1)
    assert dropped == [Drop(1, "it did not answer within 20 s", broke_rule=False)]


def test_an_announcement_of_an_unknown_branch_asks_for_headers() -> None:
    network = FakeNetwork(2)
    node, other = network.nodes
    for slot in range(3):
        other.mine(slot)
    node.gossip.connected(1, NOW_MS)
    assert node.gossip.heard(1, Headers([]), b"", NOW_MS) == []
    head = other.gossip.chain.head.sealed
    asked = node.gossip.heard(1, Announce(encode(head)), b"", NOW_MS)
    assert asked == [Send(1, GetHeaders([network.consortium.rules.network]))]
    assert node.gossip.heard(1, Announce(encode(head)), b"", NOW_MS) == [], "once at a time"
    assert isinstance(node.gossip.heard(1, Headers([]), b"", NOW_MS)[0], Send), "and once more after that"
