"""The slots that `solvers` are judged on, drawn from seeds alone.

Knows the ranges, not the solvers. Weights w_j are as DPRA's queues leave them: of the size of V times a price of C6,
up to V, of either sign, none at all, or the same at every AP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.frequency import Serving
from splitnet.controller.slot import SlotProblem, sums
from splitnet.scenario import Scenario, load_scenario, scenario_from
from tests.slots import a_network, an_observation

Vector = NDArray[np.float64]

GHZ = 1e9
KAPPA = 1e-28
SHAPES = {"M=2, J=2": (2, 2), "M=6, J=3": (6, 3), "M=12, J=4": (12, 4), "M=50, J=10": (50, 10)}
"""Gateways and APs of the well-scaled slots; those of the scenarios `small`, `default` and `large` are among them."""
REAL = "of `default`"
WEIGHTS = ("mixed", "positive", "negative", "zero", "alike")
DRIFT = 0.2
"""How far a weight moves from slot to slot, about as far as U_j - U^max."""


def well_scaled(chance: np.random.Generator, gateways: int, aps: int) -> Serving:
    """Up to a second and a Gcycle for each gateway, every fifth without top work; from half to thrice the energy of
    the default scenario, so that C5 binds in some and not in others; every second at the 95% quantile of row 11."""
    return Serving(
        ready_s=chance.uniform(0.1, 1.0, gateways),
        cycles=chance.uniform(0, 1, gateways) * (chance.random(gateways) < 0.8) * GHZ,
        ap_of=np.arange(gateways) % aps,
        max_hz=chance.uniform(3, 5, aps) * GHZ,
        kappa=np.full(aps, KAPPA),
        energy_j=chance.uniform(1.8, 4.9, aps) * chance.choice([0.5, 1.0, 3.0]),
        cycles_per_block=8 * GHZ * chance.uniform(0.2, 1.0, aps),
        blocks=float(chance.choice([1.0, -math.log(0.05)])),
    )


def servings_of_default(chance: np.random.Generator) -> Iterator[Serving]:
    """Without end: slots of the default scenario, each with cuts at random."""
    scenario = load_scenario("default")
    for observation in scenario.world.observations(int(chance.integers(2**31)), 10**9):
        problem = SlotProblem(scenario.network, observation, np.zeros(len(scenario.network.max_hz)), scenario.v)
        yield serving_of(problem, chance.integers(0, scenario.network.counts))


def serving_of(problem: SlotProblem, options: NDArray[np.int64]) -> Serving:
    """What the APs have to do when the DTs take these options."""
    network = problem.network
    chosen = np.arange(len(options)), options
    of_gateways = [
        sums(network.gateway_of, column[chosen], len(network.ap_of))
        for column in (problem.ready_s, problem.cycles, problem.flops)
    ]
    earned = network.reputation(sums(network.ap_of, of_gateways[2], len(network.max_hz)))
    return Serving(
        ready_s=of_gateways[0],
        cycles=of_gateways[1],
        ap_of=network.ap_of,
        max_hz=network.max_hz,
        kappa=network.kappa,
        energy_j=problem.observation.ap_energy_j,
        cycles_per_block=network.cycles_per_block * network.difficulty(earned),
        blocks=network.blocks,
    )


def _some(chance: np.random.Generator, aps: int) -> NDArray[np.bool_]:
    """At least one of them."""
    chosen = chance.random(aps) < 0.5
    chosen[chance.integers(aps)] = True
    return chosen


def _scaled(serving: Serving, factor: float) -> Serving:
    """In another unit of time: the answer is `factor` times as long."""
    return replace(
        serving,
        ready_s=serving.ready_s * factor,
        cycles=serving.cycles * factor,
        energy_j=serving.energy_j * factor,
        cycles_per_block=serving.cycles_per_block * factor,
    )


Spoil = Callable[[np.random.Generator, Serving], Serving]
DEGENERATE: dict[str, Spoil] = {
    "some gateways without top work": lambda chance, serving: replace(
        serving, cycles=serving.cycles * ~_some(chance, len(serving.cycles))
    ),
    "the last gateway without top work": lambda chance, serving: replace(
        serving, cycles=np.where(serving.ready_s == serving.ready_s.max(), 0, serving.cycles)
    ),
    "no gateway with top work": lambda chance, serving: replace(serving, cycles=0 * serving.cycles),
    "equal times": lambda chance, serving: replace(serving, ready_s=np.full_like(serving.ready_s, 0.5)),
    "APs without gateways": lambda chance, serving: replace(serving, ap_of=np.zeros_like(serving.ap_of)),
    "no gateways": lambda chance, serving: replace(
        serving, ready_s=serving.ready_s[:0], cycles=serving.cycles[:0], ap_of=serving.ap_of[:0]
    ),
    "hardly any energy at some APs": lambda chance, serving: replace(
        serving,
        energy_j=np.where(_some(chance, len(serving.energy_j)), 10 ** chance.uniform(-9, -3), serving.energy_j),
    ),
    "hardly any energy": lambda chance, serving: replace(
        serving, energy_j=serving.energy_j * 10 ** chance.uniform(-9, -3)
    ),
    "energy for everything": lambda chance, serving: replace(serving, energy_j=serving.energy_j * 1e6),
    "a few cycles of work": lambda chance, serving: replace(
        serving, cycles=np.where(_some(chance, len(serving.cycles)), serving.cycles * 1e-9, serving.cycles)
    ),
    "blocks hard for some APs": lambda chance, serving: replace(
        serving, cycles_per_block=serving.cycles_per_block * 10 ** chance.uniform(0, 9, len(serving.energy_j))
    ),
    "blocks for nothing": lambda chance, serving: replace(serving, cycles_per_block=serving.cycles_per_block * 1e-9),
    "microseconds": lambda chance, serving: _scaled(serving, 1e-6),
    "days": lambda chance, serving: _scaled(serving, 1e5),
}


def weights(chance: np.random.Generator, kind: str, aps: int, v: float) -> Vector:
    """[APs] w_j of one of `WEIGHTS`."""
    least, most = {"mixed": (-1, 1), "positive": (0, 1), "negative": (-1, 0), "zero": (0, 0), "alike": (-1, 1)}[kind]
    return v * np.resize(chance.uniform(least, most, 1 if kind == "alike" else aps), aps)


def small_problem(seed: int) -> SlotProblem:
    """At most four DTs with at most four cuts, on at most as many gateways, on at most as many APs."""
    chance = np.random.default_rng((seed, 4))
    twins = int(chance.integers(1, 5))
    gateways = int(chance.integers(1, twins + 1))
    aps = int(chance.integers(1, gateways + 1))
    network = a_network(seed, twins, gateways, aps, cuts=int(chance.integers(2, 5)))
    v = float(chance.choice([1.0, 16.0, 256.0]))
    return SlotProblem(
        network, an_observation(network, chance), weights(chance, WEIGHTS[seed % len(WEIGHTS)], aps, v), v
    )


def consecutive_slots(scenario: Scenario, seed: int, count: int) -> Iterator[SlotProblem]:
    """A world's first slots, from weights of one kind on, which then drift."""
    chance = np.random.default_rng((seed, 5))
    aps = len(scenario.network.max_hz)
    drawn = weights(chance, WEIGHTS[seed % len(WEIGHTS)], aps, scenario.v)
    for observation in scenario.world.observations(seed, count):
        yield SlotProblem(scenario.network, observation, drawn, scenario.v)
        drawn = drawn + chance.normal(0, DRIFT, aps)


def default_with_places(seed: int) -> Scenario:
    """The default scenario with other devices, distances and speeds."""
    content = load_scenario("default").content()
    content["scenario"]["seed"] = seed
    return scenario_from(content, f"default, seed {seed}")


def grown_problem(seed: int, twins: int, gateways: int, aps: int) -> SlotProblem:
    """Any number of devices; budgets grow with the devices at a gateway and at an AP."""
    network = a_network(seed, twins, gateways, aps)
    chance = np.random.default_rng((seed, 6))
    seen = an_observation(network, chance)
    seen = replace(
        seen,
        gateway_energy_j=seen.gateway_energy_j * twins / gateways / 2,
        ap_energy_j=seen.ap_energy_j * twins / aps / 4,
    )
    return SlotProblem(network, seen, weights(chance, WEIGHTS[seed % len(WEIGHTS)], aps, 16.0), 16.0)
