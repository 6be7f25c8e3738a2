"""Genesis blocks that contradict themselves; every field is part of the network's id."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import FraudProof, Void, Vote
from splitnet.consensus.block import Block, Body, Header, SealedHeader
from splitnet.consensus.canonical import MOST, decode, encode
from splitnet.consensus.errors import ConsensusError, EncodingError, GenesisError
from splitnet.consensus.genesis import MILLION, Audit, Genesis, Member, Rules, network_id
from splitnet.consensus.identity import public_bytes
from splitnet.consensus.plan import CutPlan, SignedPlan
from splitnet.consensus.receipt import Arrival, Receipt, SignedReceipt
from splitnet.consensus.registry import ModelFlops, Registry
from splitnet.consensus.sizes import largest_block
from tests.consensus import by_hand
from tests.consortium import (
    FLOPS,
    GRAPH,
    MINING,
    OTHER_GRAPH,
    OTHER_WEIGHTS,
    WEIGHTS,
    a_genesis,
    a_key,
    a_registry,
    some_rules,
)

AP = Member("ap-0", public_bytes(a_key("ap")))
replace = msgspec.structs.replace


def test_a_genesis_block_that_holds() -> None:
    rules = some_rules(devices=5, gateways=3, aps=2)
    rules.genesis.check()
    assert rules.network == network_id(rules.genesis)
    assert [member.name for member in rules.genesis.members][:2] == ["controller", "gateway-0"]
    assert len(rules.genesis.members) == 11
    assert decode(encode(rules.genesis), Genesis, 1 << 22) == rules.genesis


WRONG: dict[str, tuple[dict[str, Any], type[ConsensusError], str]] = {
    "another version": ({"version": 2}, GenesisError, "of version 2, this is 1"),
    "no AP": ({"aps": ()}, GenesisError, "0 aps: there must be 1 to 10000"),
    "no gateway": ({"gateways": ()}, GenesisError, "0 gateways"),
    "no device": ({"devices": ()}, GenesisError, "0 devices"),
    "too many APs": ({"aps": (AP,) * 10_001}, GenesisError, "10001 aps"),
    "a device without gateway": ({"gateway_of": (0, 1, 0)}, GenesisError, "gateway_of has 3 entries for 4 members"),
    "a gateway without AP": ({"ap_of": (0,)}, GenesisError, "ap_of has 1 entries for 2 members"),
    "an unknown gateway": ({"gateway_of": (0, 1, 0, 2)}, GenesisError, "gateway_of names number 2, there are 2"),
    "an unknown AP": ({"ap_of": (0, 7)}, GenesisError, "ap_of names number 7"),
    "caps for fewer devices": ({"most_data_points": (15,)}, GenesisError, "1 caps on data points for 4 devices"),
    "models for more devices": ({"models": (0,) * 5}, GenesisError, "5 models for 4 devices"),
    "an unknown model": (
        {"models": (0, 1, 2, 0)},
        GenesisError,
        "models names number 2, the registry has 2, counted",
    ),
    "more receipts than fit": (
        {"most_receipts": 39_475},
        GenesisError,
        "receipts would have 16777[0-9]* bytes, over",
    ),
    "more receipts than ever fit": ({"most_receipts": 39_476}, EncodingError, "<= 39475"),
    "a cap of no data points": ({"most_data_points": (15, 15, 0, 15)}, EncodingError, ">= 1"),
    "one name twice": (
        {"controller": Member("ap-1", public_bytes(a_key("controller")))},
        GenesisError,
        "2 members have the name ap-1",
    ),
    "one key in two roles": ({"controller": Member("boss", AP.public_key)}, GenesisError, "have the public key"),
    "a name with a line break": (
        {"controller": Member("controller\n", public_bytes(a_key("controller")))},
        EncodingError,
        "regex",
    ),
    "a name that is empty": ({"controller": Member("", public_bytes(a_key("controller")))}, EncodingError, "length"),
    "a key of 31 bytes": ({"controller": Member("controller", bytes(31))}, EncodingError, "length"),
    "a key of order 1": (
        {"controller": Member("controller", by_hand.point_bytes(by_hand.NEUTRAL))},
        GenesisError,
        "anybody could sign with the public key of controller",
    ),
    "a key of order 4": ({"controller": Member("controller", bytes(32))}, GenesisError, "anybody could sign"),
    "a key in a second form": (
        {"controller": Member("controller", (by_hand.PRIME + 3).to_bytes(32, "little"))},
        GenesisError,
        "anybody could sign",
    ),
    "next to no difficulty": ({"mining": replace(MINING, most_micro=11_000_000)}, GenesisError, "lower the cap"),
    "an unknown g": ({"mining": replace(MINING, reputation="square")}, EncodingError, "square"),
    "H_0 of 0": ({"mining": replace(MINING, hashes=0)}, EncodingError, ">= 1"),
    "O^ref of 0": ({"mining": replace(MINING, reference_flops=0)}, EncodingError, ">= 1"),
    "alpha below 0": ({"mining": replace(MINING, alpha_micro=-1)}, EncodingError, ">= 0"),
    "a share above 1": ({"audit": Audit(share_millionths=1_000_001)}, EncodingError, "<= 1000000"),
    "a start before 1970": ({"started_ms": -1}, EncodingError, ">= 0"),
    "another registry": ({"registry": bytes(32)}, GenesisError, "not the one that the genesis block commits to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_contradictions_are_refused(case: str) -> None:
    changes, error, message = WRONG[case]
    with pytest.raises(error, match=message) as caught:
        Rules(replace(a_genesis(), **changes), a_registry())
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


CHANGES: dict[str, Any] = {
    "version": 2,
    "controller": Member("boss", public_bytes(a_key("controller"))),
    "gateways": a_genesis(gateways=3).gateways,
    "aps": a_genesis(aps=3).aps,
    "devices": a_genesis().devices[::-1],
    "gateway_of": (1, 0, 1, 0),
    "ap_of": (1, 0),
    "most_data_points": (15, 15, 15, 16),
    "models": (0, 0, 1, 0),
    "mining": replace(MINING, beta_micro=1),
    "registry": bytes(32),
    "started_ms": 1,
    "most_ahead_ms": 5001,
    "most_receipts": 4097,
    "audit": Audit(share_millionths=1),
}


def test_every_field_is_part_of_the_networks_id() -> None:
    genesis = a_genesis()
    assert set(CHANGES) == {field.name for field in msgspec.structs.fields(Genesis)}
    networks = [network_id(replace(genesis, **{name: value})) for name, value in CHANGES.items()]
    assert len({network_id(genesis), *networks}) == 1 + len(CHANGES)


# --- the largest block


def largest_of(devices: int, gateways: int, aps: int, receipts: int, audited: bool) -> int:
    """Bytes of a body, and of a header, in which every number is as large as it may be, encoded."""
    most, digest, signature = MOST, bytes(32), bytes(64)
    arrival = Arrival(most, most, most, digest)
    signed = SignedReceipt(Receipt(arrival, most, most, digest, digest, most, digest, digest), *[signature] * 3)
    plan = CutPlan(most, (most,) * devices, (MILLION,) * gateways, (MILLION,) * aps)
    frauds = (FraudProof(signed, most, signature),) * (256 * audited)
    voids = (Void(signed, (Vote(most, signature),) * (aps - 1)),) * (256 * audited)
    header = Header(digest, most, most, most, digest, digest, digest, most, most, digest, most)
    body = Body(SignedPlan(plan, signature), (signed,) * receipts, frauds, voids)
    return len(encode(Block(SealedHeader(header, bytes(16), signature), body)))


@pytest.mark.parametrize("shape", [(70_000, 70_000, 70_000, 70_000, False), (70_000, 66_000, 65_537, 65_536, False)])
def test_the_largest_block_is_as_large_as_said(shape: tuple[int, int, int, int, bool]) -> None:
    """Beyond 65,535 entries a list's head has 5 bytes; what is shorter is less than 2 bytes a list smaller."""
    lists = 2 if shape[4] else 4
    assert largest_block(*shape) - lists * 4 <= largest_of(*shape) <= largest_block(*shape)


