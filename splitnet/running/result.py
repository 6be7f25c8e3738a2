"""What came of a run, computed from the lines of its slots when they are read.

Decides the figures and their names. How each part is told from the records is in `components.py`. Latencies are
without the constant tau^prop, of which nothing happens on one host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splitnet.chains import Agreement, Outcome
from splitnet.controller.simulation import BATCHES, half_width
from splitnet.errors import SettingsError
from splitnet.running.components import (
    Achieved,
    Component,
    Energy,
    components,
    energy,
    hash_rates_achieved,
    links_achieved,
    noise_floor,
    speeds_achieved,
)
from splitnet.running.folder import Manifest
from splitnet.slot_record import SlotRecord


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that was played, or as much of it as there is.

    Attributes:
        scenario, policy: by name.
        asked_slots: T.
        slots: that were played and recorded.
        lost_slots: that have a block and no record.
        mean_latency_s, predicted_latency_s: means of tau without tau^prop.
        ci95: half of the measured mean's 95% confidence interval, from batches of slots.
        mape: of the inference part, the barrier Theta: mean of |predicted - measured| / measured over the slots.
        noise_floor: how far repeats of the same half lie apart; None where there were too few.
        components: `gateway`, `link`, `ap`, `barrier`, `block`.
        links, speeds, hash_rates: achieved over asked.
        energy: of a slot, modelled and metered.
        mean_reputation: [APs] of U_j.
        u_min, u_max: the limits of C6.
        c6_violation: max_j max(mean U_j - U^max, U^min - mean U_j, 0).
        mean_queue: mean over slots of sum_j Z_j^+ + Z_j^-.
        hashes_per_block: mean over slots of what all APs computed for a block.
        predicted_hashes_per_block: the expected ones: f_j^bloc / c_h over the expected block time.
        gamma: gamma_0 where consensus makes no use of reputation.
        chain_height: of the longest chain; of records where no store could be read.
        chains: the verification of each AP's store.
        agreement: of the clean ones; None where there is none.
        results, equal: results, and how many have the unsplit model's bits.
        max_error: the largest difference of the others.
        mean_age_s, max_age_s: how far DTs lagged their devices; None where nothing arrived.
        mean_exchange_s: from the barrier until all receipts were at the APs.
        mean_slot_s: of the whole slot, with what the model leaves out.
        infeasible_slots: without a feasible plan.
        dropped: peers that APs dropped, with reasons.
        complete: every slot was played.
    """

    scenario: str
    policy: str
    asked_slots: int
    slots: int
    lost_slots: int
    mean_latency_s: float
    predicted_latency_s: float
    ci95: float | None
    mape: float | None
    noise_floor: float | None
    components: dict[str, Component]
    links: list[Achieved]
    speeds: list[Achieved]
    hash_rates: list[Achieved]
    energy: Energy
    mean_reputation: list[float]
    u_min: float
    u_max: float
    c6_violation: float
    mean_queue: float
    hashes_per_block: float
    predicted_hashes_per_block: float
    gamma: float | None
    chain_height: int
    chains: list[Outcome]
    agreement: Agreement | None
    results: int
    equal: int
    max_error: float
    mean_age_s: float | None
    max_age_s: float | None
    mean_exchange_s: float
    mean_slot_s: float
    infeasible_slots: int
    dropped: list[tuple[str, str]]
    complete: bool
    run_dir: Path

    @property
    def verified(self) -> bool:
        """Every AP's chain holds, and all are the same as far as they go."""
        clean = bool(self.chains) and all(one.verified is not None for one in self.chains)
        return clean and self.agreement is not None and not self.agreement.parted and self.agreement.networks == 1

    def to_dict(self) -> dict[str, Any]:
        """As `splitnet run --json` prints it."""
        return {
            "slots": self.slots,
            "mean_latency_s": self.mean_latency_s,
            "predicted_latency_s": self.predicted_latency_s,
            "mape": self.mape,
            "noise_floor": self.noise_floor,
            "components": {name: asdict(one) for name, one in self.components.items()},
            "mean_reputation": self.mean_reputation,
            "c6_violation": self.c6_violation,
            "hashes_per_block": self.hashes_per_block,
            "chain_height": self.chain_height,
            "equal_results": self.equal == self.results,
            "run_dir": str(self.run_dir),
            "scenario": self.scenario,
            "policy": self.policy,
            "complete": self.complete,
            "asked_slots": self.asked_slots,
            "lost_slots": self.lost_slots,
            "infeasible_slots": self.infeasible_slots,
            "ci95": self.ci95,
            "c6": {"u_min": self.u_min, "u_max": self.u_max},
            "mean_queue": self.mean_queue,
            "gamma": self.gamma,
            "predicted_hashes_per_block": self.predicted_hashes_per_block,
            "results": {
                "count": self.results,
                "equal": self.equal,
                "max_error": self.max_error if np.isfinite(self.max_error) else str(self.max_error),
            },
            "achieved": {
                "links": [asdict(one) for one in self.links],
                "speeds": [asdict(one) for one in self.speeds],
                "hash_rates": [asdict(one) for one in self.hash_rates],
            },
            "energy": asdict(self.energy),
            "age_s": {"mean": self.mean_age_s, "max": self.max_age_s},
            "mean_exchange_s": self.mean_exchange_s,
            "mean_slot_s": self.mean_slot_s,
            "verified": self.verified,
            "chains": [one.to_dict() for one in self.chains],
            "dropped": [list(one) for one in self.dropped],
        }


