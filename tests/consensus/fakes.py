"""APs in one process, and a network between them, for tests of the gossip."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from splitnet.consensus.audit_records import FraudProof
from splitnet.consensus.auditor import Auditor
from splitnet.consensus.block import Block, SealedHeader, hash_of
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Chain, Judge
from splitnet.consensus.genesis import Audit
from splitnet.consensus.gossip import Gossip
from splitnet.consensus.instructions import (
    Drop,
    Instruction,
    NotJudged,
    Send,
    SendBlock,
    SendValue,
    StoreBlocks,
    StoreValue,
    ValueStored,
)
from splitnet.consensus.messages import Announce, BlockBytes, NotHere, Said, Value
from splitnet.consensus.receipt import value_digest
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
    judge: Judge = trusting
    not_judged: list[str] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)

    def __post_init__(self) -> None:
        check = ReceiptMemory()
        rules = self.consortium.rules
        auditor = Auditor(rules, self.number, a_key("ap", self.number), random.Random(self.number))
        self.gossip = Gossip(Chain(rules, self._judged, check), check, self.blocks.get, self._judged, auditor)

    def _judged(self, fraud: FraudProof) -> bool:
        return self.judge(fraud)

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
                case ValueStored(digest, value):
                    assert digest in self.values, "told before it was stored"
                    self.perform(self.gossip.value_stored(digest, value, NOW_MS))
                case NotJudged(_, reason):
                    self.not_judged.append(reason)
                case Drop():
                    self.dropped.append(instruction)
                    self.gossip.disconnected(instruction.peer)

    def stored(self, message: Announce) -> bool:
        sealed = msgspec.msgpack.decode(message.sealed, type=SealedHeader)
        return hash_of(self.consortium.rules, sealed) in self.blocks

    def mine(self, slot: int) -> Block:
        body = self.gossip.body(self.consortium.plan(slot), self.number)
        block = self.consortium.on(self.gossip.chain, slot, self.number, body)
        self.perform(self.gossip.submit_block(block, NOW_MS))
        return block

    @property
    def head(self) -> bytes:
        return self.gossip.chain.head.hash


class FakeNetwork:
    """Links that keep the order of what they carry, emptied in a random order; cut links lose all."""

    def __init__(self, aps: int, seed: int = 0, audit: Audit | None = None) -> None:
        self.consortium = Consortium(some_rules(aps=aps, gateways=aps, devices=2 * aps, audit=audit or Audit()))
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
        node.perform(node.gossip.submit(signed, result))

    def heads(self) -> set[bytes]:
        return {node.head for node in self.nodes}
