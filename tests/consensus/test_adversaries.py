"""Who tries what, and the rule that stops it: one table, each row an attack by members who hold real keys.

Blocks are mined and signed by whoever attacks, so that nothing but the rule in question stands in the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus import errors
from splitnet.consensus.audit_records import Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, Body, Header, hash_of, seal_of, sign_block, signing_digest
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.difficulty import difficulty_of, reputation_of, target_of
from splitnet.consensus.errors import (
    BlockError,
    BodyError,
    ConsensusError,
    CutOutOfRangeError,
    DataPointsError,
    DifficultyError,
    EncodingError,
    FraudProofError,
    MinerError,
    NotConnectedError,
    ParentError,
    ReceiptError,
    ReceiptSlotError,
    RecordedTwiceError,
    ReputationError,
    ResultDigestError,
    RootError,
    SealSignatureError,
    SignatureOfReceiptError,
    SlotError,
    TargetError,
    TimeError,
    UnknownMemberError,
    UnknownModelError,
    WorkError,
)
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import (
    Arrival,
    Receipt,
    SignedReceipt,
    countersign,
    sign_arrival,
    sign_as_ap,
    top_flops,
    validate_receipt,
    validate_result,
)
from splitnet.consensus.validation import Place
from tests.consensus import by_hand
from tests.consortium import GRAPH, NOW_MS, OTHER_GRAPH, STARTED_MS, Consortium, a_key, some_rules, trusting

NETWORK = Consortium(some_rules(aps=3, gateways=3, devices=6))
"""Device n is on gateway n mod 3, gateway m on AP m."""
SISTER = Consortium(some_rules(aps=3, gateways=3, devices=6, most_ahead_ms=4999))
"""Another network of the same members, with the same keys."""
RULES = NETWORK.rules
replace = msgspec.structs.replace
DEVICE, GATEWAY, AP = a_key("device", 0), a_key("gateway", 0), a_key("ap", 0)


# --- what attackers do


def submit(*blocks: Block) -> Chain:
    """To an honest member who knows nothing yet."""
    chain = Chain(RULES, trusting)
    for block in blocks:
        added = chain.add(block, NOW_MS)
        assert added.missing is None
    return chain


def submit_receipt(signed: SignedReceipt) -> None:
    """By itself, and in a block of the AP that gains by it; both must refuse it for the same reason."""
    body = Body((signed,))
    header = NETWORK.block(7, 0).header
    block = NETWORK.mined(replace(header, receipts=body.receipts_root()), body)
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


BLOCK = NETWORK.block(7, 0, Body(NETWORK.receipts(7)))
OWN_WORK = BLOCK.header.reputation_micro


def mined(miner: int = 0, body: Body = BLOCK.body, **changes: Any) -> Block:
    """By AP `miner` with its own key, roots and difficulty right, but for the changes."""
    header = NETWORK.block(7, miner, body).header
    return NETWORK.mined(replace(header, **changes), body)


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
    body = Body((NETWORK.receipt(7, 0, cut=cut),))
    return BLOCK, NETWORK.block(slot, 1, body, parent=place_of(BLOCK))


def on_the_block(**changes: Any) -> tuple[Block, Block]:
    """An empty block on the good one."""
    header = NETWORK.block(8, 1, parent=place_of(BLOCK)).header
    return BLOCK, NETWORK.mined(replace(header, **changes), Body())


def accusation(key: Ed25519PrivateKey, verifier: int) -> Block:
    return mined(1, Body(frauds=(prove_fraud(RULES, key, verifier, GOOD),)))


def voided(*voters: int, sister: bool = False) -> Block:
    rules = SISTER.rules if sister else RULES
    votes = tuple(vote_void(rules, a_key("ap", voter), voter, GOOD) for voter in voters)
    return NETWORK.block(8, 1, Body(voids=(Void(GOOD, votes),)), parent=place_of(BLOCK))


def void_of(signed: SignedReceipt) -> Void:
    return Void(signed, tuple(vote_void(RULES, a_key("ap", voter), voter, signed) for voter in (1, 2)))


def refused_by_judge() -> None:
    chain = Chain(RULES, lambda fraud: False)
    chain.add(accusation(a_key("ap", 1), 1), NOW_MS)


def longer_but_invalid() -> None:
    """Ten mined blocks on one whose receipts claim too many data points, against a chain of one."""
    chain = submit(BLOCK)
    bad = mined(1, Body((signed_by(with_arrival(data_points=16)),)))
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


ATTACKS: dict[str, Attack] = {
    # forged signatures of receipts
    "outsider: all three signatures": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, a_key("x"), a_key("y"), a_key("z"))), SignatureOfReceiptError
    ),
    "AP: signs as the device": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, device=AP)), SignatureOfReceiptError
    ),
    "AP: signs as the gateway": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, gateway=AP)), SignatureOfReceiptError
    ),
    "gateway: signs as the AP": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, ap=GATEWAY)), SignatureOfReceiptError
    ),
    "device: signs as the AP": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, ap=DEVICE)), SignatureOfReceiptError
    ),
    "controller: signs as the gateway": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, gateway=a_key("controller"))), SignatureOfReceiptError
    ),
    "AP: another AP signs in its place": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, ap=a_key("ap", 1))), SignatureOfReceiptError
    ),
    "device: another device signs in its place": Attack(
        lambda: submit_receipt(signed_by(GOOD.receipt, device=a_key("device", 3))), SignatureOfReceiptError
    ),
    "outsider: a device's signature of zeros": Attack(
        lambda: submit_receipt(forged("device_signature", bytes(64))), SignatureOfReceiptError
    ),
    "outsider: a device's signature of the neutral point": Attack(
        lambda: submit_receipt(forged("device_signature", by_hand.point_bytes(by_hand.NEUTRAL) + bytes(32))),
        SignatureOfReceiptError,
    ),
    "outsider: the device's signature in its second form": Attack(
        lambda: submit_receipt(forged("device_signature", bent(GOOD.device_signature))), SignatureOfReceiptError
    ),
    "outsider: the AP's signature in its second form": Attack(
        lambda: submit_receipt(forged("ap_signature", bent(GOOD.ap_signature))), SignatureOfReceiptError
    ),
    "outsider: the gateway's signature in its second form": Attack(
        lambda: submit_receipt(forged("gateway_signature", bent(GOOD.gateway_signature))), SignatureOfReceiptError
    ),
    "gateway: its signature in the AP's place": Attack(
        lambda: submit_receipt(forged("ap_signature", GOOD.gateway_signature)), SignatureOfReceiptError
    ),
    "AP: a receipt of a sister network": Attack(
        lambda: submit_receipt(SISTER.receipt(7, 0)), SignatureOfReceiptError
    ),
    # more work than there was
    "AP: a lower cut after all have signed": Attack(
        lambda: submit_receipt(replace(GOOD, receipt=replace(GOOD.receipt, cut=0))), SignatureOfReceiptError
    ),
    "AP: a lower cut, signed by itself": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, cut=0), gateway=AP)), SignatureOfReceiptError
    ),
    "AP: another graph after all have signed": Attack(
        lambda: submit_receipt(replace(GOOD, receipt=replace(GOOD.receipt, graph=OTHER_GRAPH, cut=0))),
        SignatureOfReceiptError,
    ),
    "AP and gateway: more data points": Attack(
        lambda: submit_receipt(without_the_device(with_arrival(data_points=15))), SignatureOfReceiptError
    ),
    "AP and gateway: another slot": Attack(
        lambda: submit_receipt(without_the_device(with_arrival(slot=6))), SignatureOfReceiptError
    ),
    "AP and gateway: the other device's arrival": Attack(
        lambda: submit_receipt(without_the_device(with_arrival(twin=3))), SignatureOfReceiptError
    ),
    "AP and gateway: another batch": Attack(
        lambda: submit_receipt(without_the_device(with_arrival(batch=hashlib.sha256(b"").digest()))),
        SignatureOfReceiptError,
    ),
    "AP, gateway and device: over the cap": Attack(
        lambda: submit_receipt(signed_by(with_arrival(data_points=16))), DataPointsError
    ),
    "AP, gateway and device: 2^62 data points": Attack(
        lambda: submit_receipt(signed_by(with_arrival(data_points=2**62))), DataPointsError
    ),
    "AP, gateway and device: a graph of their own": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, graph=hashlib.sha256(b"mine").digest()))),
        UnknownModelError,
    ),
    "AP, gateway and device: a cut after the end": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, cut=6))), CutOutOfRangeError
    ),
    "AP and a gateway of another AP": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, ap=1), ap=a_key("ap", 1))), NotConnectedError
    ),
    "AP, gateway and a device of another gateway": Attack(
        lambda: submit_receipt(signed_by(with_arrival(twin=1), device=a_key("device", 1))), NotConnectedError
    ),
    "AP and gateway: a device that nobody knows": Attack(
        lambda: submit_receipt(signed_by(with_arrival(twin=6), device=a_key("device", 6))), UnknownMemberError
    ),
    "AP: a gateway that nobody knows": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, gateway=3), gateway=a_key("gateway", 3))),
        UnknownMemberError,
    ),
    "outsider: an AP that nobody knows": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, ap=2**62), ap=a_key("x"))), UnknownMemberError
    ),
    "AP: another result than the one it signed": Attack(
        lambda: validate_result(GOOD.receipt, b"another"), ResultDigestError
    ),
    # receipts where they do not belong
    "AP: a receipt twice in a block": Attack(lambda: submit(mined(body=Body((GOOD, GOOD)))), BodyError),
    "AP and gateway: two receipts for one arrival": Attack(
        lambda: submit(mined(body=Body((GOOD, NETWORK.receipt(7, 0, cut=0))))), BodyError
    ),
    "AP: a receipt that the chain holds": Attack(lambda: submit(*replayed()), RecordedTwiceError),
    "AP and gateway: another receipt for an arrival that the chain holds": Attack(
        lambda: submit(*replayed(cut=0)), RecordedTwiceError
    ),
    "AP: a receipt of a slot to come": Attack(
        lambda: submit(mined(body=Body(NETWORK.receipts(8, [0])), **claiming(0))), ReceiptSlotError
    ),
    "AP: counts a receipt of a slot before": Attack(
        lambda: submit(mined(body=Body(NETWORK.receipts(6, [0])), **claiming(OWN_WORK // 2))), ReputationError
    ),
    "AP: counts another AP's receipts": Attack(
        lambda: submit(mined(1, Body(NETWORK.receipts(7, [0, 3])), **claiming(OWN_WORK))), ReputationError
    ),
    "AP: counts receipts that it leaves out": Attack(
        lambda: submit(mined(body=Body((GOOD,)), **claiming(OWN_WORK))), ReputationError
    ),
    "AP: another body under its header": Attack(lambda: submit(replace(BLOCK, body=Body((GOOD,)))), RootError),
    "outsider: an accusation under a mined header": Attack(
        lambda: submit(replace(BLOCK, body=replace(BLOCK.body, frauds=accusation(a_key("ap", 1), 1).body.frauds))),
        RootError,
    ),
    # difficulty
    "AP: the reputation of the cap": Attack(lambda: submit(mined(**claiming(1_000_000))), ReputationError),
    "AP: a reputation over the cap": Attack(lambda: submit(mined(**claiming(1_000_001))), ReputationError),
    "AP: one micro-unit more": Attack(lambda: submit(mined(**claiming(OWN_WORK + 1))), ReputationError),
    "AP: less, to look harmless": Attack(lambda: submit(mined(**claiming(OWN_WORK - 1))), ReputationError),
    "AP: the least difficulty": Attack(lambda: submit(mined(difficulty=1)), DifficultyError),
    "AP: a difficulty one unit off": Attack(
        lambda: submit(mined(difficulty=BLOCK.header.difficulty - 1)), DifficultyError
    ),
    "AP: the easiest target": Attack(lambda: submit(mined(target=b"\xff" * 32)), TargetError),
    "AP: a target of 0": Attack(lambda: submit(replace_target(bytes(32))), TargetError),
    "AP: another AP's target": Attack(lambda: submit(mined(1, Body(), target=BLOCK.header.target)), TargetError),
    "AP: no work": Attack(lambda: submit(unworked()), WorkError),
    "outsider: another nonce": Attack(
        lambda: submit(replace(BLOCK, sealed=replace(BLOCK.sealed, nonce=unworked().sealed.nonce))), WorkError
    ),
    # who mines
    "AP: mines at another's target": Attack(lambda: submit(mined_at_another_target()), SealSignatureError),
    "gateway: signs the header": Attack(lambda: submit(signed_anew(GATEWAY)), SealSignatureError),
    "controller: signs the header": Attack(lambda: submit(signed_anew(a_key("controller"))), SealSignatureError),
    "outsider: signs the header": Attack(lambda: submit(signed_anew(a_key("x"))), SealSignatureError),
    "outsider: mines as AP 3": Attack(lambda: submit(NETWORK.mined(header_of(3), Body())), MinerError),
    "outsider: mines as AP 2^62": Attack(lambda: submit(NETWORK.mined(header_of(2**62), Body())), MinerError),
    "outsider: a header's signature of zeros": Attack(lambda: submit(with_signature(bytes(64))), SealSignatureError),
    "outsider: the header's signature in its second form": Attack(
        lambda: submit(with_signature(bent(BLOCK.sealed.signature))), SealSignatureError
    ),
    "outsider: the signature of the miner's receipt": Attack(
        lambda: submit(with_signature(GOOD.ap_signature)), SealSignatureError
    ),
    "AP: its own signature of a sister network": Attack(
        lambda: submit(
            with_signature(
                AP.sign(signing_digest(SISTER.rules, hash_of(RULES, BLOCK.sealed))),
            )
        ),
        SealSignatureError,
    ),
    # place and time
    "AP: on a parent of another height": Attack(lambda: submit(*on_the_block(height=3)), ParentError),
    "AP: a slot of the past": Attack(lambda: submit(*on_the_block(slot=6)), SlotError),
    "AP: the parent's slot once more": Attack(lambda: submit(*on_the_block(slot=7)), SlotError),
    "AP: before its parent": Attack(lambda: submit(*on_the_block(time_ms=STARTED_MS + 999)), TimeError),
    "AP: at its parent's time": Attack(lambda: submit(*on_the_block(time_ms=STARTED_MS + 1000)), TimeError),
    "AP: before the network began": Attack(lambda: submit(mined(time_ms=0)), TimeError),
    "AP: an hour ahead": Attack(lambda: submit(mined(time_ms=NOW_MS + 3_600_000)), TimeError),
    "AP: a longer invalid chain": Attack(longer_but_invalid, DataPointsError),
    # accusations
    "AP: clears itself by accusing itself": Attack(lambda: submit(accusation(AP, 0)), FraudProofError),
    "gateway: accuses in an AP's name": Attack(lambda: submit(accusation(GATEWAY, 1)), FraudProofError),
    "outsider: accuses as AP 3": Attack(lambda: submit(accusation(a_key("ap", 3), 3)), FraudProofError),
    "AP: accuses of what is not so": Attack(refused_by_judge, FraudProofError),
    "AP: voids alone": Attack(lambda: submit(BLOCK, voided(1)), FraudProofError),
    "AP: votes twice": Attack(lambda: submit(BLOCK, voided(1, 1)), FraudProofError),
    "AP: votes of a sister network": Attack(lambda: submit(BLOCK, voided(1, 2, sister=True)), FraudProofError),
    "AP: uses up the void in the block that counts the receipt": Attack(
        lambda: submit(mined(body=Body((GOOD,), voids=(void_of(GOOD),)))), FraudProofError
    ),
    "AP: uses up the void before the receipt is recorded": Attack(
        lambda: submit(mined(body=Body(voids=(void_of(GOOD),)))), FraudProofError
    ),
    "AP and gateway: use up the void on a second receipt for one arrival": Attack(
        lambda: submit(
            BLOCK, NETWORK.block(8, 0, Body(voids=(void_of(NETWORK.receipt(7, 0, cut=0)),)), parent=place_of(BLOCK))
        ),
        FraudProofError,
    ),
    # bytes
    "outsider: a receipt where a block belongs": Attack(lambda: decode(encode(GOOD), Block, 1 << 20), EncodingError),
}


def header_of(miner: int) -> Header:
    return replace(NETWORK.block(7, 0).header, miner=miner)


def replace_target(target: bytes) -> Block:
    header = replace(BLOCK.header, target=target)
    return sign_block(RULES, AP, header, BLOCK.sealed.nonce, BLOCK.body)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    attack = ATTACKS[name]
    with pytest.raises(ConsensusError) as caught:
        attack.attempt()
    assert type(caught.value) is attack.error
    assert "\n" not in str(caught.value)


def test_what_is_attacked_is_valid() -> None:
    """Else the refusals would say nothing."""
    validate_receipt(RULES, GOOD)
    validate_receipt(SISTER.rules, SISTER.receipt(7, 0))
    assert submit(BLOCK, NETWORK.block(8, 1, parent=place_of(BLOCK))).head.height == 2
    assert len(submit(BLOCK, voided(1, 2))) == 2
    assert len(submit(accusation(a_key("ap", 1), 1))) == 1
    assert OWN_WORK == reputation_of(RULES.genesis.mining, 2 * top_flops(RULES, GOOD.receipt)) == 300_000


def test_every_error_of_receipts_and_blocks_stops_some_attack() -> None:
    classes = {
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, ReceiptError | BlockError)
    }
    assert {attack.error for attack in ATTACKS.values()} >= classes - {ReceiptError, BlockError}
    assert len(classes) > 20


def test_a_whole_chain_of_another_network_is_refused() -> None:
    """Each block of it, at once or as an orphan, by its hash or its signature."""
    theirs, ours = Chain(SISTER.rules, trusting), Chain(RULES, trusting)
    for slot in range(20):
        block = SISTER.on(theirs, slot, slot % 3, Body(SISTER.receipts(slot)))
        theirs.add(block, NOW_MS)
        with pytest.raises((WorkError, SealSignatureError)):
            ours.add(block, NOW_MS)
    assert len(theirs) == 20
    assert not list(ours.orphans())


def test_a_second_valid_signature_is_no_second_block() -> None:
    """The miner may sign once more with another secret nonce; the hash is the same, and so is the block."""
    seed = hashlib.sha256(b"ap 0").digest()
    digest = signing_digest(RULES, hash_of(RULES, BLOCK.sealed))
    other = with_signature(by_hand.ed25519_signature(seed, digest, nonce=12345))
    assert other != BLOCK
    for first, second in ((BLOCK, other), (other, BLOCK)):
        chain = submit(first)
        assert chain.add(second, NOW_MS).blocks == ()
        assert len(chain) == 1


def test_a_second_valid_receipt_is_no_second_receipt() -> None:
    """Nor may a gateway that signs once more have the same work counted again."""
    seed = hashlib.sha256(b"gateway 0").digest()
    message = hashlib.sha256(
        b"splitnet/countersigned\0" + RULES.network + encode(GOOD.receipt) + GOOD.device_signature + GOOD.ap_signature
    ).digest()
    other = forged("gateway_signature", by_hand.ed25519_signature(seed, message, nonce=999))
    assert other != GOOD
    validate_receipt(RULES, other)
    with pytest.raises(RecordedTwiceError):
        submit(BLOCK, NETWORK.block(8, 1, Body((other,)), parent=place_of(BLOCK)))


def test_an_arrival_may_not_be_read_as_another_kind() -> None:
    """What a device signed is no receipt, nor a block, whatever its bytes."""
    arrival = Arrival(7, 0, 10, GRAPH)
    for kind in ("receipt", "countersigned", "sealed", "fraud", "void", "block"):
        message = hashlib.sha256(b"splitnet/" + kind.encode() + b"\0" + RULES.network + encode(arrival)).digest()
        assert sign_arrival(RULES, DEVICE, arrival) != DEVICE.sign(message)
