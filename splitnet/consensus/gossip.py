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
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.messages import (
    Announce,
    BlockBytes,
    Fraud,
    GetBlocks,
    GetHeaders,
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
    MOST_TRAVELLING_BYTES,
    ReceiptKey,
    SignedReceipt,
    validate_result,
    value_digest,
)
from splitnet.consensus.receipt_memory import ReceiptMemory
from splitnet.consensus.sizes import MOST_BLOCK_BYTES

MOST_PARKED = 64
"""Messages that wait for evidence of fraud proofs."""


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
        self.pool = Pool(chain.rules)
        self._check = check
        self._read_block = read_block
        self._peers: dict[int, Contact] = {}
        self._catch_up = CatchUp(chain, self._peers)
        self.accusations = Accusations(judge, auditor, self._peers)
        self._parked: deque[tuple[set[bytes], int, Said, bytes]] = deque(maxlen=MOST_PARKED)

    # --- peers come and go

    def connected(self, peer: int, now_ms: int) -> list[Instruction]:
        """Ask a new peer for what it has, and tell it what waits for a block."""
        self._peers[peer] = Contact()
        done = self._catch_up.ask_headers(peer, now_ms)
        for pooled in self.pool:
            if not self._recorded("receipt", pooled.signed.key):
                done += self._tell_receipt(peer, pooled.signed, None)
        return done

    def disconnected(self, peer: int) -> None:
        self._peers.pop(peer, None)

    def tick(self, now_ms: int) -> list[Instruction]:
        """Drop peers that did not answer in time; let the auditor and blocks that came too early see the clock."""
        late = [peer for peer, known in self._peers.items() if any(now_ms > by for by in known.asked.values())]
        done = self.accusations.advance(self.chain.head.place.slot, now_ms)
        done += self._added(self.chain.retry(now_ms), now_ms)
        return done + [
            Drop(peer, f"it did not answer within {ANSWER_DEADLINE_MS / 1000:g} s", False) for peer in late
        ]

    # --- what peers say

    def heard(self, peer: int, message: Said, body: bytes, now_ms: int) -> list[Instruction]:
        """Everything a peer says after the handshake."""
        if peer not in self._peers:  # it was dropped while this was on its way
            return []
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
                    return self._receipt(peer, data, body if with_result else None, now_ms)
                case GetValue(digest):
                    return [SendValue(peer, digest)]
                case Value(digest):
                    return self._value(peer, digest, body)
                case NotHere(digest):
                    self._peers[peer].asked.pop(digest, None)
                    return self.accusations.refused(digest, now_ms) + self._catch_up.fetch(peer, now_ms)
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
            self._parked.append((set(error.missing), peer, message, body))
            return self._catch_up.ask_values(error.missing, [peer], now_ms)
        except AheadError:  # a clock that is ahead is not a lie; the block comes again when it is time
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

    def _receipt(self, peer: int, data: bytes, result: bytes | None, now_ms: int) -> list[Instruction]:
        signed = decode(data, SignedReceipt, MOST_RECEIPT_BYTES)
        self._peers[peer].learn(leaf_hash(data))
        if signed.key in self.pool:
            return []
        if result is not None and len(result) > MOST_TRAVELLING_BYTES:
            return [
                Drop(peer, f"a result of {len(result)} bytes came with its receipt, at most {MOST_TRAVELLING_BYTES}")
            ]
        done = self.submit(signed, result, now_ms)
        digest = signed.receipt.result
        if result is None and self._peers[peer].ask(digest, now_ms):  # two inferences may have one result
            done.append(Send(peer, GetValue(digest)))
        return done

    def _value(self, peer: int, digest: bytes, body: bytes) -> list[Instruction]:
        if self._peers[peer].asked.pop(digest, None) is None:
            return [Drop(peer, "it sent a value that nobody asked for")]
        if value_digest(body) != digest:
            return [Drop(peer, f"a value of {len(body)} bytes does not have the digest {digest.hex()[:12]}")]
        return [StoreValue(body), ValueStored(digest)]

    # --- what this node itself does

    def value_stored(self, digest: bytes, now_ms: int) -> list[Instruction]:
        """A value that was asked for is on disk: go on with what waited for it."""
        done: list[Instruction] = []
        for signed in self.pool.result_came(digest):
            done += self.accusations.receipt_seen(signed, now_ms)
        done += self.accusations.value_came(digest, now_ms)
        done += self._added(self.chain.retry(now_ms, digest), now_ms)
        self._catch_up.value_came(digest)
        for parked in [parked for parked in self._parked if digest in parked[0]]:
            parked[0].discard(digest)
            if not parked[0]:
                self._parked.remove(parked)
                done += self.heard(*parked[1:], now_ms)
        return done

    def examined(self, signed: SignedReceipt, deviation: float | None, now_ms: int) -> list[Instruction]:
        """An audit's re-execution came to an end; None: it is not possible here."""
        return self.accusations.examined(signed, deviation, now_ms)

    def submit(self, signed: SignedReceipt, result: bytes | None, now_ms: int) -> list[Instruction]:
        """A receipt of this AP, or of a peer: verify, keep, pass on.

        Raises:
            ConsensusError: the receipt or its result is not valid.
        """
        self._check(self.chain.rules, signed)
        if result is not None:
            validate_result(signed.receipt, result)
        if signed.key in self.pool:
            return []
        self.pool.add(signed, has_result=result is not None)
        done: list[Instruction] = [] if result is None else [StoreValue(result)]
        for peer in self._peers:
            done += self._tell_receipt(peer, signed, result)
        return done if result is None else done + self.accusations.receipt_seen(signed, now_ms)

    def submit_block(self, block: Block, now_ms: int) -> list[Instruction]:
        """A block that this AP mined: store it, then announce it."""
        return self._add(block, now_ms, None)

    def body(self, plan: SignedPlan, miner: int) -> Body:
        """What a block of a plan's slot on the head holds now."""
        frauds, voids = self.accusations.waiting(plan.plan.slot, self._recorded, self.chain.holds)
        receipts = self.pool.ready(plan.plan, miner, partial(self._recorded, "receipt"))
        return Body(plan, receipts, frauds, voids)

    # --- shared

    def _recorded(self, kind: str, key: ReceiptKey) -> bool:
        return self.chain.recorded((kind, key)) is not None

    def _add(self, block: Block, now_ms: int, source: int | None) -> list[Instruction]:
        added = self.chain.add(block, now_ms)
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
                    for peer in self._peers:
                        done += self._tell_receipt(peer, signed, None)
        return done

    def _tell_receipt(self, peer: int, signed: SignedReceipt, result: bytes | None) -> list[Instruction]:
        data = encode(signed)
        if not self._peers[peer].learn(leaf_hash(data)):
            return []
        travels = result is not None and len(result) <= MOST_TRAVELLING_BYTES
        return [Send(peer, ReceiptBody(data, travels), result if travels and result is not None else b"")]
