"""What a run keeps of each slot: what was predicted and what was measured, in the same type, side by side.

A line of JSON each. Statistics are made when they are read (`report/run.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from splitnet.runtime.speed import Use
from splitnet.runtime.transfers import Transfer


class SlotTimes(msgspec.Struct, frozen=True):
    """Where a slot's latency goes, predicted or measured.

    Attributes:
        gateway_s, link_s, ap_s: [gateways] bottoms, upload and tops of each (MODEL.md rows 1, 4 and 6).
        barrier_s: Theta (row 7); measured from the first bottom to the last top, so what lies between is in it.
        block_s: until a block was found: expected, or measured by the AP that found it (row 11).
    """

    gateway_s: list[float]
    link_s: list[float]
    ap_s: list[float]
    barrier_s: float
    block_s: float

    @property
    def latency_s(self) -> float:
        """tau without the constant tau^prop (row 12)."""
        return self.barrier_s + self.block_s


class Twin(msgspec.Struct, frozen=True):
    """One DT in a slot.

    Attributes:
        data_points: D_n.
        cut: l_n.
        age_s: how far it lagged its device when its inference began; None where nothing had arrived.
    """

    data_points: int
    cut: int
    age_s: float | None


class Mined(msgspec.Struct, frozen=True):
    """The slot's block, as one AP saw it, and what that AP did for it.

    Attributes:
        asked_hash_rate: hashes/s.
    """

    height: int
    hash: str
    miner: int
    receipts: int
    hashes: int
    mining_s: float
    asked_hash_rate: float


class Reading(msgspec.Struct, frozen=True):
    """What a meter of the host counted in a slot: all that its chip did, not one emulated machine alone.

    Attributes:
        device: `cpu` or `cuda:0`.
        meter: its name; None where the device has none.
        used_j: None without a meter, or where it did not move.
    """

    device: str
    meter: str | None
    used_j: float | None


class SlotEnergy(msgspec.Struct, frozen=True):
    """Joules of a slot, by the analytic model and by meters, which are never mixed.

    Attributes:
        gateway_j: [gateways] modelled: bottoms and sending (MODEL.md row 2).
        inference_j, mining_j: [APs] modelled: the terms of row 13, for as long as was mined.
        metered: by device of the host.
    """

    gateway_j: list[float]
    inference_j: list[float]
    mining_j: list[float]
    metered: list[Reading]


class SlotRecord(msgspec.Struct, frozen=True):
    """One slot of a run.

    Attributes:
        slot: t, from 0.
        asked_bps, rate_bps: [gateways] R_m as the world has it, and as it was measured.
        plan: one line for people.
        predicted, measured: times.
        exchange_s: from the barrier to the moment when all receipts were at the APs.
        slot_s: the whole slot by the coordinator's clock, with what the model leaves out.
        results, equal: results of the slot, and how many have the unsplit model's bits.
        max_error: of the others.
        uploads: [gateways] None where nothing crossed.
        bottoms, tops: [gateways] work at a machine's speed, asked and achieved.
        mined: [APs]
        energy: modelled and metered.
        reputation: [APs] U_j of the receipts that the APs signed.
        queue: [APs] Z_j^+ + Z_j^- after the slot.
        infeasible: why there was no feasible plan; None where there was.
        state: the policy's, after the slot: where a resumed run goes on.
        dropped: peers that APs dropped, with reasons, if any.
        slowness: [gateways, then APs] with which it was predicted: time beside that of the machine's profile.
    """

    slot: int
    twins: list[Twin]
    asked_bps: list[float]
    rate_bps: list[float]
    plan: str
    predicted: SlotTimes
    measured: SlotTimes
    exchange_s: float
    slot_s: float
    results: int
    equal: int
    max_error: float
    uploads: list[Transfer | None]
    bottoms: list[Use | None]
    tops: list[Use | None]
    mined: list[Mined]
    energy: SlotEnergy
    reputation: list[float]
    queue: list[float]
    infeasible: str | None
    state: dict[str, Any]
    dropped: list[tuple[str, str]]
    slowness: list[float]
