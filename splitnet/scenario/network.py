"""From a scenario's sections to the network and the world that the controller knows.

What is drawn once (frequencies, distances, …) comes from one stream for each key, named by it, under the scenario's
own seed: another key, or another count of the others, changes nothing in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.reputation import Reputation, Shape
from splitnet.controller.slot import Network, TwinTable
from splitnet.controller.world import Channel, Uniform, World, path_gain, stream
from splitnet.errors import SettingsError
from splitnet.scenario.dnn import DnnCosts
from splitnet.scenario.schema import ScenarioFile
from splitnet.scenario.values import Spread, connected

Vector = NDArray[np.float64]
Law = Callable[[float], float]

MOST_OPTIONS = 5_000_000
"""Devices times cuts: some 40 bytes each, several times over."""
LARGEST_EXPONENT = 300.0
"""Of the difficulty, alpha U + |beta|; from 700 on, it is no number any more."""


def build_network(file: ScenarioFile, dnns: Mapping[str, DnnCosts], where: str, g: Law | None = None) -> Network:
    """The network with everything drawn that is drawn once.

    Args:
        where: the scenario, for messages.
        g: a user's reputation in place of the file's: U of O/O^ref.

    Raises:
        SettingsError: too large, a difficulty beyond numbers, or a `g` that is negative, not finite, or falls.
    """
    options = sum(len(_dnn_of(file, dnns, device).cuts) for device in range(file.devices.count))
    if options > MOST_OPTIONS:
        raise SettingsError(
            f"{where}: devices.count = {file.devices.count} with all their cuts are {options} options, "
            f"over {MOST_OPTIONS}; take fewer devices, or fewer cuts by dnn.NAME.cuts"
        )
    gateway_of = connected(file.devices.gateway, file.devices.count, file.gateways.count)
    ap_of = connected(file.gateways.ap, file.gateways.count, file.aps.count)
    return Network(
        tables=_tables(file, dnns, gateway_of, ap_of),
        gateway_of=gateway_of,
        ap_of=ap_of,
        send_w=drawn(file, "gateways", "send_w"),
        max_hz=drawn(file, "aps", "max_hz"),
        kappa=drawn(file, "aps", "kappa"),
        cycles_per_block=file.mining.cycles_per_block,
        alpha=file.mining.alpha,
        beta=file.mining.beta,
        reputation=_reputation(file, _most_share(file, dnns, gateway_of, ap_of), where, g),
        propagation_s=file.mining.propagation_s,
        blocks=1.0 if file.mining.quantile is None else -math.log1p(-file.mining.quantile),
    )


def build_world(file: ScenarioFile) -> World:
    """What is drawn anew in every slot."""
    link, gateways = file.link, file.gateways.count
    rate: Channel | Uniform
    if link.rate_bps is not None:
        rate = _law(link.rate_bps, gateways)
    else:
        rate = Channel(
            bandwidth_hz=drawn(file, "link", "bandwidth_hz"),
            send_w=drawn(file, "gateways", "send_w"),
            gain=path_gain(drawn(file, "link", "distance_m"), link.path_loss_db, link.path_loss_slope_db),
            noise_w_per_hz=10 ** ((link.noise_dbm_per_hz - 30) / 10),
            fading=link.fading == "rayleigh",
        )
    return World(
        points=_law(file.devices.points, file.devices.count, whole=True),
        rate_bps=rate,
        gateway_energy_j=_law(file.gateways.energy_j, gateways),
        ap_energy_j=_law(file.aps.energy_j, file.aps.count),
    )


def _law(spread: Spread, count: int, whole: bool = False) -> Uniform:
    return Uniform(spread.low(count), spread.high(count), whole)


def drawn(file: ScenarioFile, section: str, key: str) -> Vector:
    """[entities] a key of gateways, APs or links, which are the gateways', as the scenario's seed draws it."""
    count = file.aps.count if section == "aps" else file.gateways.count
    spread: Spread = getattr(getattr(file, section), key)
    return spread.drawn(count, stream(file.scenario.seed, f"{section}.{key}"))


def _dnn_of(file: ScenarioFile, dnns: Mapping[str, DnnCosts], device: int) -> DnnCosts:
    names = file.devices.dnn
    return dnns[names[device % len(names)]]


def _speeds(file: ScenarioFile, section: str, measured: bool, hz: Vector) -> Vector:
    """[entities] what a DNN's base seconds are divided by: FLOP/s, or a speed relative to the profiled device's."""
    if not measured:
        return hz * drawn(file, section, "flops_per_cycle")
    profiled_hz = getattr(file, section).profiled_hz
    return np.ones(len(hz)) if profiled_hz is None else hz / profiled_hz


def _tables(
    file: ScenarioFile, dnns: Mapping[str, DnnCosts], gateway_of: NDArray[np.int64], ap_of: NDArray[np.int64]
) -> tuple[TwinTable, ...]:
    """One for each device; those of one DNN on one gateway are the same."""
    gateway_hz, ap_hz = drawn(file, "gateways", "frequency_hz"), drawn(file, "aps", "max_hz")
    gateway_w = drawn(file, "gateways", "kappa") * gateway_hz**3
    speeds = {
        kind: (_speeds(file, "gateways", kind, gateway_hz), _speeds(file, "aps", kind, ap_hz))
        for kind in {costs.measured for costs in dnns.values()}
    }
    made: dict[tuple[int, int], TwinTable] = {}
    tables = []
    for device, gateway in enumerate(gateway_of.tolist()):
        costs = _dnn_of(file, dnns, device)
        ap = int(ap_of[gateway])
        if (id(costs), gateway) not in made:
            at_gateway, at_ap = speeds[costs.measured]
            made[id(costs), gateway] = costs.table(
                float(at_gateway[gateway]), float(gateway_w[gateway]), float(at_ap[ap]), float(ap_hz[ap])
            )
        tables.append(made[id(costs), gateway])
    return tuple(tables)


def _most_share(
    file: ScenarioFile, dnns: Mapping[str, DnnCosts], gateway_of: NDArray[np.int64], ap_of: NDArray[np.int64]
) -> float:
    """The most O/O^ref that any AP can have in a slot."""
    flops = np.array([_dnn_of(file, dnns, device).flops for device in range(file.devices.count)])
    most = np.bincount(ap_of[gateway_of], flops * file.devices.points.high(file.devices.count))
    return float(most.max()) / file.reputation.reference_flops


def _reputation(file: ScenarioFile, most_share: float, where: str, g: Law | None) -> Reputation:
    section = file.reputation
    if g is not None:
        try:
            made = Reputation.through(g, section.reference_flops, max(most_share, 1.0))
        except ValueError as error:
            raise SettingsError(f"{where}: the reputation function is refused: {error}") from error
    elif section.knots is not None and section.values is not None:
        knots, values = np.array(section.knots, dtype=float), np.array(section.values, dtype=float)
        made = Reputation(section.reference_flops, Shape.KNOTS, knots, values)
    else:
        made = Reputation(section.reference_flops, Shape[section.shape.upper()])
    largest = made(most_share * section.reference_flops)
    exponent = file.mining.alpha * largest + abs(file.mining.beta)
    if exponent > LARGEST_EXPONENT:
        raise SettingsError(
            f"{where}: mining.alpha = {file.mining.alpha:g} with reputations up to {largest:.3g} gives a difficulty "
            f"of exp(-{exponent:.3g}), below exp(-{LARGEST_EXPONENT:g}); lower alpha, or raise "
            "reputation.reference_flops"
        )
    return made
