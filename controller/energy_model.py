"""What the analytic model says a slot's plan costs in energy: MODEL.md rows 2 and 13 [A].

A model and no reading: it is reported beside the meters under its own name, also where there are none. Decides
nothing; the solvers keep to the same formulas through C4 and C5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitnet.controller.slot import SlotPlan, SlotProblem, Vector, sums


@dataclass(frozen=True, slots=True, eq=False)
class ModelledEnergy:
    """Joules of one slot by the analytic model.

    Attributes:
        gateway_j: [gateways] e_m^G: bottoms and sending (row 2).
        inference_j: [APs] kappa_j sum_m b C_m f_m^2, the tops (first term of row 13).
        mining_j: [APs] kappa_j (f_j^bloc)^3 x mining time (its second term).
    """

    gateway_j: Vector
    inference_j: Vector
    mining_j: Vector

    @property
    def ap_j(self) -> Vector:
        """[APs] e_j^A (row 13)."""
        return self.inference_j + self.mining_j


def modelled_energy(problem: SlotProblem, plan: SlotPlan, mining_s: float | None = None) -> ModelledEnergy:
    """The energy of a plan in its slot.

    Args:
        mining_s: how long the APs mined; by default 1/Lambda, the mean (row 11). All mine until the race ends.

    Raises:
        ValueError: `mining_s` is below 0 or no number, or the plan is not for this slot's DTs.
    """
    network, frequencies = problem.network, plan.frequencies
    if len(plan.options) != len(network.tables):
        raise ValueError(f"a plan for {len(plan.options)} DTs does not fit a slot of {len(network.tables)}")
    mining_s = 1 / frequencies.block_rate if mining_s is None else mining_s
    if not 0 <= mining_s < np.inf:
        raise ValueError(f"mining_s must be at least 0 and finite, not {mining_s}")
    chosen = np.arange(len(plan.options)), np.asarray(plan.options, dtype=np.int64)
    gateways, aps = len(network.ap_of), len(network.max_hz)
    cycles = sums(network.gateway_of, problem.cycles[chosen], gateways)
    return ModelledEnergy(
        gateway_j=sums(network.gateway_of, problem.used_j[chosen], gateways),
        inference_j=network.kappa * sums(network.ap_of, cycles * frequencies.serving_hz**2, aps),
        mining_j=network.kappa * frequencies.mining_hz**3 * mining_s,
    )
