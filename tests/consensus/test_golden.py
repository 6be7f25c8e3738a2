"""Golden vectors: bytes, digests, signatures, reputation, difficulties, targets, a block hash. None may ever change.

`golden.json` was written from `by_hand.py`, which knows the formats from their descriptions alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from splitnet.consensus.block import Block, Body, Header, SealedHeader, hash_of, seal_of, sign_block
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.difficulty import Mining, difficulty_of, reputation_of, target_of
from splitnet.consensus.genesis import MILLION, Genesis, network_id
from splitnet.consensus.identity import sign
from splitnet.consensus.plan import CutPlan, SignedPlan, sign_plan
from splitnet.consensus.receipt import SignedReceipt, sign_arrival, sign_as_ap
from tests.consensus import by_hand
from tests.consensus.by_hand import digest, packed
from tests.consortium import FLOPS, STARTED_MS, Consortium, a_genesis, a_key, a_registry, some_rules

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
SLOT, TWINS, CUT, DATA_POINTS, TIME_MS, NONCE = 3, (0, 2), 2, 10, STARTED_MS + 1000, bytes(range(16))


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def seed(role: str, number: int = 0) -> bytes:
    return sha(f"{role} {number}".encode())


def vectors_by_hand() -> dict[str, str]:
    """Genesis, two receipts of AP 0 in slot 3, and the header of a block that holds them; all in hexadecimal."""
    member = {
        role: [(f"{role}-{n}", by_hand.ed25519_public(seed(role, n))) for n in range(count)]
        for role, count in (("gateway", 2), ("ap", 2), ("device", 4))
    }
    weights = sha(b"weights")
    models = sorted([(sha(b"graph"), weights, FLOPS), (sha(b"other graph"), weights, (7,))])
    number = [model[0] for model in models].index(sha(b"graph"))
    registry = packed([models])
    mining = (2_000_000, 0, 8, "linear", 10_000, 1_000_000)
    genesis = packed(
        [
            1,
            ("controller", by_hand.ed25519_public(seed("controller"))),
            member["gateway"],
            member["ap"],
            member["device"],
            (0, 1, 0, 1),
            (0, 1),
            (15, 15, 15, 15),
            (number,) * 4,
            mining,
            digest("registry", b"", registry),
            STARTED_MS,
            5000,
            4096,
            (0, 100, 100),
        ]
    )
    network = digest("genesis", b"", genesis)
    found = {"registry": registry, "genesis": genesis, "network": network}
    receipts = []
    for twin in TWINS:
        arrival = packed((SLOT, twin, DATA_POINTS, sha(f"{SLOT} {twin}".encode())))
        device = by_hand.ed25519_signature(seed("device", twin), digest("arrival", network, arrival))
        digests = sha(b"graph"), weights, sha(b"activation"), sha(b"result")
        receipt = b"\x98" + arrival + b"".join(map(packed, (0, 0, *digests[:2], CUT, *digests[2:])))
        ap = by_hand.ed25519_signature(seed("ap"), digest("receipt", network, receipt, device))
        countersigned = digest("countersigned", network, receipt, device, ap)
        gateway = by_hand.ed25519_signature(seed("gateway"), countersigned)
        receipts.append(b"\x94" + receipt + packed(device) + packed(ap) + packed(gateway))
        if twin == 0:
            found |= {"arrival": arrival, "device_signature": device, "ap_signature": ap}
    reputation = 2 * DATA_POINTS * sum(FLOPS[CUT:]) * 10**6 // 10_000
    gamma = by_hand.gamma(2_000_000, 0, reputation)
    target = (2**256 * 10**18 // (8 * gamma)).to_bytes(32)
    roots = by_hand.root(receipts), by_hand.root([])
    plan = packed((SLOT, (CUT,) * 4, (0, 0), (1_000_000, 1_000_000)))
    by_controller = by_hand.ed25519_signature(seed("controller"), digest("plan", network, plan))
    signed_plan = b"\x92" + plan + packed(by_controller)
    header = packed((network, 1, SLOT, 0, sha(b"\x00" + signed_plan), *roots, reputation, gamma, target, TIME_MS))
    seal = digest("block", network, header)
    block_hash = sha(seal + NONCE)
    signature = by_hand.ed25519_signature(seed("ap"), digest("sealed", network, block_hash))
    sealed = b"\x93" + header + packed(NONCE) + packed(signature)
    found |= {"receipt": receipts[0], "second_receipt": receipts[1], "header": header, "seal": seal}
    found |= {"plan": signed_plan}
    found |= {"hash": block_hash, "block_signature": signature}
    found |= {"block": b"\x92" + sealed + b"\x94" + signed_plan + b"\x92" + b"".join(receipts) + b"\x90\x90"}
    return {name: content.hex() for name, content in found.items()}


def vectors_by_code() -> dict[str, str]:
    rules = some_rules()
    consortium = Consortium(rules)
    first, second = (consortium.receipt(SLOT, twin, cut=CUT, data_points=DATA_POINTS) for twin in TWINS)
    plan = CutPlan(SLOT, (CUT,) * 4, (0, 0), (MILLION, MILLION))
    body = Body(sign_plan(rules, a_key("controller"), plan), (first, second))
    mining = rules.genesis.mining
    reputation = reputation_of(mining, 2 * DATA_POINTS * 150)
    gamma = difficulty_of(mining, reputation)
    roots = body.plan_digest(), body.receipts_root(), body.audits_root()
    target = target_of(mining, gamma).to_bytes(32)
    header = Header(rules.network, 1, SLOT, 0, *roots, reputation, gamma, target, TIME_MS)
    block = sign_block(rules, a_key("ap"), header, NONCE, body)
    found = {
        "registry": encode(a_registry()),
        "genesis": encode(a_genesis()),
        "network": network_id(a_genesis()),
        "arrival": encode(first.receipt.arrival),
        "device_signature": sign_arrival(rules, a_key("device"), first.receipt.arrival),
        "ap_signature": sign_as_ap(rules, a_key("ap"), first.receipt, first.device_signature),
        "receipt": encode(first),
        "second_receipt": encode(second),
        "plan": encode(body.plan),
        "header": encode(header),
        "seal": seal_of(rules, header),
        "hash": hash_of(rules, block.sealed),
        "block_signature": block.sealed.signature,
        "block": encode(block),
    }
    return {name: content.hex() for name, content in found.items()}


def test_bytes_digests_and_signatures_are_those_made_by_hand() -> None:
    assert vectors_by_hand() == GOLDEN["vectors"]


@pytest.mark.parametrize("name", sorted(GOLDEN["vectors"]))
def test_the_code_makes_the_golden_bytes(name: str) -> None:
    assert vectors_by_code()[name] == GOLDEN["vectors"][name]


def test_golden_bytes_decode() -> None:
    for kind, name in ((Genesis, "genesis"), (SignedReceipt, "receipt"), (SignedPlan, "plan"), (Block, "block")):
        content = bytes.fromhex(GOLDEN["vectors"][name])
        assert encode(decode(content, kind, 1 << 24)) == content
    assert isinstance(decode(bytes.fromhex(GOLDEN["vectors"]["block"]), Block, 1 << 24).sealed, SealedHeader)


@pytest.mark.parametrize("case", GOLDEN["reputations"], ids=lambda case: f"{case['reputation']}-{case['flops']}")
def test_reputations(case: dict[str, Any]) -> None:
    mining = Mining(0, 0, 1, case["reputation"], case["reference_flops"], case["most_micro"])
    assert reputation_of(mining, case["flops"]) == case["micro"]
    earned = (
        case["flops"] * 10**6 // case["reference_flops"]
        if case["reputation"] == "linear"
        else by_hand.logarithm_floor_micro(case["flops"], case["reference_flops"])
    )
    assert case["micro"] == min(earned, case["most_micro"])


@pytest.mark.parametrize("case", GOLDEN["targets"], ids=lambda case: str(case["reputation_micro"]))
def test_difficulties_and_targets(case: dict[str, Any]) -> None:
    mining = Mining(case["alpha_micro"], case["beta_micro"], case["hashes"], "linear", 1, 2**62)
    assert difficulty_of(mining, case["reputation_micro"]) == case["gamma"]
    assert target_of(mining, case["gamma"]) == int(case["target"], 16)
    assert case["gamma"] == by_hand.gamma(case["alpha_micro"], case["beta_micro"], case["reputation_micro"])
    assert int(case["target"], 16) == min(2**256 - 1, 2**256 * 10**18 // (case["hashes"] * case["gamma"]))


def test_signing_is_deterministic() -> None:
    assert sign(a_key("ap"), bytes(32)) == by_hand.ed25519_signature(seed("ap"), bytes(32))


def test_rfc_8032_first_vector() -> None:
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert by_hand.ed25519_public(secret).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert by_hand.ed25519_signature(secret, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
        "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
