"""A scenario as this host can play it: every machine a fraction of one core fast, with the times measured here.

The same scenario file serves `simulate` and `run`. For a run its models' tables come from profiles of this machine,
and its cycles are this machine's: a machine that is `speed` of one core fast at its frequency f does `f / speed`
cycles in a second of that core. H_0 is set so that a block takes the scenario's share of a slot at the hash rate of
this machine (MODEL.md rows 10 and 11). Pure: profiles and the hash rate of one core are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.online import solve_online
from splitnet.controller.policy import Setting
from splitnet.controller.slot import Network, Observation, SlotProblem
from splitnet.errors import SettingsError
from splitnet.scenario import Scenario, scenario_from
from splitnet.scenario.network import drawn

Vector = NDArray[np.float64]

AVERAGED_SLOTS = 100
"""Enough for a mean to some percent, which is all that is asked of H_0."""


@dataclass(frozen=True, eq=False)
class Emulation:
    """What the testbed plays.

    Attributes:
        scenario: with this machine's tables and cycles.
        gateway_speed: [gateways] fraction of one core.
        ap_speed: [APs] fraction of one core at f_j^max.
        core_hash_rate: hashes/s of one core.
        hashes: H_0.
        network: what the controller knows: the scenario's, with this machine's tables, calibrated or not.
    """

    scenario: Scenario
    gateway_speed: Vector
    ap_speed: Vector
    core_hash_rate: float
    hashes: int
    network: Network

    def setting(self, v: float | None = None) -> Setting:
        """What a policy is asked to do. Raises SettingsError for a V out of its range."""
        return replace(self.scenario.setting(v), network=self.network)

    def calibrated(self, gateway_factor: Vector, ap_factor: Vector) -> Emulation:
        """With every machine so many times slower than its profile says.

        Args:
            gateway_factor: [gateways] of the bottoms' seconds and energy.
            ap_factor: [APs] of the tops' cycles.
        """
        network = self.network
        tables = []
        for table, gateway in zip(network.tables, network.gateway_of, strict=True):
            slower = float(gateway_factor[gateway])
            tables.append(
                replace(
                    table,
                    gateway_s=table.gateway_s * slower,
                    gateway_j=table.gateway_j * slower,
                    ap_cycles=table.ap_cycles * float(ap_factor[network.ap_of[gateway]]),
                )
            )
        return replace(self, network=replace(network, tables=tuple(tables)))

    def profiled_s(self, twin: int) -> tuple[Vector, Vector]:
        """[cuts 0..L] seconds of bottom and top of a DT's model on one core, for the profile's batch."""
        names = self.scenario.file.devices.dnn
        base = self.scenario.dnns[names[twin % len(names)]].base
        return base.gateway_s, base.ap_s

    def hash_rates(self, mining_hz: Vector) -> Vector:
        """[APs] hashes/s at these f_j^bloc: f/c_h (row 10)."""
        return mining_hz / self.scenario.file.mining.cycles_per_hash


def check_models(scenario: Scenario) -> dict[str, str]:
    """The model of each of the scenario's DNNs; SettingsError where one is only a table."""
    models = {}
    for name, dnn in scenario.file.dnn.items():
        if dnn.model is None:
            raise SettingsError(
                f"{scenario.where}: dnn.{name} is a table of numbers, which cannot be run; "
                f"name a model (`splitnet models`), or use `splitnet simulate`"
            )
        models[name] = dnn.model
    return models


def usual_batch(scenario: Scenario) -> int:
    """Data points in one forward pass, as profiled: the middle of D_n over all devices."""
    points = scenario.world.points
    return max(1, round(float((points.low + points.high).mean() / 2)))


def emulate(scenario: Scenario, profiles: Mapping[str, Path], core_hash_rate: float) -> Emulation:
    """Play this scenario here.

    Args:
        profiles: of each DNN's model, taken on one core of this machine.
        core_hash_rate: hashes/s of one core.

    Raises:
        SettingsError: a profile that does not fit, or gateways that cannot afford an average slot at their speed.
    """
    testbed, content = scenario.file.testbed, scenario.content()
    for name, path in profiles.items():
        content["dnn"][name] |= {
            "latency": "measured",
            "gateway_profile": str(path.resolve()),
            "ap_profile": str(path.resolve()),
        }
    gateway_hz = drawn(scenario.file, "gateways", "frequency_hz")
    ap_hz = drawn(scenario.file, "aps", "max_hz")
    content["gateways"]["profiled_hz"] = float(gateway_hz.max() / testbed.gateway_speed)
    content["aps"]["profiled_hz"] = float(ap_hz.max() / testbed.ap_speed)
    cycles_per_hash = content["aps"]["profiled_hz"] / core_hash_rate
    content["mining"]["cycles_per_hash"] = cycles_per_hash
    played = scenario_from(content, scenario.where, scenario.folder)
    hashes = hashes_for_share(played, testbed.block_share)
    content["mining"]["cycles_per_block"] = hashes * cycles_per_hash
    whole = scenario_from(content, scenario.where, scenario.folder)
    return Emulation(
        scenario=whole,
        gateway_speed=gateway_hz / content["gateways"]["profiled_hz"],
        ap_speed=ap_hz / content["aps"]["profiled_hz"],
        core_hash_rate=core_hash_rate,
        hashes=hashes,
        network=whole.network,
    )


def hashes_for_share(scenario: Scenario, share: float) -> int:
    """H_0 with which a block takes this share of an average slot: all APs at f^max, U in the middle of C6's range.

    The rest of the slot is the barrier of the latency-only plan for average arrivals, rates and energies.
    """
    network, c6 = scenario.network, scenario.file.c6
    problem = SlotProblem(network, average_observation(scenario), np.zeros(len(network.max_hz)), 1.0)
    try:
        barrier_s = solve_online(problem).plan.frequencies.barrier_s
    except SettingsError as error:
        raise SettingsError(
            f"{scenario.where}: as this host plays it, in an average slot, {error}, or raise testbed.gateway_speed "
            f"({scenario.file.testbed.gateway_speed:g}): a slower gateway takes more energy for the same work"
        ) from error
    block_s = barrier_s * share / (1 - share)
    difficulty = float(network.difficulty(np.array((c6.u_min + c6.u_max) / 2)))
    hash_rate = float(network.max_hz.sum()) / scenario.file.mining.cycles_per_hash
    return max(1, math.ceil(block_s * hash_rate / difficulty / network.blocks))


def average_observation(scenario: Scenario) -> Observation:
    """The middle of what a slot brings; of a fading channel, over the first slots of seed 0."""
    seen = list(scenario.world.observations(0, AVERAGED_SLOTS))
    return Observation(
        points=np.mean([one.points for one in seen], axis=0),
        rate_bps=np.mean([one.rate_bps for one in seen], axis=0),
        gateway_energy_j=np.mean([one.gateway_energy_j for one in seen], axis=0),
        ap_energy_j=np.mean([one.ap_energy_j for one in seen], axis=0),
    )
