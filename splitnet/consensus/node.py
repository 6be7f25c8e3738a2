"""An AP's node: a store, a chain, peers, and a mining process, joined by one lock.

All decisions are made by `gossip.py` and `chain.py`; here are the threads, the sockets and the clock. Every message
is taken in whole, under the lock, before the next of that peer is read.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.audit import Evidence, Reexecute, examine, judge
from splitnet.consensus.audit_records import FraudProof
from splitnet.consensus.auditor import Auditor
from splitnet.consensus.block import Block
from splitnet.consensus.canonical import MOST
from splitnet.consensus.entry import Entry
from splitnet.consensus.errors import ConsensusError, PlanError, StoreError
from splitnet.consensus.gossip import Gossip
from splitnet.consensus.identity import public_bytes
from splitnet.consensus.instructions import (
    Drop,
    Examine,
    HeadMoved,
    Instruction,
    NotJudged,
    Send,
    SendBlock,
    SendValue,
    StoreBlocks,
    StoreValue,
    ValueStored,
)
from splitnet.consensus.messages import BlockBytes, Message, NotHere, Said, Value
from splitnet.consensus.mining_process import Effort, readable
from splitnet.consensus.peers import Peers
from splitnet.consensus.plan import SignedPlan, validate_plan
from splitnet.consensus.receipt import ReceiptKey, SignedReceipt
from splitnet.consensus.receipt_memory import ReceiptMemory
from splitnet.consensus.slot_mining import SlotMining
from splitnet.consensus.store import Store, load_chain
from splitnet.errors import SettingsError, SplitnetError, WorkerError
from splitnet.runtime.address import Address

CLOSE_DEADLINE_S = 10.0
"""For each thread to end."""
TICK_S = 0.5
"""How often threads look whether the node closes, and clocks and time-outs are looked at."""
MOST_NOT_JUDGED = 100
"""Complaints that are kept."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Where a node stands.

    Attributes:
        peers: names of the APs it is connected with.
        dropped: names and reasons, oldest first.
        not_judged: why this node could not judge a proof, and so perhaps not follow the chain; oldest first.
        refused: addresses that could not introduce themselves, and why; oldest first.
        mining: the slot it mines for.
        failure: why it has stopped.
    """

    height: int
    head: bytes
    slot: int
    waiting_receipts: int
    peers: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    not_judged: tuple[str, ...]
    mining: int | None
    failure: str | None


def wall_clock_ms() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000


class Node:
    """A running node; a context manager that ends everything it has started."""

    def __init__(
        self,
        store: Store,
        key: Ed25519PrivateKey,
        address: Address,
        peers: Sequence[Address],
        reexecute: Reexecute,
        *,
        find_value: Callable[[bytes], bytes | None] = lambda digest: None,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """
        Args:
            store: open for writing; stays the caller's to close.
            key: of one of the APs of the genesis block.
            address: to listen on; port 0 takes a free one.
            peers: to dial, again and again.
            reexecute: runs a top again, for audits.
            find_value: a value that is not in the store, such as the activation of an audit, by its digest.

        Raises:
            SettingsError: the key is of no AP, the port is taken, or the clock is behind the chain.
        """
        rules = store.rules
        public = public_bytes(key)
        numbers = [number for number, member in enumerate(rules.genesis.aps) if member.public_key == public]
        if not numbers:
            raise SettingsError(
                f"the key {public.hex()[:12]} is of no AP of network {rules.network.hex()[:12]}; give an AP's key"
            )
        self.number = numbers[0]
        self.rules = rules
        self._store, self._clock_ms, self._find_value = store, clock_ms, find_value
        self._reexecute = reexecute
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)
        self._drawn: queue.SimpleQueue[SignedReceipt | None] = queue.SimpleQueue()
        self._failure: SplitnetError | None = None
        self._not_judged: deque[str] = deque(maxlen=MOST_NOT_JUDGED)
        self._closing = threading.Event()
        check = ReceiptMemory()
        chain = load_chain(store, self._judge, MOST, check)  # its times are judged by this clock right below
        behind_ms = chain.head.place.time_ms - clock_ms()
        if behind_ms > rules.genesis.most_ahead_ms:
            raise SettingsError(
                f"this clock is {behind_ms / 1000:g} s behind the chain's last block; set it right, then start again"
            )
        auditor = Auditor(rules, self.number, key, secrets.SystemRandom())
        self._gossip = Gossip(chain, check, store.block_bytes, self._judge, auditor)
        self._peers = Peers(
            rules,
            key,
            self.number,
            address,
            self._lock,
            connected=self._connected,
            heard=self._heard,
            gone=self._gossip.disconnected,
        )
        self._mining = SlotMining(self._gossip, key, self.number)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._tick, self._mine, self._audit)]
        for thread in self._threads:
            thread.start()
        self._peers.start()
        for peer in peers:
            self.dial(peer)

    # --- what its owner does

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._peers.address

    def dial(self, peer: Address) -> None:
        """Connect with this peer, again and again."""
        self._peers.dial(peer)

    def submit(self, signed: SignedReceipt, result: bytes) -> None:
        """A receipt of an inference, with its result: verify, keep, tell all peers.

        Raises:
            ConsensusError: it is not valid.
        """
        with self._lock:
            self._check_running()
            self._perform(lambda: self._gossip.submit(signed, result))

    def mine(self, slot: int, plan: SignedPlan, hash_rate: float | None = None) -> None:
        """Mine the block of this slot until somebody has it; at once nothing where somebody has.

        Args:
            plan: of the slot, signed by the controller; the block holds it.
            hash_rate: hashes/s, f_j^bloc / c_h; None: as fast as it goes.

        Raises:
            PlanError: the plan is not the controller's, or of another slot; what is mined goes on.
        """
        if plan.plan.slot != slot:
            raise PlanError(f"slot {slot} cannot be mined with the plan of slot {plan.plan.slot}; wait for its own")
        validate_plan(self.rules, plan)
        with self._lock:
            self._check_running()
            self._mining.begin(plan, hash_rate, self._clock_ms())

    def stop_mining(self) -> None:
        """Mine no more."""
        with self._lock:
            self._mining.stop()

    def wait_slot(self, slot: int, timeout_s: float) -> Entry | None:
        """The head, once it is of this slot or a later one; None after the time-out."""
        with self._moved:
            reached = self._moved.wait_for(
                lambda: self._failure or self._gossip.chain.head.place.slot >= slot, timeout_s
            )
            self._check_running()
            return self._gossip.chain.head if reached else None

    def effort(self, slot: int) -> Effort | None:
        """What this node spent on mining for a slot; None where it did not or still does."""
        with self._lock:
            return self._mining.effort(slot)

    def waiting(self) -> set[ReceiptKey]:
        """Slot and DT of the receipts that it knows and that its chain does not hold."""
        with self._lock:
            chain = self._gossip.chain
            keys = {pooled.signed.key for pooled in self._gossip.pool}
            return {key for key in keys if chain.recorded(("receipt", key)) is None}

    def accused(self) -> set[ReceiptKey]:
        """Slot and DT of the receipts that were proved to be lies, here or by others; in the chain or not yet."""
        with self._lock:
            return set(self._gossip.accusations.frauds)

    def voided(self) -> set[ReceiptKey]:
        """Slot and DT of the receipts whose activation was withheld from most."""
        with self._lock:
            return {void.key for void in self._gossip.accusations.voids.values()}

    def status(self) -> NodeStatus:
        """Where it stands."""
        with self._lock:
            head, aps = self._gossip.chain.head, self.rules.genesis.aps
            return NodeStatus(
                height=head.height,
                head=head.hash,
                slot=head.place.slot,
                waiting_receipts=len(self.waiting()),
                peers=tuple(aps[number].name for number in self._peers.numbers),
                dropped=tuple(self._peers.dropped),
                refused=tuple(self._peers.refused),
                not_judged=tuple(self._not_judged),
                mining=self._mining.slot,
                failure=None if self._failure is None else str(self._failure),
            )

    def close(self) -> None:
        """End connections, threads and the mining process."""
        self._closing.set()
        self._drawn.put(None)
        self._peers.close()
        with self._lock:
            self._moved.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_DEADLINE_S)
        self._mining.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- instructions

    def _perform(self, instructions: Callable[[], Sequence[Instruction]]) -> None:
        """In their order: what is announced is on disk."""
        if self._failure is not None:
            return
        try:
            for instruction in instructions():
                self._do(instruction)
        except StoreError as error:
            self._fail(error)
        except WorkerError as error:  # the mining process's, when the head moves: no peer is to blame
            self._fail(_mining_ended(error))

    def _fail(self, error: SplitnetError) -> None:
        """Nothing can be promised any more: nobody is served, nothing is mined."""
        if self._failure is not None:  # what came first is the cause
            return
        self._failure = error
        self._closing.set()
        self._drawn.put(None)
        self._peers.halt()
        self._moved.notify_all()

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case Send(peer, message, body):
                self._peers.post(peer, lambda: (message, body))
            case SendBlock(peer, block_hash):
                self._peers.post(peer, lambda: self._stored_block(block_hash))
            case SendValue(peer, digest):
                self._peers.post(peer, lambda: self._stored_value(digest))
            case StoreBlocks(blocks):
                self._store.append(blocks)
            case StoreValue(value):
                self._store.put_value(value)
            case Drop(peer, reason, broke_rule):
                self._peers.drop(peer, reason, broke_rule)
            case ValueStored(digest, value):
                self._perform(lambda: self._gossip.value_stored(digest, value, self._clock_ms()))
            case Examine(signed):
                self._drawn.put(signed)
            case NotJudged(_, reason):
                self._not_judged.append(reason)
            case HeadMoved():
                self._mining.head_moved(self._clock_ms())
                self._moved.notify_all()

    def _stored_block(self, block_hash: bytes) -> tuple[Said, bytes]:
        data = self._stored(lambda: self._store.block_bytes(block_hash))
        return (NotHere(block_hash), b"") if data is None else (BlockBytes(block_hash), data)

    def _stored_value(self, digest: bytes) -> tuple[Said, bytes]:
        data = self._stored(lambda: self._store.value(digest))
        if data is None:
            data = self._find_value(digest)
        return (NotHere(digest), b"") if data is None else (Value(digest), data)

    def _stored(self, read: Callable[[], bytes | None]) -> bytes | None:
        """What is read for a peer, which is not to blame for a damaged store."""
        with self._lock:
            try:
                return read()
            except StoreError as error:
                self._fail(error)
                return None

    # --- peers and audits

    def _connected(self, peer: int) -> None:
        self._perform(lambda: self._gossip.connected(peer, self._clock_ms()))

    def _heard(self, peer: int, message: Message, body: bytes) -> None:
        self._perform(lambda: self._gossip.heard(peer, message, body, self._clock_ms()))

    def _tick(self) -> None:
        while not self._closing.wait(TICK_S):
            with self._lock:
                self._perform(lambda: self._gossip.tick(self._clock_ms()))

    def _judge(self, fraud: FraudProof) -> bool:
        return judge(self.rules, fraud.signed, self._evidence(fraud.signed), self._reexecute)

    def _evidence(self, signed: SignedReceipt) -> Evidence:
        return Evidence(self._store.value(signed.receipt.activation), self._store.value(signed.receipt.result))

    def _audit(self) -> None:
        """Run again what the auditor has drawn, one after the other, while everything else goes on."""
        while (signed := self._drawn.get()) is not None:
            self._examine(signed)

    def _examine(self, signed: SignedReceipt) -> None:
        deviation = None
        with contextlib.suppress(ConsensusError):
            deviation = examine(signed, self._evidence(signed), self._reexecute)
        with self._lock:
            self._perform(lambda: self._gossip.examined(signed, deviation, self._clock_ms()))

    # --- mining

    def _mine(self) -> None:
        while not self._closing.is_set():
            try:
                if readable(self._mining.fileno(), TICK_S):
                    with self._lock:
                        if (block := self._mining.found()) is not None:
                            self._mined(block)
            except (SplitnetError, OSError) as error:
                with self._lock:
                    if not self._closing.is_set():
                        self._fail(_mining_ended(error))
                return

    def _mined(self, block: Block) -> None:
        self._perform(lambda: self._gossip.submit_block(block, self._clock_ms()))

    def _check_running(self) -> None:
        if self._failure is not None:
            raise self._failure


def _mining_ended(error: Exception) -> SplitnetError:
    return SplitnetError(f"mining has ended: {error}")
