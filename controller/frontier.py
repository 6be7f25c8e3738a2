"""What each gateway and each AP can choose from in a slot: sums over their DTs, less what cannot or need not be
chosen.

MODEL.md section 2b. A gateway's options are the combinations of its DTs' cuts that C4 allows; of those with equal top
work W only the ones that no other beats in readiness T and cycles C are kept. They depend neither on the barrier nor
on the queues. Where a gateway has too many DTs to list the combinations, its options are the points along the lower
hull of (W, T), where one DT changes its cut at a time. An AP's choices are the combinations of its gateways' options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.hulls import hull_sums
from splitnet.controller.slot import TOLERANCE, SlotProblem

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_COMBINATIONS = 20_000
"""Of a gateway's DTs' cuts, that are still listed."""
SAME = 1e-12
"""Relative: amounts of work nearer than this are equal, whatever the order they were added in."""
ENERGY_SHARES = (0.0, 0.3, 0.6, 0.9, 1.0)
"""Weights of energy against readiness along which a large gateway's hulls are taken, so that C4 finds its points."""
HULL_OPTIONS = 192
"""That a gateway has at most where its DTs are too many to list their combinations."""


@dataclass(frozen=True, slots=True, eq=False)
class GatewayOptions:
    """What one gateway can do in a slot, by rising W.

    Attributes:
        ready_s, cycles, flops: [options] T_m, C_m and W_m.
        picks: [options, own DTs] option of each of the gateway's DTs.
        twins: [own DTs] which DTs these are.
        complete: whether nothing that could be better was left out.
    """

    ready_s: Vector
    cycles: Vector
    flops: Vector
    picks: NDArray[np.int16]
    twins: Indices
    complete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    """The options of all gateways, side by side and by AP; arrays are padded with 0.

    Attributes:
        options: of every gateway.
        gateways: [APs, gateways of an AP] which these are; -1 where an AP has fewer.
        counts: [APs, gateways of an AP] number of options; 0 where an AP has fewer.
        ready_s, cycles, flops: [APs, gateways of an AP, options].
    """

    options: tuple[GatewayOptions, ...]
    gateways: Indices
    counts: Indices
    ready_s: NDArray[np.float64]
    cycles: NDArray[np.float64]
    flops: NDArray[np.float64]

    @property
    def complete(self) -> bool:
        return all(options.complete for options in self.options)

    def combinations(self) -> float:
        """The most that one AP has."""
        return float(np.maximum(self.counts, 1).prod(axis=1, dtype=np.float64).max())

    def twin_options(self, plan: NDArray[np.integer]) -> Indices:
        """[DTs] the option of each DT, of [APs, gateways of an AP] the option of each gateway."""
        twins = np.zeros(sum(len(options.twins) for options in self.options), dtype=np.int64)
        for ap, row in enumerate(self.gateways):
            for place, gateway in enumerate(row):
                if gateway >= 0:
                    options = self.options[gateway]
                    twins[options.twins] = options.picks[plan[ap, place]]
        return twins


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """All combinations of every AP's gateways' options, AP after AP.

    Attributes:
        starts: [APs + 1] where each AP's rows begin.
        picks: [choices, gateways of an AP] option of each; 0 where an AP has fewer gateways.
        earned: [choices] U_j.
        worth: [choices] w_j U_j.
        easiness: [choices] 1 / (H gamma_j), blocks per cycle.
    """

    starts: Indices
    picks: NDArray[np.int32]
    earned: Vector
    worth: Vector
    easiness: Vector


def frontier(problem: SlotProblem, most_options: int | None = None) -> Frontier:
    """The options of all gateways, at most so many of each; the caller has asked `SlotProblem.check`."""
    network = problem.network
    options = tuple(
        _options(problem, np.flatnonzero(network.gateway_of == gateway), float(budget_j), most_options)
        for gateway, budget_j in enumerate(problem.observation.gateway_energy_j)
    )
    own = [np.flatnonzero(network.ap_of == ap) for ap in range(len(network.max_hz))]
    shape = len(own), max(map(len, own)), max(len(of.flops) for of in options)
    gateways, counts = np.full(shape[:2], -1, dtype=np.int64), np.zeros(shape[:2], dtype=np.int64)
    ready_s, cycles, flops = np.zeros((3, *shape))
    for ap, members in enumerate(own):
        gateways[ap, : len(members)] = members
        for place, gateway in enumerate(members):
            of = options[gateway]
            count = counts[ap, place] = len(of.flops)
            ready_s[ap, place, :count], cycles[ap, place, :count] = of.ready_s, of.cycles
            flops[ap, place, :count] = of.flops
    return Frontier(options, gateways, counts, ready_s, cycles, flops)


