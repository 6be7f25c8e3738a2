"""A connected AP as the state machine sees it."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from splitnet.consensus.receipt import ReceiptKey

ANSWER_DEADLINE_MS = 20_000
"""For what was asked."""
HEADERS = b"headers"
"""Stands for them among what was asked."""
MOST_VALUES_ASKED = 64
"""At a time, of the results of receipts: each answer waits in the peer's outbox."""
MOST_KNOWN = 1 << 14
"""Things that are remembered to be known to it, so that they are not sent back; as many that it lacks."""


@dataclass(slots=True)
class Contact:
    """What is known of a connected AP, and what was asked of it.

    Attributes:
        wanted: hashes of blocks to fetch, parents first.
        asked: hashes asked for, and `HEADERS`, with the deadline of the answer in ms.
        asked_values: digests asked for, likewise.
        more_after: last header of a full message: where to go on asking.
        announced_more: it has announced a block that the headers asked for may not reach.
        known: digests of what it has or was sent.
        lacks: digests of values that it said it does not have.
        untold: receipts that it asked for and was not told of yet; None before it asked.
        told_ahead: it told of receipts that were too far ahead of this chain.
    """

    wanted: deque[bytes] = field(default_factory=deque)
    asked: dict[bytes, int] = field(default_factory=dict)
    asked_values: dict[bytes, int] = field(default_factory=dict)
    more_after: bytes | None = None
    announced_more: bool = False
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    lacks: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    untold: deque[ReceiptKey] | None = None
    told_ahead: bool = False

    def ask(self, what: bytes, now_ms: int) -> bool:
        """Remember that this block, or `HEADERS`, is asked of it; False where it was already."""
        return _ask(self.asked, what, now_ms)

    def ask_value(self, digest: bytes, now_ms: int) -> bool:
        """Remember that this value is asked of it; False where it was already."""
        return _ask(self.asked_values, digest, now_ms)

    def is_late(self, now_ms: int) -> bool:
        """Whether an answer is overdue."""
        return any(now_ms > by for asked in (self.asked, self.asked_values) for by in asked.values())

    def answered_without(self, what: bytes) -> bool:
        """It does not have this; whether it was asked for it."""
        of_value = self.asked_values.pop(what, None) is not None
        if of_value:
            _remember(self.lacks, what)
        return self.asked.pop(what, None) is not None or of_value

    def learn(self, digest: bytes) -> bool:
        """Remember that it knows this; whether that is new."""
        return _remember(self.known, digest)


def _ask(asked: dict[bytes, int], what: bytes, now_ms: int) -> bool:
    if what in asked:
        return False
    asked[what] = now_ms + ANSWER_DEADLINE_MS
    return True


def _remember(known: OrderedDict[bytes, None], digest: bytes) -> bool:
    if digest in known:
        return False
    known[digest] = None
    if len(known) > MOST_KNOWN:
        known.popitem(last=False)
    return True
