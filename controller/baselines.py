"""What DPRA is compared with (MODEL.md section 3): other ways to choose the cuts of a slot.

Each is a rule of `policy.py`; the frequencies are the best ones for the cuts everywhere. Rules that know nothing of
energy are repaired to C4, as `repaired` says. None here heeds the queues: the rules that do are solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from splitnet.controller import kernels
from splitnet.controller.policy import Choice, Options, State
from splitnet.controller.slot import (
    COLUMNS,
    TOLERANCE,
    Indices,
    Matrix,
    Network,
    Observation,
    SlotProblem,
    Vector,
    sums,
)

TRIES = 100
"""Of random cuts at one gateway, before they are repaired instead."""
PASSES = 50
"""At most, over all DTs in the search for the best static cuts; a handful are taken."""
CLOSE = 1e-12
"""Relative: a latency that is less by no more than this is not less."""
TICKS_PER_S = 10**12
"""Times become whole numbers for the minimum cut, whose sums and differences must be exact."""


def over_j(problem: SlotProblem, options: Sequence[int] | Indices) -> Vector:
    """[gateways] joules over the budget of C4, 0 where it holds."""
    network, budget_j = problem.network, problem.observation.gateway_energy_j
    used_j = sums(network.gateway_of, problem.used_j[np.arange(len(options)), options], len(network.ap_of))
    return np.where(used_j > budget_j * (1 + TOLERANCE), used_j - budget_j, 0.0)


def repaired(problem: SlotProblem, options: Sequence[int] | Indices) -> Options:
    """Cuts within C4: at a gateway over its budget DTs take their cut of least energy, the one that saves most first.

    Ends within the budgets wherever some plan does.
    """
    chosen = np.array(options, dtype=np.int64)
    saves_j = problem.used_j[np.arange(len(chosen)), chosen] - problem.used_j.min(axis=1)
    left_over_j = over_j(problem, chosen)
    close_j = problem.observation.gateway_energy_j * TOLERANCE / 2  # well inside what a plan is forgiven
    for twin in np.argsort(-saves_j, kind="stable"):
        gateway = problem.network.gateway_of[twin]
        if left_over_j[gateway] > close_j[gateway]:
            chosen[twin] = problem.used_j[twin].argmin()
            left_over_j[gateway] -= saves_j[twin]
    return tuple(chosen.tolist())


def loads(problem: SlotProblem, options: Indices) -> Matrix:
    """[4, gateways] seconds until ready, joules, cycles and FLOPs of each gateway."""
    owner, gateways = problem.network.gateway_of, len(problem.network.ap_of)
    chosen = np.arange(len(options)), options
    columns = (problem.ready_s, problem.used_j, problem.cycles, problem.flops)
    return np.stack([sums(owner, column[chosen], gateways) for column in columns])


def moved(problem: SlotProblem, held: Matrix, twin: int, option: int) -> NDArray[np.float64]:
    """[4, cuts of the DT, gateways] the loads with a DT at each of its cuts; held are those with it at the option."""
    count = int(problem.network.counts[twin])
    columns = (problem.ready_s, problem.used_j, problem.cycles, problem.flops)
    own = np.stack([column[twin, :count] for column in columns])
    candidates = np.repeat(held[:, None], count, axis=1)
    candidates[:, :, problem.network.gateway_of[twin]] += own - own[:, option, None]
    return np.maximum(candidates, 0.0)


def served(network: Network, of_gateways: Matrix) -> Matrix:
    """[candidates, APs] the sums over each AP's gateways."""
    links = network.ap_of[:, None] == np.arange(len(network.max_hz))  # [gateways, APs]
    return np.asarray(of_gateways @ links)


