"""What an AP node does about what it hears: messages go in, instructions come out. No socket, no clock, no disk.

Signatures, hashes and proof of work are checked before anything is stored or relayed. A block is stored before it is
announced: instructions are performed in their order. Who sends what breaks a rule is dropped, by name and reason.
How late joiners catch up says `catching_up.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from splitnet.consensus.accusations import Accusations
from splitnet.consensus.audit_records import FraudProof, Vote
from splitnet.consensus.auditor import Auditor
from splitnet.consensus.block import Block, Body, hash_of
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.catching_up import CatchUp
from splitnet.consensus.chain import Added, Chain, Judge
from splitnet.consensus.contact import ANSWER_DEADLINE_MS, Contact
from splitnet.consensus.errors import (
    AheadError,
    ConsensusError,
    EvidenceMissingError,
    ReexecutionError,
    StoreError,
)
from splitnet.consensus.instructions import (
    Drop,
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
from splitnet.consensus.messages import (
    Announce,
    BlockBytes,
    Fraud,
    GetBlocks,
    GetHeaders,
    GetReceipts,
    GetValue,
    Headers,
    NotHere,
    Ping,
    ReceiptBody,
    Said,
    Value,
    VoidVote,
)
from splitnet.consensus.plan import SignedPlan
from splitnet.consensus.pool import SLOTS_KEPT, Pool
from splitnet.consensus.receipt import (
    MOST_RECEIPT_BYTES,
    ReceiptKey,
    SignedReceipt,
    value_digest,
)
from splitnet.consensus.receipt_exchange import ReceiptExchange
from splitnet.consensus.receipt_memory import ReceiptMemory
from splitnet.consensus.sizes import MOST_BLOCK_BYTES

MOST_PARKED = 8
"""Messages of a peer that wait for evidence of fraud proofs."""
MOST_EARLY = 16
"""Mined blocks whose time is ahead of this clock."""


class Gossip:
    """The state of one AP node. Its methods return what is to be done."""

    def __init__(
        self,
        chain: Chain,
        check: ReceiptMemory,
        read_block: Callable[[bytes], bytes | None],
        judge: Judge,
        auditor: Auditor,
    ) -> None:
        """
        Args:
            check: the chain's own, so that a receipt that was gossiped is not verified again in a block.
            read_block: a stored block's bytes, by hash.
            judge: the chain's own.
            auditor: of this AP.
        """
        self.chain = chain
        self._check = check
        self._read_block = read_block
        self._peers: dict[int, Contact] = {}
        self._catch_up = CatchUp(chain, self._peers)
        self._receipts = ReceiptExchange(chain, check, self._peers)
        self.accusations = Accusations(judge, auditor, self._peers)
        self._parked: dict[int, deque[tuple[set[bytes], Said, bytes]]] = {}
        self._early: deque[Block] = deque(maxlen=MOST_EARLY)

    @property
    def pool(self) -> Pool:
        """Receipts that wait for a block, and those of the last slots."""
        return self._receipts.pool

    # --- peers come and go

    def connected(self, peer: int, now_ms: int) -> list[Instruction]:
        """Ask a new peer for its chain, and for what waits for a block."""
        self._peers[peer] = Contact()
        return [*self._catch_up.ask_headers(peer, now_ms), Send(peer, GetReceipts())]

    def disconnected(self, peer: int) -> None:
        self._peers.pop(peer, None)
        self._parked.pop(peer, None)

    def tick(self, now_ms: int) -> list[Instruction]:
        """Drop peers that did not answer in time; go on telling; let what came too early see the clock."""
        late = [peer for peer, known in self._peers.items() if known.is_late(now_ms)]
        done = self.accusations.advance(self.chain.head.place.slot, now_ms)
        done += self._added(self.chain.retry(now_ms), now_ms)
        done += self._retry_early(now_ms)
        done += self._receipts.tick(now_ms)
        return done + [
            Drop(peer, f"it did not answer within {ANSWER_DEADLINE_MS / 1000:g} s", False) for peer in late
        ]

    # --- what peers say

    def heard(self, peer: int, message: Said, body: bytes, now_ms: int) -> list[Instruction]:
        """Everything a peer says after the handshake."""
        if peer not in self._peers:  # it was dropped while this was on its way
            return []
        if body and not isinstance(message, BlockBytes | ReceiptBody | Value):
            return [Drop(peer, f"{type(message).__name__} with a body of {len(body)} bytes")]
        try:
            match message:
                case Announce(sealed):
                    return self._catch_up.announced(peer, sealed, now_ms)
                case GetHeaders(locator):
                    return [Send(peer, Headers(self._catch_up.headers_after(locator)))]
                case Headers(sealed):
                    return self._catch_up.headers(peer, sealed, now_ms)
                case GetBlocks(hashes):
                    return [SendBlock(peer, block_hash) for block_hash in hashes]
                case BlockBytes():
                    return self._block(peer, body, now_ms)
                case ReceiptBody(data, with_result):
                    return self._receipts.heard(peer, data, body if with_result else None, now_ms)
                case GetReceipts():
                    return self._receipts.tell_all(peer)
                case GetValue(digest):
                    return [SendValue(peer, digest)]
                case Value(digest):
                    return self._value(peer, digest, body)
                case NotHere(digest):
                    if not self._peers[peer].answered_without(digest):
                        return [Drop(peer, "it does not have what nobody asked for")]
                    done = self.accusations.refused(peer, digest, now_ms) + self._receipts.ask_results(now_ms)
                    return done + self._catch_up.fetch(peer, now_ms)
                case Fraud(proof):
                    fraud = decode(proof, FraudProof, MOST_RECEIPT_BYTES)
                    self._check(self.chain.rules, fraud.signed)
                    return self.accusations.fraud_heard(fraud)
                case VoidVote(data, verifier, signature):
                    signed = decode(data, SignedReceipt, MOST_RECEIPT_BYTES)
                    self._check(self.chain.rules, signed)
                    return self.accusations.vote_heard(signed, Vote(verifier, signature), now_ms)
                case Ping():
                    return []
                case other:
                    return [Drop(peer, f"{type(other).__name__} does not belong here")]
        except EvidenceMissingError as error:
            parked = self._parked.setdefault(peer, deque(maxlen=MOST_PARKED))
            parked.append((set(error.missing), message, body))
            return self._catch_up.ask_values(error.missing, [peer], now_ms)
        except AheadError:  # a clock that is ahead is not a lie; a block is added when it is time
            return []
        except ReexecutionError as error:  # nor is a model that is not held here
            return [NotJudged(peer, str(error))]
        except StoreError:  # nor a disk that fails
            raise
        except ConsensusError as error:
            return [Drop(peer, f"{error.rule}: {error}")]

    def _block(self, peer: int, body: bytes, now_ms: int) -> list[Instruction]:
        block = decode(body, Block, MOST_BLOCK_BYTES)
        block_hash = hash_of(self.chain.rules, block.sealed)
        self._peers[peer].asked.pop(block_hash, None)
        self._peers[peer].learn(block_hash)
        try:
            done = self._add(block, now_ms, peer)
        except EvidenceMissingError as error:
            self._catch_up.set_aside(block_hash, error.missing)
            raise
        except ReexecutionError:
            self._catch_up.set_aside(block_hash, ())
            raise
        return done + self._catch_up.fetch(peer, now_ms)

    def _value(self, peer: int, digest: bytes, body: bytes) -> list[Instruction]:
        if self._peers[peer].asked_values.pop(digest, None) is None:
            return [Drop(peer, "it sent a value that nobody asked for")]
        if value_digest(body) != digest:
            return [Drop(peer, f"a value of {len(body)} bytes does not have the digest {digest.hex()[:12]}")]
        return [StoreValue(body), ValueStored(digest, body)]

    # --- what this node itself does

    def value_stored(self, digest: bytes, value: bytes, now_ms: int) -> list[Instruction]:
        """A value is on disk: go on with what waited for it. Who is told of a receipt finds its result here."""
        done: list[Instruction] = []
        for signed in self.pool.result_came(digest):
            done += self._receipts.tell(signed, value)
            done += self.accusations.receipt_seen(signed, now_ms)
        done += self.accusations.value_came(digest, now_ms)
        done += self._added(self.chain.retry(now_ms, digest), now_ms)
        self._catch_up.value_came(digest)
        for peer, waiting in list(self._parked.items()):
            for parked in [parked for parked in waiting if digest in parked[0]]:
                missing, message, body = parked
                missing.discard(digest)
                if not missing:
                    waiting.remove(parked)
                    done += self.heard(peer, message, body, now_ms)
        return done + self._receipts.ask_results(now_ms)

    def examined(self, signed: SignedReceipt, deviation: float | None, now_ms: int) -> list[Instruction]:
        """An audit's re-execution came to an end; None: it is not possible here."""
        return self.accusations.examined(signed, deviation, now_ms)

    def submit(self, signed: SignedReceipt, result: bytes) -> list[Instruction]:
        """A receipt of this AP: verify, keep, tell all.

        Raises:
            ConsensusError: the receipt or its result is not valid, or of a slot that the chain is far from.
        """
        return self._receipts.submit(signed, result)

    def submit_block(self, block: Block, now_ms: int) -> list[Instruction]:
        """A block that this AP mined: store it, then announce it."""
        try:
            return self._add(block, now_ms, None)
        except AheadError as error:
            return [NotJudged(None, f"the block that was mined waits, since this clock was set back: {error}")]

    def body(self, plan: SignedPlan, miner: int) -> Body:
        """What a block of a plan's slot on the head holds now."""
        frauds, voids = self.accusations.waiting(plan.plan.slot, self._recorded, self.chain.holds)
        receipts = self.pool.ready(plan.plan, miner, partial(self._recorded, "receipt"))
        return Body(plan, receipts, frauds, voids)

    # --- shared

    def _recorded(self, kind: str, key: ReceiptKey) -> bool:
        return self.chain.recorded((kind, key)) is not None

    def _retry_early(self, now_ms: int) -> list[Instruction]:
        """Blocks whose time was ahead of the clock."""
        done: list[Instruction] = []
        for _ in range(len(self._early)):
            block = self._early.popleft()
            try:
                done += self._add(block, now_ms, None)
            except StoreError:
                raise
            except (
                ConsensusError
            ):  # it is still too early, and waits again; or it lacks evidence, and is fetched again
                continue
        return done

    def _add(self, block: Block, now_ms: int, source: int | None) -> list[Instruction]:
        try:
            added = self.chain.add(block, now_ms)
        except AheadError:
            if block not in self._early:
                self._early.append(block)
            raise
        if added.missing is not None and source is not None and not self._catch_up.is_aside(added.missing):
            return self._catch_up.ask_headers(source, now_ms)
        return self._added(added, now_ms)

    def _added(self, added: Added, now_ms: int) -> list[Instruction]:
        """Blocks are in the tree: store and announce them; evidence that blocks on them lack is asked of all."""
        if not added.blocks:
            return self._catch_up.ask_values(added.evidence, self._peers, now_ms)
        done: list[Instruction] = [StoreBlocks(added.blocks)]
        done += self._take_back(added)
        for each in added.blocks:
            block_hash = hash_of(self.chain.rules, each.sealed)
            for peer, state in self._peers.items():
                if state.learn(block_hash):
                    done.append(Send(peer, Announce(encode(each.sealed))))
        if added.joined:
            self.pool.forget_before(self.chain.head.place.slot - SLOTS_KEPT)
            done.append(HeadMoved(self.chain.head))
        return done + self._catch_up.ask_values(added.evidence, self._peers, now_ms)

    def _take_back(self, added: Added) -> list[Instruction]:
        """Receipts of blocks that left the chain wait again; peers who followed another branch may not have them."""
        done: list[Instruction] = []
        for entry in added.left:
            data = self._read_block(entry.hash)
            for signed in decode(data, Block, MOST_BLOCK_BYTES).body.receipts if data else ():
                if signed.key not in self.pool:
                    self.pool.add(signed, has_result=True)
                if not self._recorded("receipt", signed.key):
                    done += self._receipts.tell(signed, None)
        return done
