"""A connected AP as the state machine sees it."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

ANSWER_DEADLINE_MS = 20_000
"""For what was asked."""
HEADERS = b"headers"
"""Stands for them among what was asked."""
MOST_KNOWN = 1 << 14
"""Things that are remembered to be known to it, so that they are not sent back."""


@dataclass(slots=True)
class Contact:
    """What is known of a connected AP, and what was asked of it.

    Attributes:
        wanted: hashes of blocks to fetch, parents first.
        asked: hashes and digests asked for, and `HEADERS`, with the deadline of the answer in ms.
        more_after: last header of a full message: where to go on asking.
        announced_more: it has announced a block that the headers asked for may not reach.
        known: digests of what it has or was sent.
    """

    wanted: deque[bytes] = field(default_factory=deque)
    asked: dict[bytes, int] = field(default_factory=dict)
    more_after: bytes | None = None
    announced_more: bool = False
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def ask(self, what: bytes, now_ms: int) -> bool:
        """Remember that this is asked of it; False where it was already."""
        if what in self.asked:
            return False
        self.asked[what] = now_ms + ANSWER_DEADLINE_MS
        return True

    def learn(self, digest: bytes) -> bool:
        """Remember that it knows this; whether that is new."""
        if digest in self.known:
            return False
        self.known[digest] = None
        if len(self.known) > MOST_KNOWN:
            self.known.popitem(last=False)
        return True
