"""What a run was asked for: all that changes what comes out of it, checked.

Decides the ranges. Whether this machine offers an actuator is asked where a run is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from splitnet.consensus.genesis import MILLION
from splitnet.controller.policies import spec_of
from splitnet.errors import SettingsError

MOST_SLOTS = 100_000
MOST_V = 1e12
"""As in a scenario."""
LARGEST_SEED = 2**63 - 1
LINK_BACKENDS = ("user", "kernel")
LEAST_GAMMA = 1e-43
"""Some e^-99: beta, which is -ln gamma_0 in a genesis block, is at most 100."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to play a scenario.

    Attributes:
        policy: by name.
        slots: T.
        v: V.
        seed: of the world, of what devices measure, and of what a policy draws.
        actuator: what holds machines at their speed.
        link_backend: what holds links at their rate: `user` or `kernel`.
        rate_trace: a file of rates that all links follow; None: the scenario's own rates.
        images: a folder of pictures that the devices see; None: seeded noise.
        audit_millionths: p, the share of receipts that APs re-execute, in millionths.
        fair_gamma: gamma_0 of a fair WTCM; None: from a simulation of DPRA in the same world.

    Raises:
        SettingsError: a value out of its range.
    """

    policy: str
    slots: int
    v: float
    seed: int = 0
    actuator: str = "pacing"
    link_backend: str = "user"
    rate_trace: str | None = None
    images: str | None = None
    audit_millionths: int = 0
    fair_gamma: float | None = None

    @classmethod
    def given(cls, others: Self, values: Mapping[str, Any]) -> Self:
        """With these values, by name, and the others' where they are None. Raises SettingsError."""
        return replace(others, **{name: value for name, value in values.items() if value is not None})

    def __post_init__(self) -> None:
        spec = spec_of(self.policy)
        if not 1 <= self.slots <= MOST_SLOTS:
            raise SettingsError(f"--slots {self.slots} is outside 1..{MOST_SLOTS}")
        if not 0 < self.v <= MOST_V:
            raise SettingsError(f"--V {self.v:g} must be above 0 and at most {MOST_V:g}; give a number such as 16")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise SettingsError(f"--seed {self.seed} is outside 0..2^63-1")
        if self.link_backend not in LINK_BACKENDS:
            raise SettingsError(f"--link-backend {self.link_backend} is unknown; give {' or '.join(LINK_BACKENDS)}")
        millionths("--audit", self.audit_millionths / MILLION)
        if self.fair_gamma is not None:
            if not spec.needs_fair_gamma:
                raise SettingsError(f"--fair-gamma is for wtcm-fair and wtcm-fair-c6; {self.policy} takes none")
            if not LEAST_GAMMA <= self.fair_gamma <= 1:
                raise SettingsError(
                    f"--fair-gamma {self.fair_gamma:g} is outside {LEAST_GAMMA:g}..1, as a chain can have it"
                )


def millionths(option: str, share: float) -> int:
    """A share in millionths, as a chain has it; SettingsError where it is none."""
    if not 0 <= share <= 1:
        raise SettingsError(f"{option} {share:.7g} is outside 0..1")
    return round(share * MILLION)