def list_choices(problem: SlotProblem, of: Frontier) -> Choices:
    """The choices of every AP; there are `Frontier.combinations` of them or fewer for each."""
    network = problem.network
    picks, earned, worth = [], [], []
    for ap, members in enumerate(of.gateways):
        flops = np.zeros(1)
        counts = of.counts[ap][members >= 0]
        for place, count in enumerate(counts):
            flops = np.add.outer(flops, of.flops[ap, place, :count]).ravel()
        rows = np.zeros((len(flops), len(members)), dtype=np.int32)
        if len(counts):
            rows[:, : len(counts)] = np.stack(np.unravel_index(np.arange(len(flops)), tuple(counts)), axis=1)
        picks.append(rows)
        earned.append(np.asarray(network.reputation(flops)))
        worth.append(problem.weights[ap] * earned[-1])
    all_earned = np.concatenate(earned)
    return Choices(
        starts=np.cumsum([0, *map(len, picks)], dtype=np.int64),
        picks=np.concatenate(picks),
        earned=all_earned,
        worth=np.concatenate(worth),
        easiness=1 / (network.cycles_per_block * network.difficulty(all_earned)),
    )


def _options(problem: SlotProblem, twins: Indices, budget_j: float, most_options: int | None) -> GatewayOptions:
    counts = problem.network.counts[twins]
    columns = problem.ready_s[twins], problem.used_j[twins], problem.cycles[twins], problem.flops[twins]
    budget_j *= 1 + TOLERANCE
    if np.log(counts).sum() > math.log(MOST_COMBINATIONS):
        return _along_hulls(columns, twins, counts, budget_j)
    ready_s, used_j, cycles, flops = np.zeros((4, 1))
    for own, count in enumerate(counts):
        ready_s, used_j, cycles, flops = (
            np.add.outer(total, column[own, :count]).ravel()
            for total, column in zip((ready_s, used_j, cycles, flops), columns, strict=True)
        )
    kept = np.flatnonzero(used_j <= budget_j)
    complete = most_options is None or len(kept) <= most_options
    if most_options is not None and len(kept) > most_options:
        kept = kept[_first_ready(ready_s[kept], flops[kept], most_options)]
    else:
        kept = kept[_undominated(ready_s[kept], cycles[kept], flops[kept])]
    picks = np.zeros((len(kept), len(twins)), dtype=np.int16)
    if len(twins):
        picks[:] = np.stack(np.unravel_index(kept, tuple(counts)), axis=1)
    return GatewayOptions(ready_s[kept], cycles[kept], flops[kept], picks, twins, complete)


def _undominated(ready_s: Vector, cycles: Vector, flops: Vector) -> Indices:
    """Places, by rising W, that no other of equal W beats in both T and C."""
    most = flops.max(initial=0.0)
    order = np.lexsort((cycles, ready_s, np.round(flops / max(most, 1e-300) / SAME)))
    first = np.append(True, np.diff(flops[order]) > SAME * most)[: len(order)]
    # Of one W by rising T: kept while C falls. The least C so far starts anew with every W.
    falling = cycles[order] - (np.cumsum(first) - 1) * (cycles.max(initial=0.0) + 1.0)
    best_before = np.append(np.inf, np.minimum.accumulate(falling)[:-1])[: len(order)]
    kept: Indices = order[first | (falling < best_before)]
    return kept


def _along_hulls(
    columns: Sequence[NDArray[np.float64]], twins: Indices, counts: Indices, budget_j: float
) -> GatewayOptions:
    ready_s, used_j, cycles, flops = columns
    sums, picks = hull_sums(ready_s, used_j, cycles, flops, counts, np.array(ENERGY_SHARES))
    ready_s, used_j, cycles, flops = sums.T
    kept = np.flatnonzero(used_j <= budget_j)
    kept = kept[_first_ready(ready_s[kept], flops[kept], HULL_OPTIONS)]
    return GatewayOptions(ready_s[kept], cycles[kept], flops[kept], picks[kept], twins, complete=False)


def _first_ready(ready_s: Vector, flops: Vector, steps: int) -> Indices:
    """Places, by rising W: in each of so many equal steps of W the one that is ready first."""
    low, high = flops.min(), flops.max()
    step = np.minimum((flops - low) / max(high - low, 1e-300) * steps, steps - 1).astype(np.int64)
    order = np.lexsort((ready_s, step))
    first: Indices = order[np.append(True, np.diff(step[order]) > 0)]
    return first
