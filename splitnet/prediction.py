"""What the analytical model says of a slot's plan, by component, in the type of what is measured."""

from __future__ import annotations

import numpy as np

from splitnet.controller.slot import COLUMNS, Network, Observation, SlotPlan, sums
from splitnet.slot_record import SlotTimes


def predicted_times(network: Network, observation: Observation, plan: SlotPlan) -> SlotTimes:
    """Rows 1, 4, 6, 7 and 11 of MODEL.md for this plan, at the rates that were observed."""
    twins = np.arange(len(network.tables))
    costs = {
        name: sums(
            network.gateway_of,
            network.costs[place, twins, list(plan.options)] * observation.points,
            len(network.ap_of),
        )
        for place, name in enumerate(COLUMNS)
    }
    serving_hz = plan.frequencies.serving_hz
    works = costs["ap_cycles"] > 0
    return SlotTimes(
        gateway_s=costs["gateway_s"].tolist(),
        link_s=(costs["payload_bits"] / observation.rate_bps).tolist(),
        ap_s=np.where(works, costs["ap_cycles"] / np.where(works, serving_hz, 1.0), 0.0).tolist(),
        barrier_s=plan.frequencies.barrier_s,
        block_s=plan.frequencies.block_s,
    )