@pytest.mark.parametrize("shape", [(4, 2, 2, 4096, False), (4, 2, 5, 100, True), (500, 9, 20, 1, True)])
def test_no_block_is_larger_than_said(shape: tuple[int, int, int, int, bool]) -> None:
    said = largest_block(*shape)
    heads = 6 * 4 + 256 * 4 * shape[4]
    assert said - heads <= largest_of(*shape) <= said


def test_audits_by_many_aps_take_their_room() -> None:
    """A void may have a vote of every other AP, of 76 bytes each; 256 of them fill a block by some 700 APs."""
    many = {"aps": 700, "gateways": 700, "devices": 700}
    some_rules(**many)
    with pytest.raises(GenesisError, match="lower most_receipts, or take fewer APs where there are audits"):
        some_rules(**many, audit=Audit(share_millionths=1), most_receipts=8000)
    some_rules(**many, audit=Audit(share_millionths=1), most_receipts=1000)


# --- the registry


def two_weights() -> list[ModelFlops]:
    """One graph with two sets of weights: two models, in their order."""
    return [ModelFlops(GRAPH, weights, FLOPS) for weights in sorted((WEIGHTS, OTHER_WEIGHTS))]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((ModelFlops(GRAPH, WEIGHTS, FLOPS), ModelFlops(GRAPH, WEIGHTS, (7,))), "twice or out of order"),
        (tuple(reversed(two_weights())), "twice or out of order"),
        (tuple(reversed(a_registry().models)), "twice or out of order"),
        ((ModelFlops(GRAPH, WEIGHTS, ()),), "no layers"),
    ],
)
def test_a_registry_that_contradicts_itself(models: tuple[ModelFlops, ...], message: str) -> None:
    registry = Registry(models)
    with pytest.raises(GenesisError, match=message):
        Rules(a_genesis(registry=registry.digest()), registry)


def test_flops_of_the_top() -> None:
    """300, 200, 100, 0, 50: what is left after each cut, for 3 data points."""
    rules = Rules(a_genesis(models=(a_registry().number(OTHER_GRAPH, WEIGHTS), 0, 0, 0)), a_registry())
    model = a_registry().models[a_registry().number(GRAPH, WEIGHTS)]
    assert [model.top(cut, 3) for cut in range(6)] == [1950, 1050, 450, 150, 150, 0]
    assert rules.models[0].top(0, 1) == 7
    assert [one.last_cut for one in (model, rules.models[0])] == [5, 1]


def test_every_number_of_the_registry_is_committed_to() -> None:
    digests = {
        Registry((ModelFlops(graph, weights, flops),)).digest()
        for graph, weights, flops in (
            (GRAPH, WEIGHTS, FLOPS),
            (OTHER_GRAPH, WEIGHTS, FLOPS),
            (GRAPH, OTHER_WEIGHTS, FLOPS),
            (GRAPH, WEIGHTS, FLOPS[:-1]),
            (GRAPH, WEIGHTS, (*FLOPS[:-1], 51)),
        )
    }
    assert len(digests) == 5
