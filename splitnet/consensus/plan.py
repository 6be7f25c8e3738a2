"""A slot's plan as the controller signs it: cuts and frequencies. Gateways and APs follow no other word.

The block of a slot holds its plan, so a slot exists only by the controller's word, and what counts as work in it is
what was planned. The controller may sign two plans for one slot; either makes a block valid.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.canonical import Number, Record, Signature, check_encodable, decode, digest_of, encode
from splitnet.consensus.errors import PlanError
from splitnet.consensus.genesis import MILLION, MOST_MEMBERS, OfEach, Rules
from splitnet.consensus.identity import holds, sign

MOST_PLAN_BYTES = 1 << 20
"""Of a signed plan, encoded."""

Millionths = Annotated[int, msgspec.Meta(ge=0, le=MILLION)]
Shares: TypeAlias = Annotated[tuple[Millionths, ...], msgspec.Meta(max_length=MOST_MEMBERS)]


class CutPlan(Record, frozen=True):
    """What is decided for a slot.

    Attributes:
        slot: t.
        cuts: l_n, the cut of each DT; numbers of cuts of its model's graph.
        shares: rho_m = f_m^A / f_j^max of each gateway's lane on its AP, in millionths.
        mining_shares: f_j^bloc / f_j^max of each AP, in millionths.
    """

    slot: Number
    cuts: OfEach
    shares: Shares
    mining_shares: Shares


class SignedPlan(Record, frozen=True):
    """A plan with the controller's signature."""

    plan: CutPlan
    signature: Signature


def sign_plan(rules: Rules, key: Ed25519PrivateKey, plan: CutPlan) -> SignedPlan:
    """The controller's word.

    Raises:
        PlanError, EncodingError: the plan does not fit the members, or is out of its ranges.
    """
    check_encodable(plan)
    validate_plan_shape(rules, plan)
    return SignedPlan(plan, sign(key, _digest(rules, plan)))


def read_plan(rules: Rules, data: bytes) -> CutPlan:
    """The plan in these bytes.

    Raises:
        PlanError, EncodingError: not signed by the controller of this network, or not fit for its members.
    """
    signed = decode(data, SignedPlan, MOST_PLAN_BYTES)
    validate_plan(rules, signed)
    return signed.plan


def validate_plan(rules: Rules, signed: SignedPlan) -> None:
    """The controller's word, fit for the members. Raises PlanError."""
    controller = rules.genesis.controller
    if not holds(controller.public_key, _digest(rules, signed.plan), signed.signature):
        raise PlanError(f"the plan of slot {signed.plan.slot} is not signed by {controller.name}, the controller")
    validate_plan_shape(rules, signed.plan)


def validate_plan_shape(rules: Rules, plan: CutPlan) -> None:
    """A cut of each DT's model; shares of each gateway that its AP has (C2); a mining share for each AP (C3)."""
    genesis = rules.genesis
    for what, count, members in (
        ("cuts", len(plan.cuts), len(genesis.devices)),
        ("shares", len(plan.shares), len(genesis.gateways)),
        ("mining shares", len(plan.mining_shares), len(genesis.aps)),
    ):
        if count != members:
            raise PlanError(f"a plan with {count} {what} for {members} members")
    for twin, (cut, model) in enumerate(zip(plan.cuts, rules.models, strict=True)):
        if cut > model.last_cut:
            raise PlanError(f"a plan with cut {cut} for device {twin}, whose model has {model.last_cut} layers")
    given = [0] * len(genesis.aps)
    for share, ap in zip(plan.shares, genesis.ap_of, strict=True):
        given[ap] += share
    for member, shares in zip(genesis.aps, given, strict=True):
        if shares > MILLION:
            raise PlanError(f"the shares on {member.name} add up to {shares / MILLION} of its speed, at most 1")


def _digest(rules: Rules, plan: CutPlan) -> bytes:
    return digest_of("plan", rules.network, encode(plan))
