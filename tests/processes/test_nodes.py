"""Three to five APs as real processes with real mining: partition, crash, slow peer; they end with one head."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from splitnet.consensus.node import wall_clock_ms
from splitnet.consensus.store import Store
from splitnet.consensus.verifying import verify_store
from tests.processes.nodes import NodeProcess, Wire

AGREE_DEADLINE_S = 60.0
PARTITION_S = 30.0
RATE = 20_000.0
"""Hashes/s of each AP: little enough for five on one core."""


class Network:
    """Nodes, each of which dials those before it over a wire of its own."""

    def __init__(self, folder: Path, aps: int, stack: contextlib.ExitStack, slow: int | None = None) -> None:
        self.folder, self.aps, self.stack = folder, aps, stack
        self.nodes: list[NodeProcess] = []
        self.wires: dict[tuple[int, int], Wire] = {}
        for number in range(aps):
            for other in range(number):
                wire = Wire(self.nodes[other].port, 20_000.0 if slow in (number, other) else 1e9)
                stack.callback(wire.close)
                self.wires[number, other] = wire
            self.nodes.append(self.start(number))

    def start(self, number: int, port: int = 0) -> NodeProcess:
        peers = [self.wires[number, other].address for other in range(number)]
        node = NodeProcess(self.folder / f"ap-{number}", number, peers, self.aps, port)
        self.stack.callback(node.close)
        node.listen()
        return node

    def slot(self, number: int, among: Sequence[int] | None = None) -> None:
        """All of these mine the slot's block, and wait until they have one."""
        chosen = range(self.aps) if among is None else among
        for one in chosen:
            self.nodes[one].ask(mine=number, rate=RATE)
        for one in chosen:
            assert self.nodes[one].ask(wait=number, timeout_s=40.0)["slot"] is not None

    def connected(self) -> None:
        self._until("all connected", lambda: all(len(one["peers"]) == self.aps - 1 for one in self.status()))

    def agree(self) -> dict[str, Any]:
        """Until all have one head and have recorded every receipt; that state."""
        self._until("one head", lambda: len({one["head"] for one in self.status()}) == 1)
        return self.status()[0]

    def status(self) -> list[dict[str, Any]]:
        return [node.status() for node in self.nodes]

    def _until(self, what: str, holds: Any) -> None:
        end_s = time.monotonic() + AGREE_DEADLINE_S
        while not holds():
            assert time.monotonic() < end_s, f"not {what}: {self.status()}"
            time.sleep(0.2)

    def verified(self) -> None:
        """Every store, read while the nodes run, is clean."""
        for number in range(self.aps):
            with Store.read(self.folder / f"ap-{number}") as store:
                verify_store(store, wall_clock_ms())


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.timeout(240)
def test_a_partition_of_30_s_heals(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """Five APs, two on one side: each side goes on alone; then all have the longer chain and every receipt."""
    network = Network(tmp_path, 5, stack)
    network.connected()
    network.slot(0)
    network.agree()
    parts = ((0, 1), (2, 3, 4))
    across = [wire for (one, other), wire in network.wires.items() if (one in parts[0]) != (other in parts[0])]
    for wire in across:
        wire.cut()
    started_s = time.monotonic()
    slots = dict.fromkeys(parts, 1)
    while time.monotonic() - started_s < PARTITION_S:
        for part, pause in ((parts[0], 2), (parts[1], 1)):
            if slots[parts[1]] % pause == 0:
                network.slot(slots[part], part)
            slots[part] += 1
        time.sleep(1.0)
    apart = network.status()
    assert apart[0]["head"] == apart[1]["head"]
    assert len({one["head"] for one in apart[2:]}) == 1
    assert apart[0]["head"] != apart[2]["head"]
    for wire in across:
        wire.mend()
    network.connected()
    assert network.agree()["head"] == apart[2]["head"], "the longer chain wins"
    healed = max(slots.values()) + 1
    for slot in (healed, healed + 1):  # a receipt may come too late for the block of its own slot
        network.slot(slot)
        after = network.agree()
    assert after["height"] == apart[2]["height"] + 2
    for one in network.status():
        late = [slot for slot, twin in one["waiting"] if slot < healed]
        assert not late, "receipts of the part that lost are recorded again"
    network.verified()


@pytest.mark.timeout(180)
def test_a_crashed_ap_comes_back_and_catches_up(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    network = Network(tmp_path, 3, stack)
    network.connected()
    for slot in range(3):
        network.slot(slot)
    before = network.agree()
    crashed = network.nodes[1]
    port = crashed.port
    crashed.kill()
    for slot in range(3, 8):
        network.slot(slot, (0, 2))
    with Store.read(tmp_path / "ap-1") as store:
        assert verify_store(store, wall_clock_ms()).height == before["height"], (
            "nothing that it had acknowledged is lost"
        )
    network.nodes[1] = network.start(1, port)
    network.connected()
    assert network.agree()["slot"] == 7
    network.slot(8)
    assert network.agree()["height"] == 9
    network.verified()


@pytest.mark.timeout(180)
def test_a_slow_peer_holds_nobody_up(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """20 kB/s to one of three: the others go on, and it has the same chain in the end."""
    network = Network(tmp_path, 3, stack, slow=2)
    network.connected()
    for slot in range(6):
        for one in range(3):
            network.nodes[one].ask(mine=slot, rate=RATE)
        for one in (0, 1):
            assert network.nodes[one].ask(wait=slot, timeout_s=40.0)["slot"] is not None
    network.slot(6)
    network.agree()
    assert not any(one["dropped"] for one in network.status())
    network.verified()
