"""What attackers do who hold real keys: forge, replay, claim, and mine and sign blocks for it.

Blocks are mined and signed by whoever attacks, so that nothing but the rule in question stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.audit_records import Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, Body, Header, hash_of, seal_of, sign_block
from splitnet.consensus.canonical import digest_of, encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.difficulty import difficulty_of, target_of
from splitnet.consensus.errors import ConsensusError, ReceiptError
from splitnet.consensus.genesis import Audit
from splitnet.consensus.identity import sign
from splitnet.consensus.plan import CutPlan, SignedPlan
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import (
    Receipt,
    SignedReceipt,
    countersign,
    sign_arrival,
    sign_as_ap,
    validate_receipt,
)
from splitnet.consensus.validation import Place
from tests.consensus import by_hand
from tests.consortium import NOW_MS, Consortium, Contents, a_key, some_rules, trusting

ON = Audit(share_millionths=100_000)
NETWORK = Consortium(some_rules(aps=3, gateways=3, devices=6, audit=ON))
"""Device n is on gateway n mod 3, gateway m on AP m."""
SISTER = Consortium(some_rules(aps=3, gateways=3, devices=6, audit=ON, most_ahead_ms=4999))
"""Another network of the same members, with the same keys."""
RULES = NETWORK.rules
replace = msgspec.structs.replace
DEVICE, GATEWAY, AP = a_key("device", 0), a_key("gateway", 0), a_key("ap", 0)


def submit(*blocks: Block) -> Chain:
    """To an honest member who knows nothing yet."""
    chain = Chain(RULES, trusting)
    for block in blocks:
        added = chain.add(block, NOW_MS)
        assert added.missing is None
    return chain


def submit_receipt(signed: SignedReceipt) -> None:
    """By itself, and in a block of the AP that gains by it; both must refuse it for the same reason."""
    body = NETWORK.body(7, Contents((signed,)))
    header = NETWORK.block(7, 0).header
    block = NETWORK.mined(replace(header, plan=body.plan_digest(), receipts=body.receipts_root()), body)
    with pytest.raises(ReceiptError) as by_itself:
        validate_receipt(RULES, signed)
    with pytest.raises(type(by_itself.value)):
        submit(block)
    raise by_itself.value


def signed_by(
    receipt: Receipt,
    device: Ed25519PrivateKey = DEVICE,
    ap: Ed25519PrivateKey = AP,
    gateway: Ed25519PrivateKey = GATEWAY,
) -> SignedReceipt:
    """By these keys, whoever the receipt names."""
    first = sign_arrival(RULES, device, receipt.arrival)
    second = sign_as_ap(RULES, ap, receipt, first)
    return countersign(RULES, gateway, receipt, first, second)


GOOD = NETWORK.receipt(7, 0)
"""Of device 0, gateway 0, AP 0."""


def without_the_device(receipt: Receipt, device_signature: bytes = GOOD.device_signature) -> SignedReceipt:
    """AP and gateway conspire, and have what the device signed for an honest receipt."""
    second = sign_as_ap(RULES, AP, receipt, device_signature)
    return countersign(RULES, GATEWAY, receipt, device_signature, second)


def with_arrival(**changes: Any) -> Receipt:
    return replace(GOOD.receipt, arrival=replace(GOOD.receipt.arrival, **changes))


def forged(signature: str, content: bytes) -> SignedReceipt:
    return replace(GOOD, **{signature: content})


def bent(signature: bytes) -> bytes:
    """The other form of an Ed25519 signature: S + L."""
    return signature[:32] + (int.from_bytes(signature[32:], "little") + by_hand.ORDER).to_bytes(32, "little")


def claiming(reputation: int) -> dict[str, Any]:
    """A reputation with all that follows from it."""
    mining = RULES.genesis.mining
    difficulty = difficulty_of(mining, reputation)
    return {
        "reputation_micro": reputation,
        "difficulty": difficulty,
        "target": target_of(mining, difficulty).to_bytes(32),
    }


BLOCK = NETWORK.block(7, 0, Contents(NETWORK.receipts(7)))
OWN_WORK = BLOCK.header.reputation_micro


def mined(miner: int = 0, contents: Contents | Body = BLOCK.body, **changes: Any) -> Block:
    """By AP `miner` with its own key, roots and difficulty right, but for the changes."""
    block = NETWORK.block(7, miner, contents)
    return NETWORK.mined(replace(block.header, **changes), block.body)


def planned(plan: SignedPlan, slot: int = 7, miner: int = 0, cut: int = 2) -> Block:
    """Of this slot, with AP 0's receipts of it at this cut, under whatever plan, mined and signed."""
    receipts = tuple(NETWORK.receipt(slot, twin, cut=cut) for twin in (0, 3))
    block = NETWORK.block(slot, miner, Contents(receipts))
    body = Body(plan, receipts)
    return NETWORK.mined(replace(block.header, plan=body.plan_digest()), body)


