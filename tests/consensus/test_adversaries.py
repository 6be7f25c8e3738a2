"""The tables of attacks are whole, and what they attack is valid; forgeries that are no second anything."""

from __future__ import annotations

import hashlib

import pytest

from splitnet.consensus import errors
from splitnet.consensus.block import hash_of, signing_digest
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.difficulty import reputation_of
from splitnet.consensus.errors import BlockError, ReceiptError, RecordedTwiceError, SealSignatureError, WorkError
from splitnet.consensus.receipt import Arrival, sign_arrival, top_flops, validate_receipt
from tests.consensus import by_hand, test_attacks_on_audits, test_attacks_on_blocks, test_attacks_on_receipts
from tests.consensus.adversaries import (
    BLOCK,
    DEVICE,
    GOOD,
    NETWORK,
    OWN_WORK,
    RULES,
    SISTER,
    accusation,
    forged,
    place_of,
    planned,
    submit,
    voided,
    with_signature,
)
from tests.consortium import GRAPH, NOW_MS, Contents, a_key, trusting

TABLES = [table.ATTACKS for table in (test_attacks_on_receipts, test_attacks_on_blocks, test_attacks_on_audits)]


def test_what_is_attacked_is_valid() -> None:
    """Else the refusals would say nothing."""
    validate_receipt(RULES, GOOD)
    validate_receipt(SISTER.rules, SISTER.receipt(7, 0))
    assert submit(BLOCK, NETWORK.block(8, 1, parent=place_of(BLOCK))).head.height == 2
    assert len(submit(BLOCK, voided(1, 2))) == 2
    assert len(submit(planned(NETWORK.plan(7)))) == len(submit(planned(NETWORK.plan(7, {0: 0, 3: 0}), cut=0))) == 1
    assert submit(BLOCK, NETWORK.block(2**62, 0, parent=place_of(BLOCK))).head.place.slot == 2**62  # if it is planned
    assert len(submit(accusation(a_key("ap", 1), 1))) == 1
    assert OWN_WORK == reputation_of(RULES.genesis.mining, 2 * top_flops(RULES, GOOD.receipt)) == 300_000


def test_every_error_of_receipts_and_blocks_stops_some_attack() -> None:
    classes = {
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, ReceiptError | BlockError)
    }
    assert {attack.error for table in TABLES for attack in table.values()} >= classes - {ReceiptError, BlockError}
    assert len(classes) > 20


def test_a_whole_chain_of_another_network_is_refused() -> None:
    """Each block of it, at once or as an orphan, by its hash or its signature."""
    theirs, ours = Chain(SISTER.rules, trusting), Chain(RULES, trusting)
    for slot in range(20):
        block = SISTER.on(theirs, slot, slot % 3, Contents(SISTER.receipts(slot)))
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
        submit(BLOCK, NETWORK.block(8, 1, Contents((other,)), parent=place_of(BLOCK)))


def test_an_arrival_may_not_be_read_as_another_kind() -> None:
    """What a device signed is no receipt, nor a block, whatever its bytes."""
    arrival = Arrival(7, 0, 10, GRAPH)
    for kind in ("receipt", "countersigned", "sealed", "fraud", "void", "block"):
        message = hashlib.sha256(b"splitnet/" + kind.encode() + b"\0" + RULES.network + encode(arrival)).digest()
        assert sign_arrival(RULES, DEVICE, arrival) != DEVICE.sign(message)


def test_ties_say_nothing_about_reputation() -> None:
    """AP 0 at the cap of U = 1 and AP 1 at 0, a block each in 400 slots: by hash * gamma each wins about half.

    By the lower hash alone AP 0 would win e^-2 / 2 = 7% of them.
    """
    wins = 0
    for slot in range(400):
        work = tuple(NETWORK.receipt(slot, twin, cut=0) for twin in (0, 3))
        chain = submit(NETWORK.block(slot, 0, Contents(work)), NETWORK.block(slot, 1))
        assert len(chain) == 1
        wins += chain.head.header.miner == 0
    assert abs(wins - 200) <= 50  # five standard deviations
