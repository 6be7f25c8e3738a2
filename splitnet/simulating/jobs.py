"""What a simulation was asked for, and the jobs that follow from it: each policy at each V, seed and number of DTs.

Decides what may be asked, and which jobs stand for what. Knows neither what a policy does nor who runs it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from splitnet.errors import SettingsError

DEFAULT_SEEDS = 3
MOST_SLOTS = 1_000_000
MOST_SEEDS = 1000
MOST_DEVICES = 50_000
MOST_JOBS = 10_000


@dataclass(frozen=True, slots=True)
class SimulateSettings:
    """What to simulate.

    Attributes:
        policies: by name, in the order in which they are shown.
        slots: T, of every job.
        v: the weights V, each with every policy.
        seeds: the jobs of one policy and V take the seeds 0..seeds-1; all policies see the same worlds.
        devices: further numbers of DTs, at one V.
    """

    policies: tuple[str, ...]
    slots: int
    v: tuple[float, ...]
    seeds: int = DEFAULT_SEEDS
    devices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for option, values in (("--policy", self.policies), ("--V", self.v), ("--devices", self.devices)):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                told = f"{twice:g}" if isinstance(twice, float) else twice
                raise SettingsError(f"{option} names {told} twice; name each once")
        if not self.policies:
            raise SettingsError("--policy names none; give some such as dpra,wdpo")
        if not 1 <= self.slots <= MOST_SLOTS:
            raise SettingsError(f"--slots {self.slots} is outside 1..{MOST_SLOTS}")
        for v in self.v:
            if not 0 < v < math.inf:
                raise SettingsError(f"--V {v:g} must be above 0 and finite; give numbers such as 1,4,16")
        if not self.v:
            raise SettingsError("--V names none; give numbers such as 1,4,16")
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise SettingsError(f"--seeds {self.seeds} is outside 1..{MOST_SEEDS}")
        for count in self.devices:
            if not 1 <= count <= MOST_DEVICES:
                raise SettingsError(f"--devices {count} is outside 1..{MOST_DEVICES}")


@dataclass(frozen=True, slots=True)
class Job:
    """One policy in one world: what a worker does in one go."""

    policy: str
    v: float
    seed: int
    devices: int

    @property
    def name(self) -> str:
        """Of its files, and in messages."""
        return f"{self.policy}-n{self.devices}-v{str(self.v).removesuffix('.0')}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Jobs:
    """Which jobs a run consists of.

    Attributes:
        settings: what was asked.
        v: the V at which policies are compared side by side, and over the numbers of DTs.
        devices: the scenario's own number of DTs.
        first: a policy on which others depend: its jobs come first, even where it was not asked for.
        without_v: policies to which V is nothing: they are run once and stand at every V.
    """

    settings: SimulateSettings
    v: float
    devices: int
    first: str | None = None
    without_v: Collection[str] = ()

    def __post_init__(self) -> None:
        count = len(self.policies) * len(self.points) * self.settings.seeds
        if count > MOST_JOBS:
            raise SettingsError(f"{count} jobs are more than {MOST_JOBS}; name fewer policies, V, devices or seeds")

    @property
    def policies(self) -> tuple[str, ...]:
        """Those asked for, in that order, behind the one on which others depend."""
        first = () if self.first is None else (self.first,)
        return (*first, *(name for name in self.settings.policies if name != self.first))

    @property
    def points(self) -> tuple[tuple[float, int], ...]:
        """V and number of DTs: every V with the scenario's own number, the other numbers with one V."""
        others = [count for count in self.settings.devices if count != self.devices]
        return (*((v, self.devices) for v in self.settings.v), *((self.v, count) for count in others))

    def job(self, policy: str, v: float, devices: int, seed: int) -> Job:
        """The one that shows how a policy fares there."""
        return Job(policy, self.v if policy in self.without_v else v, seed, devices)

    def at(self, policy: str, v: float, devices: int) -> list[Job]:
        """The jobs of all seeds."""
        return [self.job(policy, v, devices, seed) for seed in range(self.settings.seeds)]

    def all(self) -> list[Job]:
        """Each once, in the order in which they are best begun."""
        return list(
            dict.fromkeys(job for policy in self.policies for point in self.points for job in self.at(policy, *point))
        )
