"""What an AP mines: the block of one slot, on the head of its chain, in a process of its own.

Decides what becomes of it when the head moves: another AP's block of that slot ends it, any other block below it
begins it anew. To be used under the node's lock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.block import Block, Body, Header, seal_of, sign_block
from splitnet.consensus.gossip import Gossip
from splitnet.consensus.mining_process import Effort, MiningProcess
from splitnet.consensus.plan import SignedPlan

MOST_EFFORTS = 1024
"""Slots whose efforts are remembered."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What is mined now."""

    plan: SignedPlan
    hash_rate: float | None
    header: Header
    body: Body

    @property
    def slot(self) -> int:
        return self.body.slot


@final
class SlotMining:
    """A mining process and what it works on; to be closed."""

    def __init__(self, gossip: Gossip, key: Ed25519PrivateKey, number: int) -> None:
        """
        Args:
            key, number: of the AP.
        """
        self._gossip, self._key, self._number = gossip, key, number
        self._process = MiningProcess()
        self._job: _Job | None = None
        self._efforts: OrderedDict[int, Effort] = OrderedDict()

    @property
    def slot(self) -> int | None:
        """For which it mines."""
        return None if self._job is None else self._job.slot

    def effort(self, slot: int) -> Effort | None:
        """What was spent on a slot; None where nothing was or still is."""
        return self._efforts.get(slot)

    def fileno(self) -> int:
        """Readable when `found` may have a block."""
        return self._process.fileno()

    def begin(self, plan: SignedPlan, hash_rate: float | None, now_ms: int) -> None:
        """Mine the block of the plan's slot, unless the head is of it already, and nothing else any longer."""
        self.stop()
        chain = self._gossip.chain
        if chain.head.place.slot >= plan.plan.slot:
            return
        body = self._gossip.body(plan, self._number)
        header = chain.candidate(body, self._number, now_ms)
        self._job = _Job(plan, hash_rate, header, body)
        self._process.start(seal_of(chain.rules, header), int.from_bytes(header.target), hash_rate)

    def stop(self) -> None:
        """Mine no more."""
        if self._job is not None:
            self._spent(self._job.slot, self._process.stop())
            self._job = None

    def head_moved(self, now_ms: int) -> None:
        """Another AP has won the slot, or what is mined has another parent now."""
        if self._job is not None and self._gossip.chain.head.hash != self._job.header.previous:
            self.begin(self._job.plan, self._job.hash_rate, now_ms)

    def found(self) -> Block | None:
        """The block, signed, if the process has found its nonce."""
        found, job = self._process.wait(0), self._job
        if found is None or job is None:
            return None
        self._job = None
        self._spent(job.slot, found.effort)
        return sign_block(self._gossip.chain.rules, self._key, job.header, found.nonce, job.body)

    def _spent(self, slot: int, effort: Effort) -> None:
        self._efforts[slot] = effort
        if len(self._efforts) > MOST_EFFORTS:
            self._efforts.popitem(last=False)

    def close(self) -> None:
        """End the process."""
        self._process.close()
