"""What a simulation found: each policy at each V and number of DTs, over all seeds, computed from the traces.

Decides how seeds and slots become the figures that are shown. Knows neither workers nor how a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splitnet.controller.policy import Setting
from splitnet.controller.simulation import BATCHES, Summary, Trace, combine, half_width, summary
from splitnet.controller.slot import Matrix, Vector
from splitnet.errors import SettingsError
from splitnet.simulating.folder import load
from splitnet.simulating.jobs import Job, Jobs

REFERENCE = "dpra"
"""The policy with which all are compared."""
CURVE_POINTS = 500
"""At most, of a curve over the slots."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and half of its 95% confidence interval; None where one number cannot tell."""

    mean: float
    ci95: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How one policy fared at one V and number of DTs.

    Attributes:
        any_v: V is nothing to the policy, and one run stands at every V.
        summary: over all seeds.
        barrier_s, block_s: means of the latency's components (rows 7 and 11); the third, tau^prop, is constant.
        reputation: [APs] mean U_j with the interval over seeds.
        relative: latency relative to the reference's in the same worlds, less 1: over seeds, or for one seed over
            batches of slots. None where the reference was not run.
        decision_s, decision_p95_s: median and 95th percentile of how long a decision took.
        fair_gamma: the constant difficulty that the policy was given, if any.
        infeasible: the first slot without a feasible plan and why it had none; None where all had one.
        curve_slots: [points] slots 1..T, thinned.
        curve_s: [seeds, points] mean latency of all slots up to those.
    """

    policy: str
    v: float
    devices: int
    any_v: bool
    summary: Summary
    barrier_s: float
    block_s: float
    reputation: tuple[Interval, ...]
    relative: Interval | None
    decision_s: float
    decision_p95_s: float
    fair_gamma: float | None
    infeasible: str | None
    curve_slots: Vector
    curve_s: Matrix

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the curves are in the traces."""
        return {
            **asdict(self.summary),
            "mean_barrier_s": self.barrier_s,
            "mean_block_s": self.block_s,
            "relative_to_dpra": None if self.relative is None else asdict(self.relative),
            "decision_s": self.decision_s,
            "decision_p95_s": self.decision_p95_s,
            "fair_gamma": self.fair_gamma,
            "first_infeasible": self.infeasible,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """All that a run found.

    Attributes:
        u_min, u_max: the limits of C6.
        propagation_s: tau^prop, part of every latency.
        outcomes: of the policies that were asked for, at every point of the jobs.
        fair_gammas: gamma_0 of the fair WTCMs, where there are such, by V and number of DTs.
    """

    scenario: str
    jobs: Jobs
    u_min: float
    u_max: float
    propagation_s: float
    outcomes: tuple[Outcome, ...]
    run_dir: Path

    def at(self, v: float, devices: int) -> list[Outcome]:
        """Of every policy, in the order in which they were asked for."""
        return [found for found in self.outcomes if (found.v, found.devices) == (v, devices)]

    @property
    def main(self) -> list[Outcome]:
        """At the one V at which policies are compared side by side, with the scenario's own number of DTs."""
        return self.at(self.jobs.v, self.jobs.devices)

    def to_dict(self) -> dict[str, Any]:
        """As `splitnet simulate --json` prints it."""
        jobs, settings = self.jobs, self.jobs.settings

        def policies(v: float, devices: int) -> dict[str, Any]:
            return {found.policy: found.to_dict() for found in self.at(v, devices)}

        counts = sorted({jobs.devices, *settings.devices}) if settings.devices else []
        return {
            "scenario": self.scenario,
            "slots": settings.slots,
            "seeds": settings.seeds,
            "v": jobs.v,
            "devices": jobs.devices,
            "c6": {"u_min": self.u_min, "u_max": self.u_max},
            "propagation_s": self.propagation_s,
            "policies": policies(jobs.v, jobs.devices),
            "sweep": [{"v": v, "policies": policies(v, jobs.devices)} for v in settings.v],
            "device_sweep": [{"devices": count, "policies": policies(jobs.v, count)} for count in counts],
            "run_dir": str(self.run_dir),
        }


def read_outcomes(run: Path, jobs: Jobs, setting: Setting) -> tuple[Outcome, ...]:
    """The outcomes of a complete run, from its traces.

    Args:
        setting: for the limits of C6.

    Raises:
        SettingsError: a trace is missing, edited or damaged.
    """
    found = []
    for v, devices in jobs.points:
        references = None
        if REFERENCE in jobs.policies:
            references = [_load(run, job)[0].latency_s for job in jobs.at(REFERENCE, v, devices)]
        for policy in jobs.settings.policies:
            found.append(_outcome(run, jobs, policy, v, devices, setting, references))
    return tuple(found)


def _outcome(
    run: Path, jobs: Jobs, policy: str, v: float, devices: int, setting: Setting, references: list[Vector] | None
) -> Outcome:
    loaded = [_load(run, job) for job in jobs.at(policy, v, devices)]
    traces = [trace for trace, _ in loaded]
    solve_s = np.concatenate([trace.solve_s for trace in traces])
    means = np.array([trace.reputation.mean(axis=0) for trace in traces])  # [seeds, APs]
    places = np.unique(np.linspace(1, traces[0].slots, min(CURVE_POINTS, traces[0].slots)).astype(int))
    return Outcome(
        policy=policy,
        v=v,
        devices=devices,
        any_v=policy in jobs.without_v,
        summary=combine([summary(trace, setting) for trace in traces]),
        barrier_s=float(np.mean([trace.barrier_s.mean() for trace in traces])),
        block_s=float(np.mean([trace.block_s.mean() for trace in traces])),
        reputation=tuple(Interval(float(of_ap.mean()), half_width(of_ap)) for of_ap in means.T),
        relative=None if references is None else relative([trace.latency_s for trace in traces], references),
        decision_s=float(np.median(solve_s)),
        decision_p95_s=float(np.percentile(solve_s, 95)),
        fair_gamma=loaded[0][1],
        infeasible=_first_infeasible(traces),
        curve_slots=places.astype(float),
        curve_s=np.array(
            [(np.cumsum(trace.latency_s) / np.arange(1, trace.slots + 1))[places - 1] for trace in traces]
        ),
    )


def relative(latencies: Sequence[Vector], references: Sequence[Vector]) -> Interval:
    """Mean latency over the reference's, less 1, from slots of the same worlds.

    The interval is over seeds, each with its own ratio; for one seed, over batches of slots.

    Args:
        latencies, references: [seeds] of [slots].
    """
    if len(latencies) == 1:
        differences = (latencies[0] - references[0]) / references[0].mean()
        batches = np.array_split(differences, min(BATCHES, len(differences)))
        return Interval(float(differences.mean()), half_width(np.array([batch.mean() for batch in batches])))
    ratios = np.array([own.mean() / other.mean() - 1 for own, other in zip(latencies, references, strict=True)])
    return Interval(float(ratios.mean()), half_width(ratios))


def _first_infeasible(traces: Sequence[Trace]) -> str | None:
    for seed, trace in enumerate(traces):
        for slot, why in enumerate(trace.infeasible):
            if why is not None:
                return f"slot {slot} of seed {seed}: {why}"
    return None


def _load(run: Path, job: Job) -> tuple[Trace, float | None]:
    found = load(run, job)
    if found is None:
        raise SettingsError(f"{run} has no trace of {job.name}; go on with the run by --resume {run}")
    return found
