"""APs in one process, with a network between them that delays, cuts and lies: they agree in the end."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from splitnet.consensus.auditor import Auditor
from splitnet.consensus.block import Block, Body, SealedHeader, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.contact import ANSWER_DEADLINE_MS
from splitnet.consensus.gossip import Gossip
from splitnet.consensus.instructions import (
    Drop,
    Instruction,
    Send,
    SendBlock,
    SendValue,
    StoreBlocks,
    StoreValue,
    ValueStored,
)
from splitnet.consensus.messages import (
    MOST_BLOCKS_ASKED,
    MOST_HEADERS,
    Announce,
    BlockBytes,
    GetBlocks,
    GetHeaders,
    GetValue,
    Headers,
    Hello,
    NotHere,
    ReceiptBody,
    Said,
    Value,
)
from splitnet.consensus.receipt import MOST_TRAVELLING_BYTES, value_digest
from splitnet.consensus.receipt_memory import ReceiptMemory
from tests.consortium import NOW_MS, Consortium, a_key, some_rules, trusting


@dataclass
class FakeNode:
    """A gossip with a store of dictionaries, which performs what it is told."""

    number: int
    consortium: Consortium
    send: Callable[[int, int, Said, bytes], None]
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    values: dict[bytes, bytes] = field(default_factory=dict)
    dropped: list[Drop] = field(default_factory=list)

    def __post_init__(self) -> None:
        check = ReceiptMemory()
        rules = self.consortium.rules
        auditor = Auditor(rules, self.number, a_key("ap", self.number), random.Random(self.number))
        self.gossip = Gossip(Chain(rules, trusting, check), check, self.blocks.get, trusting, auditor)

    def perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Send(peer, message, body):
                    if isinstance(message, Announce):
                        assert self.stored(message), "announced before it was stored"
                    self.send(self.number, peer, message, body)
                case SendBlock(peer, block_hash):
                    data = self.blocks.get(block_hash)
                    said: Said = NotHere(block_hash) if data is None else BlockBytes(block_hash)
                    self.send(self.number, peer, said, data or b"")
                case SendValue(peer, digest):
                    data = self.values.get(digest)
                    said = NotHere(digest) if data is None else Value(digest)
                    self.send(self.number, peer, said, data or b"")
                case StoreBlocks(blocks):
                    self.blocks |= {hash_of(self.consortium.rules, block.sealed): encode(block) for block in blocks}
                case StoreValue(value):
                    self.values[value_digest(value)] = value
                case ValueStored(digest):
                    self.perform(self.gossip.value_stored(digest, NOW_MS))
                case Drop():
                    self.dropped.append(instruction)
                    self.gossip.disconnected(instruction.peer)

    def stored(self, message: Announce) -> bool:
        sealed = msgspec.msgpack.decode(message.sealed, type=SealedHeader)
        return hash_of(self.consortium.rules, sealed) in self.blocks

    def mine(self, slot: int) -> Block:
        body = self.gossip.body(slot, self.number)
        block = self.consortium.on(self.gossip.chain, slot, self.number, body)
        self.perform(self.gossip.submit_block(block, NOW_MS))
        return block

    @property
    def head(self) -> bytes:
        return self.gossip.chain.head.hash


class FakeNetwork:
    """Links that keep the order of what they carry, emptied in a random order; cut links lose all."""

    def __init__(self, aps: int, seed: int = 0) -> None:
        self.consortium = Consortium(some_rules(aps=aps, gateways=aps, devices=2 * aps))
        self.chance = random.Random(seed)
        self.links: dict[tuple[int, int], deque[tuple[Said, bytes]]] = {}
        self.nodes = [FakeNode(number, self.consortium, self.carry) for number in range(aps)]

    def carry(self, sender: int, receiver: int, message: Said, body: bytes) -> None:
        if (sender, receiver) in self.links:
            self.links[sender, receiver].append((message, body))

    def connect(self, one: int, other: int) -> None:
        self.links |= {(one, other): deque(), (other, one): deque()}
        for own, peer in ((one, other), (other, one)):
            self.nodes[own].perform(self.nodes[own].gossip.connected(peer, NOW_MS))

    def cut(self, one: int, other: int) -> None:
        for own, peer in ((one, other), (other, one)):
            self.links.pop((own, peer), None)
            self.nodes[own].gossip.disconnected(peer)

    def connect_all(self, numbers: range | list[int] | None = None) -> None:
        chosen = list(range(len(self.nodes)) if numbers is None else numbers)
        for one in chosen:
            for other in chosen:
                if one < other and (one, other) not in self.links:
                    self.connect(one, other)

    def settle(self, most: int = 100_000) -> None:
        """Deliver until nothing is on its way."""
        for _ in range(most):
            busy = [link for link, waiting in self.links.items() if waiting]
            if not busy:
                return
            sender, receiver = self.chance.choice(busy)
            message, body = self.links[sender, receiver].popleft()
            node = self.nodes[receiver]
            node.perform(node.gossip.heard(sender, message, body, NOW_MS))
        raise AssertionError("the nodes never stop talking")

    def submit(self, slot: int, twin: int, result: bytes = b"result") -> None:
        """A receipt comes in at the AP that did the work."""
        signed = self.consortium.receipt(slot, twin, result=result)
        node = self.nodes[signed.receipt.ap]
        node.perform(node.gossip.submit(signed, result, NOW_MS))

    def heads(self) -> set[bytes]:
        return {node.head for node in self.nodes}


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
    assert all(node.gossip.body(1, node.number) == Body() for node in network.nodes)
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
    assert [signed.key for signed in network.nodes[1].gossip.body(0, 1).receipts] == [(0, 0)]


def test_a_receipt_without_its_result_is_not_mined() -> None:
    network = FakeNetwork(2)
    signed = network.consortium.receipt(0, 0)
    node = network.nodes[1]
    node.gossip.connected(0, NOW_MS)
    done = node.gossip.heard(0, ReceiptBody(encode(signed), with_result=False), b"", NOW_MS)
    assert Send(0, GetValue(signed.receipt.result)) in done
    assert node.gossip.body(0, 1) == Body()
    assert node.gossip.heard(0, Value(signed.receipt.result), b"another", NOW_MS)[0] == Drop(
        0, f"a value of 7 bytes does not have the digest {signed.receipt.result.hex()[:12]}"
    )
    assert node.gossip.body(0, 1) == Body()


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
        ("a second hello", "Hello"),
        ("a value nobody asked for", "nobody asked"),
        ("a result that was not signed", "ResultDigest"),
        ("a large result that came along", "at most"),
    ],
)
def test_rubbish_is_dropped_with_its_reason(said: str, rule: str) -> None:
    network = FakeNetwork(2)
    consortium, node = network.consortium, network.nodes[0]
    signed = consortium.receipt(0, 0)
    block = consortium.block(0, 1)
    nowhere = consortium.mined(msgspec.structs.replace(block.header, previous=bytes(32)), Body())
    messages: dict[str, tuple[Said, bytes]] = {
        "receipt of a forger": (
            ReceiptBody(encode(msgspec.structs.replace(signed, ap_signature=bytes(64))), True),
            b"result",
        ),
        "tampered block": (BlockBytes(bytes(32)), encode(_tampered(block))),
        "tampered header": (Announce(encode(_tampered(block).sealed)), b""),
        "rubbish": (BlockBytes(bytes(32)), b"rubbish"),
        "headers from nowhere": (Headers([encode(nowhere.sealed)]), b""),
        "a second hello": (Hello(consortium.rules.network, 1, bytes(32)), b""),
        "a value nobody asked for": (Value(bytes(32)), b"x"),
        "a result that was not signed": (ReceiptBody(encode(signed), True), b"another"),
        "a large result that came along": (ReceiptBody(encode(signed), True), bytes(MOST_TRAVELLING_BYTES + 1)),
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