# --- cuts that stay


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same cuts in every slot: no partition-point optimisation.

    Where a gateway cannot afford them they are repaired and the slot counts as infeasible: a policy that moves no cut
    has no other plan.
    """

    options: Options

    def __call__(self, problem: SlotProblem, state: State) -> Choice:
        excess_j = over_j(problem, self.options)
        if not excess_j.any():
            return Choice(self.options)
        gateway = int(np.flatnonzero(excess_j)[0])
        budget_j = problem.observation.gateway_energy_j[gateway]
        return Choice(
            repaired(problem, self.options),
            f"gateway {gateway} cannot afford its fixed cuts: {budget_j + excess_j[gateway]:.3g} J of "
            f"{budget_j:.3g} J; DTs of it take their cut of least energy",
        )


def middle_cuts(network: Network) -> Options:
    """The middle one of each DT's cuts, the earlier of two."""
    return tuple(((network.counts - 1) // 2).tolist())


def last_cuts(network: Network) -> Options:
    """Gateway-only: l = L."""
    return tuple((network.counts - 1).tolist())


def first_cuts(network: Network) -> Options:
    """Least-gateway: l = 1, the least that C1 allows."""
    return (0,) * len(network.tables)


def best_static_cuts(network: Network, sample: Sequence[Observation]) -> Options:
    """The cuts of least mean latency over a sample of slots, if they must stay: WDPO at its best.

    Starts at the best place that all DTs share, then DT after DT takes its best cut, the others held, until none
    changes: a local optimum. Fewer broken budgets of C4 over the sample come first, latency second.

    Raises:
        ValueError: no slot in the sample.
    """
    if not sample:
        raise ValueError("the best static cuts need a sample of slots")
    idle = np.zeros(len(network.max_hz))
    problems = [SlotProblem(network, seen, idle, 1.0) for seen in sample]
    shared = [np.minimum(option, network.counts - 1) for option in range(int(network.counts.max()))]
    scores = [_scores(problems, [loads(problem, options)[:, None] for problem in problems])[0] for options in shared]
    options = shared[min(range(len(shared)), key=lambda place: tuple(scores[place]))]
    held = [loads(problem, options) for problem in problems]
    for _ in range(PASSES):
        before = options.copy()
        for twin, option in enumerate(before):
            tried = _scores(
                problems, [moved(problem, own, twin, option) for problem, own in zip(problems, held, strict=True)]
            )
            best = min(range(len(tried)), key=lambda place: tuple(tried[place]))
            if tried[best, 0] < tried[option, 0] or tried[best, 1] < tried[option, 1] * (1 - CLOSE):
                options[twin] = best
                held = [loads(problem, options) for problem in problems]
        if (options == before).all():
            break
    return tuple(options.tolist())


def _scores(problems: Sequence[SlotProblem], candidates: Sequence[NDArray[np.float64]]) -> Matrix:
    """[candidates, 2] budgets of C4 broken over the sample, and mean latency."""
    broken, latency_s = np.zeros(candidates[0].shape[1]), np.zeros(candidates[0].shape[1])
    for problem, (ready_s, used_j, cycles, flops) in zip(problems, candidates, strict=True):
        network, seen = problem.network, problem.observation
        earned = network.reputation(served(network, flops))
        barrier_s, rate = kernels.best_barriers(
            ready_s,
            cycles,
            network.ap_of,
            network.max_hz,
            network.kappa,
            seen.ap_energy_j,
            network.cycles_per_block * network.difficulty(earned),
            network.blocks,
        )
        broken += (used_j > seen.gateway_energy_j * (1 + TOLERANCE)).sum(axis=1)
        latency_s += barrier_s + network.blocks / rate
    return np.stack([broken, latency_s / len(problems)], axis=1)


# --- cuts that each DT chooses alone


def neurosurgeon(problem: SlotProblem, state: State) -> Choice:
    """Each DT alone takes the cut of its least end-to-end time at equal shares of gateway, link and AP; repaired.

    After Kang et al., Neurosurgeon (ASPLOS 2017), which knows one device and one server.
    """
    network = problem.network
    at_ap = network.ap_of[network.gateway_of]
    sharing_gateway = np.bincount(network.gateway_of)[network.gateway_of]
    sharing_ap = np.bincount(at_ap)[at_ap]
    own_s = problem.ready_s * sharing_gateway[:, None]
    own_s += problem.cycles * (sharing_ap / network.max_hz[at_ap])[:, None]
    return Choice(repaired(problem, np.where(np.isfinite(problem.used_j), own_s, np.inf).argmin(axis=1)))


def dads(problem: SlotProblem, state: State) -> Choice:
    """Each DT alone takes the minimum cut of its graph of layers, with gateway, link and AP at full speed; repaired.

    After Hu et al., Dynamic adaptive DNN surgery (INFOCOM 2019), for light load. The tables list cuts in one order,
    so the graph is a chain, where the minimum cut is the cut of least own time.
    """
    network, rate_bps = problem.network, problem.observation.rate_bps
    found: dict[tuple[int, bytes], int] = {}
    options = []
    for twin, gateway in enumerate(network.gateway_of):
        costs = network.costs[:, twin, : network.counts[twin]]  # for one data point: their number scales all alike
        key = int(gateway), costs.tobytes()
        if key not in found:
            gateway_s, payload_bits, ap_cycles = (
                costs[COLUMNS.index(name)] for name in ("gateway_s", "payload_bits", "ap_cycles")
            )
            ap_s = ap_cycles / network.max_hz[network.ap_of[gateway]]
            found[key] = minimum_cut(gateway_s, payload_bits / rate_bps[gateway], ap_s)
        options.append(found[key])
    return Choice(repaired(problem, options))


def minimum_cut(gateway_s: Vector, send_s: Vector, ap_s: Vector) -> int:
    """The option where the minimum cut of the graph of layers lies.

    A node stands for the layers between two neighbouring options. An edge from the gateway to it costs what its
    layers take on the AP, an edge from it to the AP what they take on the gateway, and an edge to the next node what
    sending takes there. Edges back cost infinitely much: what is on the AP stays there.

    Args:
        gateway_s, send_s, ap_s: [options] of the bottom, the payload and the top.
    """
    nodes = range(1, len(gateway_s))
    on_gateway, on_ap = np.diff(gateway_s), -np.diff(ap_s)
    # measured halves may shrink with more layers; both sides of a node may be lifted alike, as it pays just one
    lift = np.maximum(0.0, -np.minimum(on_gateway, on_ap))
    graph = nx.DiGraph()
    graph.add_nodes_from(("gateway", "ap"))

    def add(start: object, end: object, seconds: float) -> None:
        before = graph.edges[start, end]["capacity"] if graph.has_edge(start, end) else 0
        graph.add_edge(start, end, capacity=before + round(max(seconds, 0.0) * TICKS_PER_S))

    for node in nodes:
        add("gateway", node, float(on_ap[node - 1] + lift[node - 1]))
        add(node, "ap", float(on_gateway[node - 1] + lift[node - 1]))
        if node > 1:
            graph.add_edge(node, node - 1)  # no capacity: infinite
    for start, end, seconds in zip(("gateway", *nodes), (*nodes, "ap"), send_s.tolist(), strict=True):
        add(start, end, seconds)
    _, (bottom, _) = nx.minimum_cut(graph, "gateway", "ap")
    return len(bottom) - 1


@dataclass(frozen=True, slots=True)
class RandomCuts:
    """Every affordable choice of a gateway is equally likely; after `TRIES` draws without one, the last is repaired.

    The draw depends on the seed and the slot alone, so that a step is a function of its input.
    """

    seed: int

    def __call__(self, problem: SlotProblem, state: State) -> Choice:
        network = problem.network
        chance = np.random.default_rng((self.seed, state.slot))
        options = chance.integers(0, network.counts)
        for _ in range(TRIES):
            broken = over_j(problem, options) > 0
            if not broken.any():
                break
            options = np.where(broken[network.gateway_of], chance.integers(0, network.counts), options)
        return Choice(repaired(problem, options))
