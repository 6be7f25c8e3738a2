"""What the analytical model says of a slot's plan, by component, in the types of what is kept of a slot."""

from __future__ import annotations

import numpy as np

from splitnet.controller.energy_model import modelled_energy
from splitnet.controller.slot import COLUMNS, Network, Observation, SlotPlan, SlotProblem, sums
from splitnet.slot_record import Reading, SlotEnergy, SlotTimes


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


def slot_energy(
    network: Network, observation: Observation, plan: SlotPlan, mining_s: float, metered: list[Reading]
) -> SlotEnergy:
    """Rows 2 and 13 of MODEL.md for this plan beside what meters said.

    Args:
        mining_s: for which the APs mined.
    """
    problem = SlotProblem(network, observation, np.zeros(len(network.max_hz)), 1.0)  # queues and V play no part
    modelled = modelled_energy(problem, plan, mining_s)
    return SlotEnergy(modelled.gateway_j.tolist(), modelled.inference_j.tolist(), modelled.mining_j.tolist(), metered)