def plan_by(key: Ed25519PrivateKey, slot: int = 7, sister: bool = False, **changes: Any) -> SignedPlan:
    """A plan signed by this key, whatever it says."""
    rules = SISTER.rules if sister else RULES
    plan: CutPlan = replace(NETWORK.plan(slot).plan, **changes)
    return SignedPlan(plan, sign(key, digest_of("plan", rules.network, encode(plan))))


def signed_anew(key: Ed25519PrivateKey, block: Block = BLOCK) -> Block:
    return sign_block(RULES, key, block.header, block.sealed.nonce, block.body)


def with_signature(signature: bytes) -> Block:
    return replace(BLOCK, sealed=replace(BLOCK.sealed, signature=signature))


def unworked() -> Block:
    """Signed, but with the first nonce whose hash is not below the target."""
    seal, target = seal_of(RULES, BLOCK.header), int.from_bytes(BLOCK.header.target)
    nonces = (number.to_bytes(NONCE_BYTES) for number in range(1000))
    nonce = next(nonce for nonce in nonces if not meets(work_hash(seal, nonce), target))
    return sign_block(RULES, AP, BLOCK.header, nonce, BLOCK.body)


def mined_at_another_target() -> Block:
    """AP 1 has proved nothing; it mines on AP 0's header until the easier target is met, and signs."""
    return signed_anew(a_key("ap", 1))


def place_of(block: Block) -> Place:
    return Place.of_block(hash_of(RULES, block.sealed), block.header)


def replayed(*, cut: int = 2, slot: int = 8) -> tuple[Block, Block]:
    """The receipt of slot 7 and device 0 once more, in a block on the one that holds it."""
    return BLOCK, NETWORK.block(slot, 1, Contents((NETWORK.receipt(7, 0, cut=cut),)), parent=place_of(BLOCK))


def on_the_block(**changes: Any) -> tuple[Block, Block]:
    """An empty block on the good one."""
    block = NETWORK.block(changes.get("slot", 8), 1, parent=place_of(BLOCK))
    return BLOCK, NETWORK.mined(replace(block.header, **changes), block.body)


def accusation(key: Ed25519PrivateKey, verifier: int) -> Block:
    return mined(1, Contents(frauds=(prove_fraud(RULES, key, verifier, GOOD),)))


def voided(*voters: int, sister: bool = False) -> Block:
    """The good receipt, which stands in the good block, by the votes of these APs."""
    rules = SISTER.rules if sister else RULES
    votes = tuple(vote_void(rules, a_key("ap", voter), voter, GOOD) for voter in voters)
    return NETWORK.block(8, 1, Contents(voids=(Void(GOOD, votes),)), parent=place_of(BLOCK))


def void_of(signed: SignedReceipt) -> Void:
    return Void(signed, tuple(vote_void(RULES, a_key("ap", voter), voter, signed) for voter in (1, 2)))


def refused_by_judge() -> None:
    chain = Chain(RULES, lambda fraud: False)
    chain.add(accusation(a_key("ap", 1), 1), NOW_MS)


def longer_but_invalid() -> None:
    """Ten mined blocks on one whose receipts claim too many data points, against a chain of one."""
    chain = submit(BLOCK)
    bad = mined(1, Contents((signed_by(with_arrival(data_points=16)),)))
    tip, refusal = bad, None
    try:
        chain.add(bad, NOW_MS)
    except ConsensusError as error:
        refusal = error
    for slot in range(8, 18):
        tip = NETWORK.block(slot, 1, parent=place_of(tip))
        chain.add(tip, NOW_MS)
    assert chain.head.hash == place_of(BLOCK).hash
    assert refusal is not None
    raise refusal


@dataclass(frozen=True)
class Attack:
    """What is tried, and the class of the refusal."""

    attempt: Callable[[], object]
    error: type[ConsensusError]

    def is_refused(self) -> None:
        """By this rule and no other, in one line."""
        with pytest.raises(ConsensusError) as caught:
            self.attempt()
        assert type(caught.value) is self.error
        assert "\n" not in str(caught.value)


def header_of(miner: int) -> Header:
    return replace(NETWORK.block(7, 0).header, miner=miner)


def replace_target(target: bytes) -> Block:
    header = replace(BLOCK.header, target=target)
    return sign_block(RULES, AP, header, BLOCK.sealed.nonce, BLOCK.body)
