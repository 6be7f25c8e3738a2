"""Receipts: connections, caps, models, and three signatures of which each covers those before it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from splitnet.consensus.errors import (
    CutOutOfRangeError,
    DataPointsError,
    NotConnectedError,
    ReceiptError,
    ResultDigestError,
    SignatureOfReceiptError,
    UnknownMemberError,
    UnknownModelError,
)
from splitnet.consensus.receipt import (
    Arrival,
    countersign,
    sign_arrival,
    sign_as_ap,
    top_flops,
    validate_receipt,
    validate_result,
    validate_signatures,
    value_digest,
)
from tests.consortium import GRAPH, OTHER_GRAPH, WEIGHTS, Consortium, a_key, a_registry, some_rules

CONSORTIUM = Consortium(some_rules())
RULES = CONSORTIUM.rules
GOOD = CONSORTIUM.receipt(3, 1)
replace = msgspec.structs.replace


def test_a_valid_receipt() -> None:
    validate_receipt(RULES, GOOD)
    assert GOOD.key == (3, 1)
    assert (GOOD.receipt.gateway, GOOD.receipt.ap) == (1, 1)


@pytest.mark.parametrize(("cut", "work"), [(0, 6500), (1, 3500), (2, 1500), (3, 500), (4, 500), (5, 0)])
def test_flops_are_derived(cut: int, work: int) -> None:
    """300, 200, 100, 0, 50 a data point; 10 data points."""
    receipt = CONSORTIUM.receipt(3, 1, cut=cut)
    validate_receipt(RULES, receipt)
    assert top_flops(RULES, receipt.receipt) == work


# --- signed by all whom it names, and wrong all the same

WRONG: dict[str, tuple[dict[str, Any], type[ReceiptError], str]] = {
    "an unknown gateway": ({"gateway": 2}, UnknownMemberError, "gateway 2 is not a member: there are 2"),
    "an unknown AP": ({"ap": 2}, UnknownMemberError, "AP 2 is not a member: there are 2"),
    "an AP far out of range": ({"ap": 2**62}, UnknownMemberError, "is not a member"),
    "another gateway": ({"gateway": 0}, NotConnectedError, "device 1 is on gateway 1, not on 0"),
    "another AP": ({"ap": 0}, NotConnectedError, "gateway 1 is on AP 1, not on 0"),
    "another gateway and its AP": ({"gateway": 0, "ap": 0}, NotConnectedError, "device 1 is on gateway 1"),
    "an unknown graph": (
        {"graph": bytes(32)},
        UnknownModelError,
        "the graph 000000000000 with the weights [0-9a-f]{12} is not the model of device 1",
    ),
    "another model of the registry": ({"graph": OTHER_GRAPH}, UnknownModelError, "is not the model of device 1"),
    "other weights": ({"weights": bytes(32)}, UnknownModelError, "the weights 000000000000 is not the model of"),
    "a cut beyond the last layer": ({"cut": 6}, CutOutOfRangeError, "cut 6 of a model with 5 layers"),
    "an unknown device": (
        {"arrival": Arrival(3, 4, 10, bytes(32))},
        UnknownMemberError,
        "device 4 is not a member: there are 4, counted from 0",
    ),
    "more than the cap": (
        {"arrival": Arrival(3, 1, 16, bytes(32))},
        DataPointsError,
        "16 data points of device 1: there may be 1 to 15",
    ),
    "no data": ({"arrival": Arrival(3, 1, 0, bytes(32))}, DataPointsError, "0 data points"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_signed_can_be_wrong(case: str) -> None:
    changes, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        validate_receipt(RULES, CONSORTIUM.signed(replace(GOOD.receipt, **changes)))


def test_each_device_has_its_own_cap() -> None:
    consortium = Consortium(some_rules(most_data_points=(1, 2, 3, 4)))
    for twin in range(4):
        validate_receipt(consortium.rules, consortium.receipt(0, twin, data_points=twin + 1))
        with pytest.raises(DataPointsError):
            validate_receipt(consortium.rules, consortium.receipt(0, twin, data_points=twin + 2))


# --- changed after it was signed

OTHER: dict[str, Any] = {
    "graph": OTHER_GRAPH,
    "weights": GRAPH,
    "cut": 1,
    "activation": bytes(32),
    "result": bytes(32),
}
"""Everything but the members, which have their own rules."""


@pytest.mark.parametrize("name", OTHER)
def test_the_ap_signs_every_field(name: str) -> None:
    changed = replace(GOOD.receipt, **{name: OTHER[name], "cut": 1})
    with pytest.raises(SignatureOfReceiptError, match="not signed by the AP ap-1"):
        validate_signatures(RULES, replace(GOOD, receipt=changed))


@pytest.mark.parametrize("change", [{"slot": 4}, {"data_points": 11}, {"batch": bytes(32)}, {"twin": 3}])
def test_the_device_signs_every_field(change: dict[str, Any]) -> None:
    """Gateway and AP together, signing anew all that they can, do not get by without the device's key."""
    receipt = replace(GOOD.receipt, arrival=replace(GOOD.receipt.arrival, **change))
    ap = sign_as_ap(RULES, a_key("ap", 1), receipt, GOOD.device_signature)
    forged = countersign(RULES, a_key("gateway", 1), receipt, GOOD.device_signature, ap)
    with pytest.raises(SignatureOfReceiptError, match="not signed by the device"):
        validate_receipt(RULES, forged)


