"""Receipts are verified once: three signatures take longer than everything else about a block."""

from __future__ import annotations

from collections import OrderedDict

from splitnet.consensus.canonical import encode
from splitnet.consensus.genesis import Rules
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.receipt import SignedReceipt, validate_receipt

MOST_VERIFIED = 1 << 16
"""Receipts that are remembered to hold."""


class ReceiptMemory:
    """`validate_receipt`, which remembers what held."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, rules: Rules, signed: SignedReceipt) -> None:
        leaf = leaf_hash(encode(signed))
        if leaf in self._held:
            return
        validate_receipt(rules, signed)
        self._held[leaf] = None
        if len(self._held) > MOST_VERIFIED:
            self._held.popitem(last=False)
