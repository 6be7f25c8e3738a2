"""Receipts that are forged or claim more work, and the rule that stops each."""

from __future__ import annotations

import hashlib

import pytest

from splitnet.consensus.block import Block
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.errors import (
    CutOutOfRangeError,
    DataPointsError,
    EncodingError,
    NotConnectedError,
    ResultDigestError,
    ResultSizeError,
    SignatureOfReceiptError,
    UnknownMemberError,
    UnknownModelError,
)
from splitnet.consensus.receipt import validate_result
from splitnet.consensus.sizes import MOST_VALUE_BYTES
from tests.consensus import by_hand
from tests.consensus.adversaries import (
    AP,
    DEVICE,
    GATEWAY,
    GOOD,
    SISTER,
    Attack,
    bent,
    forged,
    replace,
    signed_by,
    submit_receipt,
    with_arrival,
    without_the_device,
)
from tests.consortium import OTHER_GRAPH, OTHER_WEIGHTS, a_key

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
    "AP: another DT's model after all have signed": Attack(
        lambda: submit_receipt(replace(GOOD, receipt=replace(GOOD.receipt, graph=OTHER_GRAPH, cut=0))),
        UnknownModelError,
    ),
    "AP, gateway and device: another DT's model": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, graph=OTHER_GRAPH, cut=0))), UnknownModelError
    ),
    "AP, gateway and device: weights that nobody else holds": Attack(
        lambda: submit_receipt(signed_by(replace(GOOD.receipt, weights=OTHER_WEIGHTS))), UnknownModelError
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
    "AP: a result that nobody would take": Attack(
        lambda: validate_result(GOOD.receipt, bytes(MOST_VALUE_BYTES + 1)), ResultSizeError
    ),
    # bytes
    "outsider: a receipt where a block belongs": Attack(lambda: decode(encode(GOOD), Block, 1 << 20), EncodingError),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    ATTACKS[name].is_refused()
