"""Inference receipts: who ran which inference, on what, with what result, signed by all three who took part.

The device signs how many data points there were and the digest of the batch, so that an AP cannot inflate its work;
the AP signs the result; the gateway countersigns, so that it cannot deny it. A receipt is known by its slot and DT:
there is one inference of a DT in a slot.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.canonical import Digest, Number, Positive, Record, Signature, digest_of, encode
from splitnet.consensus.errors import (
    CutOutOfRangeError,
    DataPointsError,
    NotConnectedError,
    ResultDigestError,
    ResultSizeError,
    SignatureOfReceiptError,
    UnknownMemberError,
    UnknownModelError,
)
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import holds, sign
from splitnet.consensus.sizes import MOST_VALUE_BYTES

MOST_RECEIPT_BYTES = 1024
"""Of a signed receipt, encoded: more than the largest that the rules allow."""
MOST_TRAVELLING_BYTES = 64 * 1024
"""Results up to this size travel with their receipt; others are fetched by their digest."""

ReceiptKey: TypeAlias = tuple[int, int]
"""Slot and DT: one receipt each."""


class Arrival(Record, frozen=True):
    """What arrived at a DT in a slot; the device's word.

    Attributes:
        slot: t.
        twin: n, the number of the device and of its digital twin in the genesis block.
        data_points: D_n(t).
        batch: digest of the input batch.
    """

    slot: Number
    twin: Number
    data_points: Positive
    batch: Digest


class Receipt(Record, frozen=True):
    """One split inference.

    Attributes:
        arrival: what went in.
        gateway, ap: m and j, numbers in the genesis block.
        graph, weights: fingerprints of the model.
        cut: l_n; layers after it ran on the AP.
        activation: digest of what crossed the link.
        result: digest of what came out.
    """

    arrival: Arrival
    gateway: Number
    ap: Number
    graph: Digest
    weights: Digest
    cut: Number
    activation: Digest
    result: Digest


class SignedReceipt(Record, frozen=True):
    """A receipt with its three signatures; each covers those before it."""

    receipt: Receipt
    device_signature: Signature
    ap_signature: Signature
    gateway_signature: Signature

    @property
    def key(self) -> ReceiptKey:
        return self.receipt.arrival.slot, self.receipt.arrival.twin


def sign_arrival(rules: Rules, key: Ed25519PrivateKey, arrival: Arrival) -> bytes:
    """The device's signature."""
    return sign(key, _arrival_digest(rules, arrival))


def sign_as_ap(rules: Rules, key: Ed25519PrivateKey, receipt: Receipt, device_signature: bytes) -> bytes:
    """The AP's signature, when the result is there."""
    return sign(key, _receipt_digest(rules, receipt, device_signature))


def countersign(
    rules: Rules, key: Ed25519PrivateKey, receipt: Receipt, device_signature: bytes, ap_signature: bytes
) -> SignedReceipt:
    """The whole receipt, with the gateway's signature."""
    signature = sign(key, _countersign_digest(rules, receipt, device_signature, ap_signature))
    return SignedReceipt(receipt, device_signature, ap_signature, signature)


def value_digest(value: bytes | memoryview) -> bytes:
    """[32] of a batch, an activation or a result, as bytes."""
    return hashlib.sha256(value).digest()


def validate_receipt(rules: Rules, signed: SignedReceipt) -> None:
    """Everything about one receipt that does not depend on a chain. Raises ReceiptError."""
    validate_members(rules, signed.receipt)
    validate_data_points(rules, signed.receipt.arrival)
    top_flops(rules, signed.receipt)
    validate_signatures(rules, signed)


def validate_members(rules: Rules, receipt: Receipt) -> None:
    """Members that exist and are connected."""
    genesis, arrival = rules.genesis, receipt.arrival
    for role, number, members in (
        ("device", arrival.twin, genesis.devices),
        ("gateway", receipt.gateway, genesis.gateways),
        ("AP", receipt.ap, genesis.aps),
    ):
        if number >= len(members):
            raise UnknownMemberError(f"{role} {number} is not a member: there are {len(members)}, counted from 0")
    if genesis.gateway_of[arrival.twin] != receipt.gateway:
        raise NotConnectedError(
            f"device {arrival.twin} is on gateway {genesis.gateway_of[arrival.twin]}, not on {receipt.gateway}"
        )
    if genesis.ap_of[receipt.gateway] != receipt.ap:
        raise NotConnectedError(
            f"gateway {receipt.gateway} is on AP {genesis.ap_of[receipt.gateway]}, not on {receipt.ap}"
        )