@dataclass(frozen=True, slots=True)
class Topology:
    """Who is connected with whom: `gateway_of` each DT, `ap_of` each gateway."""

    gateway_of: Sequence[int]
    ap_of: Sequence[int]


def run_result(
    manifest: Manifest,
    topology: Topology,
    records: Sequence[SlotRecord],
    lost: int,
    chains: Sequence[Outcome],
    agreement: Agreement | None,
    run_dir: Path,
) -> RunResult:
    """The figures.

    Args:
        lost: slots that have a block and no record.

    Raises:
        SettingsError: no slot was played.
    """
    if not records:
        raise SettingsError(f"{run_dir} is a run of which no slot was played; go on with it by --resume {run_dir}")
    played, parts = manifest.emulation, components(records)
    latency_s = np.array([one.measured.latency_s for one in records])
    reputation = np.mean([one.reputation for one in records], axis=0)
    ages = [twin.age_s for one in records for twin in one.twins if twin.age_s is not None]
    expected = [one.predicted.block_s * sum(ap.asked_hash_rate for ap in one.mined) for one in records]
    heights = [one.verified.height for one in chains if one.verified is not None]
    return RunResult(
        scenario=manifest.scenario,
        policy=manifest.settings.policy,
        asked_slots=manifest.settings.slots,
        slots=len(records),
        lost_slots=lost,
        mean_latency_s=float(latency_s.mean()),
        predicted_latency_s=float(np.mean([one.predicted.latency_s for one in records])),
        ci95=half_width(np.array([part.mean() for part in np.array_split(latency_s, min(BATCHES, len(records)))])),
        mape=parts["barrier"].mape,
        noise_floor=noise_floor(records, topology.gateway_of, topology.ap_of),
        components=parts,
        links=links_achieved(records),
        speeds=speeds_achieved(records, topology.ap_of),
        hash_rates=hash_rates_achieved(records),
        energy=energy(records),
        mean_reputation=reputation.tolist(),
        u_min=played.u_min,
        u_max=played.u_max,
        c6_violation=max(0.0, float((reputation - played.u_max).max()), float((played.u_min - reputation).max())),
        mean_queue=float(np.mean([sum(one.queue) for one in records])),
        hashes_per_block=float(np.mean([sum(ap.hashes for ap in one.mined) for one in records])),
        predicted_hashes_per_block=float(np.mean(expected)),
        gamma=played.gamma,
        chain_height=max(heights, default=max(ap.height for ap in records[-1].mined)),
        chains=list(chains),
        agreement=agreement,
        results=sum(one.results for one in records),
        equal=sum(one.equal for one in records),
        max_error=max(one.max_error for one in records),
        mean_age_s=float(np.mean(ages)) if ages else None,
        max_age_s=max(ages) if ages else None,
        mean_exchange_s=float(np.mean([one.exchange_s for one in records])),
        mean_slot_s=float(np.mean([one.slot_s for one in records])),
        infeasible_slots=sum(one.infeasible is not None for one in records),
        dropped=sorted({found for one in records for found in one.dropped}),
        complete=len(records) + lost >= manifest.settings.slots,
        run_dir=run_dir,
    )
