"""Receipts among APs: which are kept, who is told of them, and of whom their results are asked.

A receipt is told to others once its result is on disk here, so whoever hears of one can have its result from the
teller. Receipts of slots far from the chain's last are not kept: slots exist by the controller's word, receipts by
that of any device, gateway and AP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.contact import MOST_VALUES_ASKED, Contact
from splitnet.consensus.errors import UntimelyError
from splitnet.consensus.instructions import Drop, Instruction, Send, StoreValue, ValueStored
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.messages import GetReceipts, GetValue, ReceiptBody
from splitnet.consensus.pool import SLOTS_AHEAD, SLOTS_KEPT, Pool
from splitnet.consensus.receipt import (
    MOST_RECEIPT_BYTES,
    MOST_TRAVELLING_BYTES,
    ReceiptKey,
    SignedReceipt,
    validate_result,
)
from splitnet.consensus.receipt_memory import ReceiptMemory

TOLD_AT_ONCE = 256
"""Receipts, to a peer that asks for all; the others at the next ticks, so that its outbox never fills."""
MOST_LOOKED_AT = 256
"""Results that are not here, when an answer has made room to ask for one more; a tick looks at all."""


class ReceiptExchange:
    """The receipts of one AP node. Its methods return what is to be done."""

    def __init__(self, chain: Chain, check: ReceiptMemory, peers: Mapping[int, Contact]) -> None:
        """
        Args:
            peers: those that are connected now.
        """
        self.pool = Pool(chain.rules)
        self._chain, self._check, self._peers = chain, check, peers

    def submit(self, signed: SignedReceipt, result: bytes) -> list[Instruction]:
        """A receipt of this AP: verify, keep, tell all.

        Raises:
            ConsensusError: the receipt or its result is not valid, or of a slot that the chain is far from.
        """
        slot, head = signed.key[0], self._chain.head.place.slot
        if self._recorded(signed.key):
            return []
        if not head - SLOTS_KEPT <= slot <= head + SLOTS_AHEAD:
            raise UntimelyError(
                f"a receipt of slot {slot}, where the chain's last is {head}: at most {SLOTS_KEPT} behind it and "
                f"{SLOTS_AHEAD} ahead"
            )
        return self._keep(signed, result)

    def heard(self, peer: int, data: bytes, result: bytes | None, now_ms: int) -> list[Instruction]:
        """A peer's: keep it if its slot is near, and ask for its result if that did not come with it.

        Raises:
            ConsensusError: it or its result is not valid.
        """
        signed = decode(data, SignedReceipt, MOST_RECEIPT_BYTES)
        self._peers[peer].learn(leaf_hash(data))
        if result is not None and len(result) > MOST_TRAVELLING_BYTES:
            return [
                Drop(peer, f"a result of {len(result)} bytes came with its receipt, at most {MOST_TRAVELLING_BYTES}")
            ]
        slot, head = signed.key[0], self._chain.head.place.slot
        if slot > head + SLOTS_AHEAD:
            self._peers[peer].told_ahead = True
            return []
        if slot < head - SLOTS_KEPT:  # one that was recorded, and that the pool has forgotten, is not relayed again
            return []
        return self._keep(signed, result) + self.ask_results(now_ms)

    def tick(self, now_ms: int) -> list[Instruction]:
        """Go on telling and asking."""
        done = self.ask_results(now_ms, None)
        for peer, state in self._peers.items():
            done += self._tell_more(peer)
            if state.told_ahead and not state.asked and not state.wanted:  # its chain is here now
                state.told_ahead = False
                done.append(Send(peer, GetReceipts()))
        return done

    def _keep(self, signed: SignedReceipt, result: bytes | None) -> list[Instruction]:
        """Verify a receipt and keep it; peers are told once its result is on disk."""
        self._check(self._chain.rules, signed)
        if result is not None:
            validate_result(signed.receipt, result)
        pooled = self.pool.get(signed.key)
        if pooled is None:
            self.pool.add(signed, has_result=False)
        elif pooled.has_result or pooled.signed != signed:
            return []
        return [] if result is None else [StoreValue(result), ValueStored(signed.receipt.result, result)]

    def _recorded(self, key: ReceiptKey) -> bool:
        return self._chain.recorded(("receipt", key)) is not None

    # --- results that are not here

    def ask_results(self, now_ms: int, most: int | None = MOST_LOOKED_AT) -> list[Instruction]:
        """Ask for results that are not here, each of one peer at a time: one that told of its receipt.

        Args:
            most: how many of them are looked at, oldest first; None: all.
        """
        done: list[Instruction] = []
        for digest, waiting in islice(self.pool.lacking(), most):
            if any(digest in state.asked_values for state in self._peers.values()):
                continue
            leaves = [leaf_hash(encode(signed)) for signed in waiting]
            for peer, state in self._peers.items():
                room = len(state.asked_values) < MOST_VALUES_ASKED
                if room and digest not in state.lacks and any(leaf in state.known for leaf in leaves):
                    state.ask_value(digest, now_ms)
                    done.append(Send(peer, GetValue(digest)))
                    break
        return done

    # --- telling

    def tell_all(self, peer: int) -> list[Instruction]:
        """What waits for a block, to a peer that asks: some at once, where it asks for the first time."""
        state = self._peers[peer]
        again = state.untold is not None
        waiting = (pooled.signed.key for pooled in self.pool if pooled.has_result)
        state.untold = deque(key for key in waiting if not self._recorded(key))
        return [] if again else self._tell_more(peer)

    def _tell_more(self, peer: int) -> list[Instruction]:
        untold = self._peers[peer].untold
        done: list[Instruction] = []
        while untold and len(done) < TOLD_AT_ONCE:
            pooled = self.pool.get(untold.popleft())
            if pooled is not None:
                data = encode(pooled.signed)
                self._peers[peer].learn(leaf_hash(data))
                done.append(Send(peer, ReceiptBody(data, False)))
        return done

    def tell(self, signed: SignedReceipt, result: bytes | None) -> list[Instruction]:
        """Tell all peers that do not know it; its result, where given, travels with it unless it is too large."""
        data = encode(signed)
        body = b"" if result is None or len(result) > MOST_TRAVELLING_BYTES else result
        message = ReceiptBody(data, result is not None and len(result) <= MOST_TRAVELLING_BYTES)
        leaf = leaf_hash(data)
        return [Send(peer, message, body) for peer, state in self._peers.items() if state.learn(leaf)]
