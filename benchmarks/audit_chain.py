"""What the sections of `audit` share: how many of what, the inferences, and a chain with a liar in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.audit_network import MOST_DATA_POINTS, STARTED_MS, Made, Network, Run, Watch, run_of
from splitnet.auditing import Reexecutor
from splitnet.consensus.audit_records import FraudProof, Void
from splitnet.consensus.block import Body
from splitnet.consensus.chain import Chain
from splitnet.consensus.genesis import MILLION
from splitnet.consensus.receipt import SignedReceipt
from splitnet.consensus.registry import Registry
from splitnet.resident import ResidentModel

GAIN_SHARES = (0.01, 0.05, 0.1, 0.2)
APS = 4
LIAR, HONEST = 0, 1
CUTS = (6, 12, 20, 26)
"""Of VGG-11's 27: after poolings and in the classifier."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of what.

    Attributes:
        lies: at each p; as many honest receipts.
        pool: different inferences that they are made of.
        repeats: of each cut in the timing.
        slots: of each chain.
        colluding: receipts of each trick.
    """

    lies: int
    pool: int
    repeats: int
    slots: int
    colluding: int


def vgg_runs(model: ResidentModel, count: int) -> list[Run]:
    """Inferences of the default scenario's sizes."""
    chance = random.Random(0)
    return [run_of(model, CUTS[n % len(CUTS)], chance.randint(5, MOST_DATA_POINTS), n) for n in range(count)]


@dataclass
class Living:
    """A chain that grows by a block a slot, and what audits are still to be recorded in it."""

    network: Network
    watch: Watch
    chain: Chain
    made: dict[SignedReceipt, Made]
    frauds: list[FraudProof]
    voids: list[Void]

    @classmethod
    def of(cls, model: ResidentModel, registry: Registry, share: float) -> Living:
        network = Network(model, registry, round(share * MILLION), APS)
        watch = Watch(network, Reexecutor([model]), seed=0)
        made: dict[SignedReceipt, Made] = {}
        chain = Chain(network.rules, lambda fraud: watch.accepts(made[fraud.signed], fraud))
        return cls(network, watch, chain, made, [], [])

    def audit(self, made: list[Made], gives: bool = True) -> None:
        """Show receipts to everybody; what comes of it waits for the next honest block."""
        for one in made:
            outcome = self.watch.see(one, gives)
            self.frauds += outcome.frauds
            self.voids += outcome.voids
            if outcome.frauds:
                self.made[one.signed] = one

    def reputation(self, slot: int, made: list[Made]) -> float:
        """U of the liar's candidate in this slot."""
        body = Body(self.network.plan(slot, made), tuple(one.signed for one in made))
        time_ms = STARTED_MS + 1000 * (slot + 1)
        return self.chain.candidate(body, LIAR, time_ms).reputation_micro / MILLION

    def add(self, slot: int, miner: int, made: list[Made]) -> None:
        """The slot's block; an honest miner records what audits have found."""
        time_ms = STARTED_MS + 1000 * (slot + 1)
        body = Body(self.network.plan(slot, made), tuple(one.signed for one in made))
        if miner != LIAR:
            body = Body(body.plan, body.receipts, tuple(once(self.frauds)), tuple(once(self.voids)))
            self.frauds, self.voids = [], []
        self.chain.add(self.network.mined(self.chain.candidate(body, miner, time_ms), body), time_ms)


def once(records: list[Any]) -> Iterator[Any]:
    """One proof or void for each receipt, in order."""
    yield from dict(sorted(((record.key, record) for record in records), key=lambda pair: pair[0])).values()