def validate_data_points(rules: Rules, arrival: Arrival) -> None:
    """D_n within its cap."""
    most = rules.genesis.most_data_points[arrival.twin]
    if not 1 <= arrival.data_points <= most:
        raise DataPointsError(f"{arrival.data_points} data points of device {arrival.twin}: there may be 1 to {most}")


def validate_arrival(rules: Rules, arrival: Arrival, signature: bytes) -> None:
    """What a gateway checks before it takes a device's state over. Raises ReceiptError."""
    if arrival.twin >= len(rules.genesis.devices):
        raise UnknownMemberError(f"device {arrival.twin} is not a member: there are {len(rules.genesis.devices)}")
    validate_data_points(rules, arrival)
    device = rules.genesis.devices[arrival.twin]
    if not holds(device.public_key, _arrival_digest(rules, arrival), signature):
        raise SignatureOfReceiptError(
            f"slot {arrival.slot}, device {arrival.twin}: not signed by the device {device.name}"
        )


def top_flops(rules: Rules, receipt: Receipt) -> int:
    """W of this inference, derived from the registry and never read from the receipt.

    Raises:
        UnknownMemberError: no such device.
        UnknownModelError, CutOutOfRangeError
    """
    twin = receipt.arrival.twin
    if twin >= len(rules.models):
        raise UnknownMemberError(f"device {twin} is not a member: there are {len(rules.models)}, counted from 0")
    model = rules.models[twin]
    if (receipt.graph, receipt.weights) != model.key:
        raise UnknownModelError(
            f"the graph {receipt.graph.hex()[:12]} with the weights {receipt.weights.hex()[:12]} is not the model of "
            f"device {twin}, {model.graph.hex()[:12]} with {model.weights.hex()[:12]}"
        )
    if receipt.cut > model.last_cut:
        raise CutOutOfRangeError(f"cut {receipt.cut} of a model with {model.last_cut} layers")
    return model.top(receipt.cut, receipt.arrival.data_points)


def validate_signatures(rules: Rules, signed: SignedReceipt) -> None:
    """Device, AP and gateway, each by the key of its number in its role."""
    receipt, genesis = signed.receipt, rules.genesis
    for role, member, digest, signature in (
        (
            "device",
            genesis.devices[receipt.arrival.twin],
            _arrival_digest(rules, receipt.arrival),
            signed.device_signature,
        ),
        (
            "AP",
            genesis.aps[receipt.ap],
            _receipt_digest(rules, receipt, signed.device_signature),
            signed.ap_signature,
        ),
        (
            "gateway",
            genesis.gateways[receipt.gateway],
            _countersign_digest(rules, receipt, signed.device_signature, signed.ap_signature),
            signed.gateway_signature,
        ),
    ):
        if not holds(member.public_key, digest, signature):
            raise SignatureOfReceiptError(
                f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}: not signed by the {role} {member.name}"
            )


def validate_result(receipt: Receipt, result: bytes | memoryview) -> None:
    """The result is the one that was signed, and may be sent. Raises ResultDigestError, ResultSizeError."""
    if len(result) > MOST_VALUE_BYTES:
        raise ResultSizeError(
            f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}: a result of {len(result)} bytes is over "
            f"the limit of {MOST_VALUE_BYTES}; use fewer data points"
        )
    if value_digest(result) != receipt.result:
        raise ResultDigestError(
            f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}: a result of {len(result)} bytes "
            f"does not have the digest that was signed"
        )


def _arrival_digest(rules: Rules, arrival: Arrival) -> bytes:
    return digest_of("arrival", rules.network, encode(arrival))


def _receipt_digest(rules: Rules, receipt: Receipt, device_signature: bytes) -> bytes:
    return digest_of("receipt", rules.network, encode(receipt), device_signature)


def _countersign_digest(rules: Rules, receipt: Receipt, device_signature: bytes, ap_signature: bytes) -> bytes:
    return digest_of("countersigned", rules.network, encode(receipt), device_signature, ap_signature)
