"""Receipts that wait for a block: verified, bounded, none twice.

A receipt enters a candidate block once its result is there and has the digest that was signed. Receipts stay for some
slots after they were recorded, so that those of a block that leaves the chain are there for the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from splitnet.consensus.genesis import Rules
from splitnet.consensus.plan import CutPlan
from splitnet.consensus.receipt import ReceiptKey, SignedReceipt
from splitnet.consensus.validation import counts_for

SLOTS_KEPT = 256
"""Behind the newest slot of the pool's chain; what is older was recorded, or never will be."""
SLOTS_AHEAD = 1024
"""Of that slot; what is further ahead waits at whoever has it."""
MOST_OF_AN_AP = 16_384
"""Receipts; each AP pushes out only its own."""


@dataclass(slots=True)
class Pooled:
    """A receipt, and whether its result is known."""

    signed: SignedReceipt
    has_result: bool


class Pool:
    """Receipts by slot and DT."""

    def __init__(self, rules: Rules) -> None:
        self._of_ap: list[OrderedDict[ReceiptKey, Pooled]] = [OrderedDict() for _ in rules.genesis.aps]
        self._lacking: dict[bytes, dict[ReceiptKey, SignedReceipt]] = {}
        self._most = rules.genesis.most_receipts

    def __contains__(self, key: ReceiptKey) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return sum(map(len, self._of_ap))

    def __iter__(self) -> Iterator[Pooled]:
        for own in self._of_ap:
            yield from own.values()

    def get(self, key: ReceiptKey) -> Pooled | None:
        """The receipt of this slot and DT."""
        return next((own[key] for own in self._of_ap if key in own), None)

    def add(self, signed: SignedReceipt, has_result: bool) -> None:
        """Keep a validated receipt; of two for the same slot and DT the first stays."""
        own = self._of_ap[signed.receipt.ap]
        if signed.key in own:
            return
        own[signed.key] = Pooled(signed, has_result)
        if not has_result:
            self._lacking.setdefault(signed.receipt.result, {})[signed.key] = signed
        if len(own) > MOST_OF_AN_AP:
            self._forget(own, next(iter(own)))

    def lacking(self) -> Iterator[tuple[bytes, tuple[SignedReceipt, ...]]]:
        """Digests of results that are not here, oldest first, with the receipts that wait for each."""
        for digest, waiting in self._lacking.items():
            yield digest, tuple(waiting.values())

    def result_came(self, digest: bytes) -> list[SignedReceipt]:
        """A result with this digest is on disk; the receipts that waited for it."""
        waited = self._lacking.pop(digest, {})
        for key, signed in waited.items():
            self._of_ap[signed.receipt.ap][key].has_result = True
        return list(waited.values())

    def forget_before(self, slot: int) -> None:
        """Drop receipts of slots before this one."""
        for own in self._of_ap:
            for key in [key for key in own if key[0] < slot]:
                self._forget(own, key)

    def _forget(self, own: OrderedDict[ReceiptKey, Pooled], key: ReceiptKey) -> None:
        digest = own.pop(key).signed.receipt.result
        waiting = self._lacking.get(digest, {})
        waiting.pop(key, None)
        if not waiting:
            self._lacking.pop(digest, None)

    def ready(self, plan: CutPlan, miner: int, recorded: Callable[[ReceiptKey], bool]) -> tuple[SignedReceipt, ...]:
        """What a block of a plan's slot may hold: the miner's own of the slot first, then the oldest, in their order.

        Own ones of another cut than is planned wait for a later slot, where they do not count.
        """
        slot = plan.slot
        waiting = [
            pooled.signed
            for pooled in self
            if pooled.has_result
            and pooled.signed.key[0] <= slot
            and not recorded(pooled.signed.key)
            and not (counts_for(slot, miner, pooled.signed) and _cut_off(plan, pooled.signed))
        ]
        waiting.sort(key=lambda signed: (not counts_for(slot, miner, signed), signed.key))
        return tuple(sorted(waiting[: self._most], key=lambda signed: signed.key))


def _cut_off(plan: CutPlan, signed: SignedReceipt) -> bool:
    receipt = signed.receipt
    return receipt.cut != plan.cuts[receipt.arrival.twin]
