"""The policies by name: DPRA and what it is compared with (MODEL.md section 3).

Decides which rule, which network and which weights make up each name. The names are those of `splitnet simulate
--policy`. All of them keep the queues of C6, also those that do not heed them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from splitnet.controller import baselines
from splitnet.controller.alternating import alternate
from splitnet.controller.exact import solve_exact
from splitnet.controller.online import solve_online
from splitnet.controller.policy import Policy, Rule, Setting, Solved
from splitnet.controller.slot import Observation, Solver
from splitnet.errors import SettingsError


@dataclass(frozen=True, slots=True, eq=False)
class Makings:
    """What rules are made from.

    Attributes:
        setting: with the network that the policy lives in.
        seed: of what a policy draws itself.
        sample: a few slots like those to come, on which static cuts are chosen.
        solver: of P1, for all but the oracle.
        exact: the oracle's.
    """

    setting: Setting
    seed: int
    sample: Sequence[Observation]
    solver: Solver
    exact: Solver


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy that can be asked for by name.

    Attributes:
        meaning: one line for people.
        rule: makes what chooses the cuts.
        heeds_queues: C6 is pursued.
        gamma: gamma_0 of a consensus without reputation, "fair" for the one at which a block takes as many expected
            hashes as DPRA's did on average; None where reputation counts.
        needs_sample: static cuts are chosen on a sample.
    """

    meaning: str
    rule: Callable[[Makings], Rule]
    heeds_queues: bool = False
    gamma: float | Literal["fair"] | None = None
    needs_sample: bool = False

    @property
    def needs_fair_gamma(self) -> bool:
        return self.gamma == "fair"


def solved(makings: Makings) -> Rule:
    return Solved(makings.solver)


POLICIES: dict[str, PolicySpec] = {
    "dpra": PolicySpec("drift plus penalty: P1 solved in every slot", solved, heeds_queues=True),
    "wdpo": PolicySpec(
        "cuts stay in the middle [L]", lambda makings: baselines.Fixed(baselines.middle_cuts(makings.setting.network))
    ),
    "wdpo-best": PolicySpec(
        "the best cuts that stay [L]",
        lambda makings: baselines.Fixed(baselines.best_static_cuts(makings.setting.network, makings.sample)),
        needs_sample=True,
    ),
    "wtcm": PolicySpec("no reputation in consensus, gamma 1, C6 dropped [L]", solved, gamma=1.0),
    "wtcm-c6": PolicySpec("no reputation in consensus, gamma 1, C6 kept", solved, heeds_queues=True, gamma=1.0),
    "wtcm-fair": PolicySpec("no reputation in consensus, DPRA's hashes per block, C6 dropped", solved, gamma="fair"),
    "wtcm-fair-c6": PolicySpec(
        "no reputation in consensus, DPRA's hashes per block, C6 kept", solved, heeds_queues=True, gamma="fair"
    ),
    "gateway-only": PolicySpec(
        "l = L", lambda makings: baselines.Fixed(baselines.last_cuts(makings.setting.network))
    ),
    "least-gateway": PolicySpec(
        "l = 1", lambda makings: baselines.Fixed(baselines.first_cuts(makings.setting.network))
    ),
    "neurosurgeon": PolicySpec("each DT its own best cut, at equal shares", lambda _: baselines.neurosurgeon),
    "dads": PolicySpec("each DT its minimum cut, at full speed", lambda _: baselines.dads),
    "ao": PolicySpec(
        "DPRA with P1 solved by alternating optimisation", lambda _: Solved(alternate), heeds_queues=True
    ),
    "random": PolicySpec("random affordable cuts", lambda makings: baselines.RandomCuts(makings.seed)),
    "latency-only": PolicySpec("DPRA as V goes to infinity: C6 dropped", solved),
    "oracle": PolicySpec(
        "DPRA with P1 solved by certified branch and bound", lambda makings: Solved(makings.exact), heeds_queues=True
    ),
}


def spec_of(name: str) -> PolicySpec:
    """
    Raises:
        SettingsError: no policy has that name; near names are offered.
    """
    if name not in POLICIES:
        near = difflib.get_close_matches(name, POLICIES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(POLICIES)}"
        raise SettingsError(f"no policy is called {name!r}; {hint}")
    return POLICIES[name]


def make_policy(
    name: str,
    setting: Setting,
    *,
    seed: int = 0,
    sample: Sequence[Observation] = (),
    fair_gamma: float | None = None,
    solver: Solver = solve_online,
    exact: Solver = solve_exact,
) -> Policy:
    """The policy of that name.

    Args:
        setting: with reputation in consensus; a policy without it replaces the network.
        seed: of what the policy draws itself (`random`).
        sample: a few slots like those to come (`wdpo-best`).
        fair_gamma: gamma_0 of the fair WTCMs, from `fair_gamma`.
        solver, exact: of P1; `exact` is the oracle's.

    Raises:
        SettingsError: an unknown name, or nothing handed in that the policy needs.
    """
    spec = spec_of(name)
    if spec.needs_sample and not len(sample):
        raise SettingsError(f"policy {name} chooses its cuts on a sample of slots and was given none; hand one in")
    if spec.gamma is not None:
        gamma = fair_gamma if spec.gamma == "fair" else spec.gamma
        if gamma is None:
            raise SettingsError(f"policy {name} needs the mean hashes per block of dpra; run dpra as well")
        setting = without_reputation(setting, gamma)
    rule = spec.rule(Makings(setting, seed, sample, solver, exact))
    return Policy(name, setting, rule, spec.heeds_queues)


def without_reputation(setting: Setting, gamma: float) -> Setting:
    """The same setting with gamma_j = gamma_0 for every AP: alpha = 0, beta = -ln gamma_0. U stays as it is.

    Raises:
        SettingsError: a gamma_0 that is not above 0 and finite.
    """
    if not 0 < gamma < math.inf:
        raise SettingsError(f"gamma {gamma:g} is out of range; it must be above 0 and finite")
    return replace(setting, network=replace(setting.network, alpha=0.0, beta=-math.log(gamma)))


def fair_gamma(setting: Setting, hashes_per_block: float) -> float:
    """gamma_0 = h / H_0: at equal gamma a block takes H_0 gamma_0 hashes, whoever mines and how fast.

    Args:
        hashes_per_block: DPRA's mean over slots (and seeds). Its mean gamma would be biased: work and difficulty go
            together.
    """
    return hashes_per_block / setting.hashes_alone
