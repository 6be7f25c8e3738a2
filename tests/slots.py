"""Small worlds for tests of the controller: networks, observations and problems in the ranges of MODEL.md section 4,
and policies in them.

The DNN is VGG-11 at 32x32 by hand: 11 weighted stages, 0.153 G multiply-adds, float32 across the link. Everything is
drawn from the seed alone.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from splitnet.controller.brute_force import brute_force
from splitnet.controller.policies import make_policy
from splitnet.controller.policy import Policy, Setting
from splitnet.controller.reputation import Reputation
from splitnet.controller.slot import Network, Observation, SlotPlan, SlotProblem, TwinTable, sums

GHZ = 1e9
KAPPA = 1e-28
GATEWAY_FLOPS_PER_CYCLE = 4
AP_FLOPS_PER_CYCLE = 8
SAMPLE = 5

# one row for each stage: multiply-adds, values that leave it (after its pooling)
STAGES = np.array(
    [
        (3 * 64 * 9 * 32**2, 64 * 16**2),
        (64 * 128 * 9 * 16**2, 128 * 8**2),
        (128 * 256 * 9 * 8**2, 256 * 8**2),
        (256 * 256 * 9 * 8**2, 256 * 4**2),
        (256 * 512 * 9 * 4**2, 512 * 4**2),
        (512 * 512 * 9 * 4**2, 512 * 2**2),
        (512 * 512 * 9 * 2**2, 512 * 2**2),
        (512 * 512 * 9 * 2**2, 512),
        (512 * 512, 512),
        (512 * 512, 512),
        (512 * 10, 0),
    ],
    dtype=float,
)


def a_table(gateway_hz: float, cuts: int = len(STAGES)) -> TwinTable:
    """The cuts 1..11, or that many of them at about equal steps, the first and the last included."""
    kept = np.unique(np.linspace(1, len(STAGES), cuts).round().astype(int))
    bottom = STAGES[:, 0].cumsum()[kept - 1]
    top = STAGES[:, 0].sum() - bottom
    cycles = bottom / GATEWAY_FLOPS_PER_CYCLE
    return TwinTable(
        cuts=tuple(kept.tolist()),
        gateway_s=cycles / gateway_hz,
        gateway_j=KAPPA * gateway_hz**2 * cycles,
        payload_bits=32 * STAGES[kept - 1, 1],
        ap_cycles=top / AP_FLOPS_PER_CYCLE,
        top_flops=top,
    )


def a_network(
    seed: int = 0, twins: int = 4, gateways: int = 2, aps: int = 2, cuts: int = len(STAGES), **changes: Any
) -> Network:
    """DTs spread evenly over gateways, and gateways over APs, in an order drawn from the seed."""
    chance = np.random.default_rng((seed, 1))
    gateway_hz = chance.uniform(0.8, 1.4, gateways) * GHZ
    gateway_of = chance.permutation(np.arange(twins) % gateways)
    values: dict[str, Any] = {
        "tables": tuple(a_table(gateway_hz[gateway], cuts) for gateway in gateway_of),
        "gateway_of": gateway_of,
        "ap_of": chance.permutation(np.arange(gateways) % aps),
        "send_w": np.full(gateways, 0.2),
        "max_hz": chance.uniform(3, 5, aps) * GHZ,
        "kappa": np.full(aps, KAPPA),
        "cycles_per_block": 8 * GHZ,
        "alpha": 2.0,
        "beta": 0.0,
        "reputation": Reputation(STAGES[:, 0].sum() * 10 * twins / aps),
    }
    return Network(**(values | changes))


def an_observation(network: Network, chance: np.random.Generator, **changes: Any) -> Observation:
    """D 5..15; 1.5 MHz, 0.2 W, -174 dBm/Hz, 20..150 m, Rayleigh fading; 0.7..1.2 J and 1.8..4.9 J."""
    gateways, aps = len(network.ap_of), len(network.max_hz)
    bandwidth_hz = 1.5e6
    loss_db = 128.1 + 37.6 * np.log10(chance.uniform(0.020, 0.150, gateways))
    received_w = 0.2 * 10 ** (-loss_db / 10) * chance.exponential(1.0, gateways)
    noise_w = 10 ** (-174 / 10) * 1e-3 * bandwidth_hz
    seen = Observation(
        points=chance.integers(5, 16, len(network.tables)).astype(float),
        rate_bps=bandwidth_hz * np.log2(1 + received_w / noise_w),
        gateway_energy_j=chance.uniform(0.7, 1.2, gateways),
        ap_energy_j=chance.uniform(1.8, 4.9, aps),
    )
    return replace(seen, **changes)


def observations(network: Network, seed: int, slots: int) -> tuple[Observation, ...]:
    chance = np.random.default_rng((seed, 2))
    return tuple(an_observation(network, chance) for _ in range(slots))


def a_setting(network: Network, **changes: Any) -> Setting:
    values: dict[str, Any] = {"network": network, "u_min": 0.1, "u_max": 0.3, "v": 16.0, "hash_cycles": 1000.0}
    return Setting(**(values | changes))


def a_policy(name: str, setting: Setting, **changes: Any) -> Policy:
    """With brute force for both solvers: what is tested here is what is asked of a solver, not the solver."""
    values: dict[str, Any] = {
        "seed": 7,
        "sample": observations(setting.network, 99, SAMPLE),
        "fair_gamma": 0.4,
        "solver": brute_force,
        "exact": brute_force,
    }
    return make_policy(name, setting, **(values | changes))


def random_problem(
    seed: int,
    twins: int = 4,
    gateways: int = 2,
    aps: int = 2,
    cuts: int = len(STAGES),
    v: float = 16.0,
    scarce: bool = False,
) -> SlotProblem:
    """A slot with weights of the size that queues settle at (within half of V, of either sign).

    Scarce: every gateway's budget lies between the least and the most that it could use, so that C4 binds; at 0.7 J
    it does not.
    """
    network = a_network(seed, twins, gateways, aps, cuts)
    chance = np.random.default_rng((seed, 3))
    problem = SlotProblem(network, an_observation(network, chance), v * chance.uniform(-0.5, 0.5, aps), v)
    if not scarce:
        return problem
    least_j = sums(network.gateway_of, problem.used_j.min(axis=1), gateways)
    most_j = sums(network.gateway_of, np.where(np.isfinite(problem.used_j), problem.used_j, 0).max(axis=1), gateways)
    budget_j = least_j + chance.random(gateways) * (most_j - least_j)
    return replace(problem, observation=replace(problem.observation, gateway_energy_j=budget_j))


def all_plans(problem: SlotProblem) -> list[SlotPlan]:
    """Every plan within C4."""
    plans = [problem.evaluate(options) for options in itertools.product(*map(range, problem.network.counts))]
    return [plan for plan in plans if plan.feasible]