def test_each_signature_covers_those_before_it() -> None:
    """A device that signs twice gives another receipt to the AP, and the AP to the gateway."""
    arrival = GOOD.receipt.arrival
    assert sign_arrival(RULES, a_key("device", 1), arrival) == GOOD.device_signature
    for name, role in (("device_signature", "device"), ("ap_signature", "AP"), ("gateway_signature", "gateway")):
        with pytest.raises(SignatureOfReceiptError, match=f"not signed by the {role}"):
            validate_receipt(RULES, replace(GOOD, **{name: bytes(64)}))
    other = CONSORTIUM.receipt(3, 1, cut=1)
    for name in ("ap_signature", "gateway_signature"):
        with pytest.raises(SignatureOfReceiptError):
            validate_receipt(RULES, replace(GOOD, **{name: getattr(other, name)}))


def test_a_receipt_of_another_network() -> None:
    """Same members, same keys, another parameter."""
    other = Consortium(some_rules(most_ahead_ms=5001))
    with pytest.raises(SignatureOfReceiptError, match="slot 3, device 1: not signed by the device device-1"):
        validate_receipt(RULES, other.receipt(3, 1))


# --- results


def test_the_result_is_the_one_that_was_signed() -> None:
    validate_result(GOOD.receipt, b"result")
    validate_result(GOOD.receipt, memoryview(b"result"))
    assert GOOD.receipt.result == value_digest(b"result")
    for result in (b"", b"Result", b"result\0", bytes(32)):
        with pytest.raises(ResultDigestError, match=f"slot 3, device 1: a result of {len(result)} bytes"):
            validate_result(GOOD.receipt, result)


def test_each_device_has_its_own_model() -> None:
    """Device 2 has the other model, of one layer of 7 FLOPs; no device may take another's."""
    registry = a_registry()
    ours, other = registry.number(GRAPH, WEIGHTS), registry.number(OTHER_GRAPH, WEIGHTS)
    consortium = Consortium(some_rules(models=(ours, ours, other, ours)))
    small = consortium.receipt(0, 2, cut=0, graph=OTHER_GRAPH)
    validate_receipt(consortium.rules, small)
    assert top_flops(consortium.rules, small.receipt) == 70
    with pytest.raises(CutOutOfRangeError, match="cut 2 of a model with 1 layers"):
        validate_receipt(consortium.rules, consortium.receipt(0, 2, cut=2, graph=OTHER_GRAPH))
    with pytest.raises(UnknownModelError):
        validate_receipt(consortium.rules, consortium.receipt(0, 2))
    with pytest.raises(UnknownModelError):
        validate_receipt(consortium.rules, consortium.receipt(0, 0, cut=0, graph=OTHER_GRAPH))


def test_flops_of_a_device_that_nobody_knows() -> None:
    with pytest.raises(UnknownMemberError, match="device 4 is not a member"):
        top_flops(RULES, replace(GOOD.receipt, arrival=Arrival(3, 4, 10, bytes(32))))
