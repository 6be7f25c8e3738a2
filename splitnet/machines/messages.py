"""What the coordinator, devices, gateways and APs of a run say to each other. Tensors travel in bodies of frames.

Each request has one answer, in order. Instants are nanoseconds of this host's monotonic clock, which all of them
share: a run is played on one host.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from splitnet.runtime.speed import Use
from splitnet.runtime.transfers import Transfer
from splitnet.wire.specs import ValueSpec


class Said(msgspec.Struct, frozen=True, tag=True):
    """A message."""


# --- requests


class Greet(Said, frozen=True):
    """The first message of a connection."""

    token: str
    """Of the run, so that no other run's machine is taken for ours."""
    gateway: int | None = None
    """The gateway that speaks; None for the coordinator and for devices."""


class Join(Said, frozen=True):
    """Whom to connect with: to devices, all gateways; to a gateway, its AP; to an AP, the nodes of other APs.

    Attributes:
        gateways: to an AP: those that are on it, which keep activations for audits.
    """

    addresses: list[str]
    gateways: list[str] = []


class Calibrate(Said, frozen=True):
    """To gateways and APs, all at once: run every cut that is offered, at the machine's speed, as in a slot."""


class Arrive(Said, frozen=True):
    """To the devices: measure the world in this slot and bring your digital twins up to date."""

    slot: int
    points: list[int]
    """D_n(t)."""


class State(Said, frozen=True):
    """From a device to its digital twin: what it measured in this slot, in the body."""

    twin: int
    slot: int
    data_points: int
    measured_ns: int
    signature: bytes
    """Of slot, DT, number of data points and digest of the batch."""
    values: list[ValueSpec]


class Vary(Said, frozen=True):
    """To a gateway: from now on the link's rate follows this trace, whose time 0 is now."""

    starts_s: list[float]
    rates_bps: list[float]


class Observe(Said, frozen=True):
    """To a gateway: measure the link.

    Attributes:
        rate_bps: that it should have now.
        hold: from now on it has it; else a trace says what it has.
    """

    rate_bps: float
    hold: bool


class Measure(Said, frozen=True):
    """From a gateway to its AP: take this message's body, and say when it was there."""


class Follow(Said, frozen=True):
    """To gateways and APs: the signed plan of a slot."""

    plan: bytes


class Infer(Said, frozen=True):
    """To a gateway: run the slot's inferences by the plan that you have."""

    slot: int


class Activation(msgspec.Struct, frozen=True, array_like=True):
    """What one DT sends across the cut."""

    twin: int
    data_points: int
    batch: bytes
    """Digest of the input."""
    device_signature: bytes
    body_bytes: int
    """Of its values in the body, padding up to a multiple of 64 not counted."""
    values: list[ValueSpec]


class Upload(Said, frozen=True):
    """From a gateway to its AP: all that crosses the cuts of its DTs in a slot, in the body."""

    slot: int
    activations: list[Activation]


class Countersigned(Said, frozen=True):
    """From a gateway to its AP: the receipts of what it was answered."""

    receipts: list[bytes]


class Activations(Said, frozen=True):
    """To a gateway, from its AP on behalf of an audit: the canonical bytes of an activation by their digest."""

    digest: bytes


class Check(Said, frozen=True):
    """To a gateway: compare the last slot's results with the unsplit model's."""


class Mine(Said, frozen=True):
    """To an AP: the barrier has passed; mine the block of this slot, at the share that the plan gives it."""

    slot: int


class AwaitBlock(Said, frozen=True):
    """To an AP: tell when the slot has its block."""

    slot: int
    deadline_s: float


# --- answers


class Welcome(Said, frozen=True):
    """The answer to `Greet`."""

    name: str


class Done(Said, frozen=True):
    """It is done."""


class Failed(Said, frozen=True):
    """It cannot be done; one line."""

    reason: str


class CutCost(msgspec.Struct, frozen=True, array_like=True):
    """CPU time of one half on one machine, for a forward pass of the assignment's batch."""

    twin: int
    cut: int
    cpu_s: float


class Calibrated(Said, frozen=True):
    """Bottoms of a gateway, tops of an AP."""

    costs: list[CutCost]


class Observed(Said, frozen=True):
    """The transfer with which the link was measured."""

    transfer: Transfer


class Arrived(Said, frozen=True):
    """When the last byte of a message was there."""

    at_ns: int


class Results(Said, frozen=True):
    """From an AP: results of an `Upload`, in its order, in the body.

    Attributes:
        received_ns: the last byte of the activations was there.
        computed_ns: the last top had run.
        activations, results: digests of each, as canonical bytes.
        ap_signatures: of the receipts.
        use: of the gateway's lane.
    """

    received_ns: int
    computed_ns: int
    activations: list[bytes]
    results: list[bytes]
    ap_signatures: list[bytes]
    values: list[list[ValueSpec]]
    use: Use | None


class TwinRun(msgspec.Struct, frozen=True, array_like=True):
    """One DT in a slot.

    Attributes:
        age_s: how far it lagged its device when its inference began.
        cut: l_n.
    """

    twin: int
    data_points: int
    cut: int
    age_s: float


class Inferred(Said, frozen=True):
    """A gateway's part of a slot.

    Attributes:
        started_ns: the first bottom began.
        bottoms_ns: the last bottom had run.
        sent_ns: the upload began.
        received_ns, computed_ns: at the AP; `bottoms_ns` where nothing was sent.
        signed_ns: the receipts were at the AP.
        transfer: the upload; None where nothing was sent.
        bottom, top: of the gateway, and of its lane at the AP; None where nothing ran.
    """

    twins: list[TwinRun]
    started_ns: int
    bottoms_ns: int
    sent_ns: int
    received_ns: int
    computed_ns: int
    signed_ns: int
    transfer: Transfer | None
    bottom: Use | None
    top: Use | None


class Checked(Said, frozen=True):
    """Of how many results, how many have the unsplit model's bits; and the largest difference of the others."""

    results: int
    equal: int
    max_error: float


class Block(Said, frozen=True):
    """The head of an AP's chain when a slot had its block.

    Attributes:
        slot: of the head; another than was asked for where the deadline came first.
        reputation_micro, difficulty: of its miner.
        hashes, mining_s: what this AP spent on it.
        hash_rate: that it was asked for.
        dropped: peers that it dropped so far, with reasons.
    """

    slot: int
    height: int
    hash: bytes
    miner: int
    reputation_micro: int
    difficulty: int
    receipts: int
    hashes: int
    mining_s: float
    hash_rate: float
    dropped: list[tuple[str, str]]


class Kept(Said, frozen=True):
    """The answer to `Activations`: whether it is still there, in the body."""

    found: bool


Message: TypeAlias = (
    Greet
    | Join
    | Calibrate
    | Arrive
    | State
    | Vary
    | Observe
    | Measure
    | Follow
    | Infer
    | Upload
    | Countersigned
    | Activations
    | Check
    | Mine
    | AwaitBlock
    | Welcome
    | Calibrated
    | Done
    | Failed
    | Observed
    | Arrived
    | Results
    | Inferred
    | Checked
    | Block
    | Kept
)
