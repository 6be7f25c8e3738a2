"""Real nodes, real models: a lie is found, proved to all and paid for; withheld activations are taken back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from splitnet.consensus.node import Node
from splitnet.consensus.receipt import Receipt, ReceiptKey, value_digest
from splitnet.consensus.store import Store
from splitnet.runtime.address import Address
from tests.consensus.audited import Audited, Inference, held
from tests.consortium import MINING, a_key

DEADLINE_S = 30.0
MINED = msgspec.structs.replace(MINING, hashes=500, reference_flops=100_000)


class Nodes:
    """Three APs that audit everything, and who keeps which activation."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.network = Audited(held("toy_chain"), aps=3, gateways=3, devices=3, mining=MINED)
        self.kept: dict[bytes, bytes] = {}
        self.submitted: dict[ReceiptKey, Receipt] = {}
        self.nodes: list[Node] = []
        for number in range(3):
            store = stack.enter_context(Store.create(folder / str(number), self.network.rules))
            self.nodes.append(
                stack.enter_context(
                    Node(
                        store,
                        a_key("ap", number),
                        Address("127.0.0.1", 0),
                        [node.address for node in self.nodes],
                        self.network.reexecutor.run,
                        find_value=self.kept.get,
                    )
                )
            )
        self.until(lambda: all(len(node.status().peers) == 2 for node in self.nodes), "all connected")

    def submit(self, inference: Inference, *, keep: bool = True) -> None:
        """By the AP that signed it."""
        activation, result = inference.evidence.activation, inference.evidence.result
        assert activation is not None
        assert result is not None
        if keep:
            self.kept[value_digest(activation)] = activation
        self.submitted[inference.signed.key] = inference.signed.receipt
        self.nodes[inference.signed.receipt.ap].submit(inference.signed, result)

    def mine(self, slot: int, miner: int) -> None:
        cuts = {key[1]: receipt.cut for key, receipt in self.submitted.items() if key[0] == slot}
        self.nodes[miner].mine(slot, self.network.consortium.plan(slot, cuts))
        for node in self.nodes:
            assert node.wait_slot(slot, DEADLINE_S) is not None
        self.until(lambda: len({node.status().head for node in self.nodes}) == 1, "one head")

    def reputation(self, slot: int, miner: int) -> int:
        """That a block of this slot and miner has, in micro-units."""
        head = self.nodes[0].wait_slot(slot, DEADLINE_S)
        assert head is not None
        assert (head.header.slot, head.header.miner) == (slot, miner)
        return head.header.reputation_micro

    def until(self, holds: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end_s, f"not {what}: {[node.status() for node in self.nodes]}"
            time.sleep(0.02)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with contextlib.ExitStack() as stack:
        yield Nodes(tmp_path, stack)


def liar(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    return [leaf + 1 for leaf in leaves]


def test_a_lie_costs_the_reputation_of_k_slots(nodes: Nodes) -> None:
    """K = 3 here: the liar's work counts for nothing up to three slots after the proof is in the chain."""
    for twin in range(3):
        nodes.submit(nodes.network.infer(0, twin))
    nodes.submit(nodes.network.infer(1, 0, change=liar))
    nodes.until(lambda: all(node.accused() == {(1, 0)} for node in nodes.nodes), "all know of the fraud")
    nodes.mine(1, miner=1)
    head = nodes.nodes[0].wait_slot(1, DEADLINE_S)
    assert head is not None
    assert ("fraud", (1, 0)) in head.records
    for slot in (2, 3, 4, 5):
        nodes.submit(nodes.network.infer(slot, 0))
        nodes.until(lambda slot=slot: all((slot, 0) in node.waiting() for node in nodes.nodes), "it is known")  # type: ignore[misc]
        nodes.mine(slot, miner=0)
        assert (nodes.reputation(slot, 0) > 0) == (slot == 5)
    assert not any(node.status().dropped for node in nodes.nodes)


def test_withheld_activations_are_voided_and_paid_back(nodes: Nodes) -> None:
    """Both others ask, neither is answered, both vote: what was counted is taken from what comes next."""
    nodes.submit(nodes.network.infer(0, 0, seed=1), keep=False)
    nodes.until(lambda: all((0, 0) in node.waiting() for node in nodes.nodes), "it is known")
    nodes.mine(0, miner=0)
    counted = nodes.reputation(0, 0)
    assert counted > 0
    nodes.until(lambda: nodes.nodes[1].voided() == {(0, 0)} == nodes.nodes[2].voided(), "it is void")
    nodes.mine(1, miner=1)
    nodes.submit(nodes.network.infer(2, 0, data_points=2))
    nodes.until(lambda: all((2, 0) in node.waiting() for node in nodes.nodes), "it is known")
    nodes.mine(2, miner=0)
    assert nodes.reputation(2, 0) == 0, "two data points pay two of three"
    nodes.submit(nodes.network.infer(3, 0, data_points=3))
    nodes.until(lambda: all((3, 0) in node.waiting() for node in nodes.nodes), "it is known")
    nodes.mine(3, miner=0)
    assert nodes.reputation(3, 0) == pytest.approx(counted * 2 / 3, abs=1)


def test_honest_work_is_never_accused(nodes: Nodes) -> None:
    for slot in range(3):
        for twin in range(3):
            nodes.submit(nodes.network.infer(slot, twin, cut=slot, seed=slot))
        nodes.until(lambda slot=slot: all((slot, 2) in node.waiting() for node in nodes.nodes), "all is known")  # type: ignore[misc]
        nodes.mine(slot, miner=slot)
        assert nodes.reputation(slot, slot) > 0
    time.sleep(1.0)  # audits go on beside the mining
    assert not any(node.accused() or node.voided() for node in nodes.nodes)
    assert not any(node.status().dropped for node in nodes.nodes)
