"""Which emulated machines run at once, whether this host has cores for them, and on which cores each runs.

Pure: speeds and core numbers go in, a plan comes out. Decides what load is too much: the speeds of the machines that
a phase lets run together may add up to the cores, less a headroom for what is not emulated (the coordinator, sockets,
waking up). A slot has two phases: bottoms and tops overlap until the barrier, then all APs mine.

It does not know how long a phase takes, nor who waits for whom inside one: all of its machines count as running.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from splitnet.errors import SettingsError
from splitnet.runtime.speed import check_fraction

HEADROOM = 0.1
"""Share of the cores that is left free."""
ROUNDING = 1e-9


class Role(StrEnum):
    """What a machine is, from which follows when it runs."""

    GATEWAY = "gateway"
    AP = "AP"


@dataclass(frozen=True, slots=True)
class EmulatedMachine:
    """A machine that this host plays.

    Attributes:
        speed: as a fraction of one core of this host, in (0, 1]; an AP's lanes share it, and it mines at most at it.
    """

    name: str
    role: Role
    speed: float

    def __post_init__(self) -> None:
        check_fraction(f"{self.role} {self.name}", self.speed)


PHASES: Mapping[str, tuple[Role, ...]] = {"inference": (Role.GATEWAY, Role.AP), "mining": (Role.AP,)}
"""Who runs at once, from the start of a slot to the barrier and from there to the block."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Machines that run at once."""

    name: str
    machines: tuple[str, ...]
    load: float
    """Sum of their speeds, in cores."""


@dataclass(frozen=True, slots=True)
class CorePlan:
    """Who runs at once, and where.

    Attributes:
        phases: in the order of a slot.
        capacity: cores that emulated machines may fill together: the number of cores less the headroom.
        cores: usable cores of this host.
        cores_of: of each machine, those it is pinned to: one, if it fits there with the others, else all (it floats).
    """

    phases: tuple[Phase, ...]
    capacity: float
    cores: tuple[int, ...]
    cores_of: Mapping[str, frozenset[int]]

    @property
    def complaint(self) -> str | None:
        """One line that says what does not fit and the way out; None where all fits."""
        worst = max(self.phases, key=lambda phase: phase.load)
        if worst.load <= self.capacity + ROUNDING:
            return None
        return (
            f"{worst.name} lets {len(worst.machines)} emulated machines run at once, which need {worst.load:.3g} "
            f"cores, and {self.capacity:.3g} of {len(self.cores)} are for them: they will slow each other down; "
            f"multiply all speeds by {_down(self.capacity / worst.load):g}, or take fewer machines"
        )

    @property
    def floating(self) -> tuple[str, ...]:
        """Machines that fit on no core of their own and so may be held up by others."""
        everywhere = frozenset(self.cores)
        return tuple(name for name, cores in self.cores_of.items() if cores == everywhere and len(everywhere) > 1)


def plan_cores(
    machines: Sequence[EmulatedMachine], cores: Collection[int], *, headroom: float = HEADROOM, strict: bool = False
) -> CorePlan:
    """The plan for these machines on these cores.

    The fastest machine is placed first, each on the core where its phases leave the most room; one that fits nowhere
    floats. (Filling bins exactly is hard, and not needed: a machine that floats still runs at its speed while its
    phase fits as a whole, only with neighbours.)

    Args:
        cores: numbers of usable cores, as from `os.sched_getaffinity(0)`.
        headroom: share of the cores left to what is not emulated, in [0, 1).
        strict: whether a plan that does not fit is an error; else it is there in `complaint`.

    Raises:
        SettingsError: no machines, cores, or headroom; two machines of one name; with `strict`, what does not fit.
    """
    if not machines or not cores:
        raise SettingsError(f"{len(machines)} emulated machines on {len(cores)} cores: give at least one of each")
    if not 0 <= headroom < 1:
        raise SettingsError(f"a headroom of {headroom:g} of the cores must be at least 0 and below 1")
    names = [machine.name for machine in machines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"emulated machine {twice[0]} is there twice: give each a name of its own")
    phases = []
    for name, roles in PHASES.items():
        running = [machine for machine in machines if machine.role in roles]
        phases.append(Phase(name, tuple(one.name for one in running), sum(one.speed for one in running)))
    plan = CorePlan(
        phases=tuple(phases),
        capacity=len(cores) * (1 - headroom),
        cores=tuple(sorted(cores)),
        cores_of=_assigned(machines, sorted(cores), 1 - headroom),
    )
    if strict and plan.complaint:
        raise SettingsError(plan.complaint)
    return plan


def _assigned(
    machines: Sequence[EmulatedMachine], cores: Sequence[int], capacity: float
) -> dict[str, frozenset[int]]:
    """A core for each machine such that none is over its capacity in any phase; all cores where there is none."""
    loads = {core: dict.fromkeys(PHASES, 0.0) for core in cores}
    found: dict[str, frozenset[int]] = {}
    for machine in sorted(machines, key=lambda machine: -machine.speed):  # stable: else as given
        phases = [name for name, roles in PHASES.items() if machine.role in roles]
        best = min(cores, key=lambda core: max(loads[core][phase] for phase in phases))
        if max(loads[best][phase] for phase in phases) + machine.speed > capacity + ROUNDING:
            found[machine.name] = frozenset(cores)
            continue
        found[machine.name] = frozenset([best])
        for phase in phases:
            loads[best][phase] += machine.speed
    return {machine.name: found[machine.name] for machine in machines}


def _down(share: float) -> float:
    """Three decimals, rounded down, so that who follows the advice is not over."""
    return int(share * 1000) / 1000
