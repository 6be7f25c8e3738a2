"""A simulation from settings to figures: the jobs are done over cores, in an order that fair baselines need.

The fair WTCM's constant difficulty comes from DPRA's mean hashes per block at the same V, number of DTs and seeds; so
DPRA's jobs are done first, even where nobody asked to see them. Knows neither tables nor pictures.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from splitnet.controller.policies import fair_gamma, spec_of
from splitnet.errors import SettingsError
from splitnet.profiling.machine import machine_fingerprint
from splitnet.scenario import Scenario
from splitnet.simulating.folder import Asked, SimulationFolder, load
from splitnet.simulating.jobs import Job, Jobs, SimulateSettings
from splitnet.simulating.result import REFERENCE, Simulation, read_outcomes
from splitnet.simulating.workers import Order, at_devices, run_jobs

VERSIONS = ("splitnet", "numpy", "numba", "scipy")

Step = Callable[[int, int, str], None]


def plan_jobs(scenario: Scenario, settings: SimulateSettings) -> Jobs:
    """The jobs that a scenario and settings come to.

    Raises:
        SettingsError: an unknown policy, a V or number of DTs that the scenario cannot have, or too many jobs.
    """
    specs = {name: spec_of(name) for name in settings.policies}
    jobs = Jobs(
        settings,
        v=scenario.v if scenario.v in settings.v else settings.v[0],
        devices=len(scenario.network.tables),
        first=REFERENCE if any(spec.needs_fair_gamma for spec in specs.values()) else None,
        without_v=frozenset(
            name for name, spec in specs.items() if not spec.heeds_queues and not spec.needs_fair_gamma
        ),
    )
    for v, devices in jobs.points:
        at_devices(scenario, devices).setting(v)
    return jobs


def open_folder(
    scenario: Scenario, settings: SimulateSettings, *, path: Path | None = None, resume: Path | None = None
) -> SimulationFolder:
    """The folder of a run, locked until it is closed.

    Args:
        path: new or empty; None: a new one under runs/.
        resume: of a run of the same scenario and settings, to go on with.

    Raises:
        SettingsError: settings that the scenario cannot have, or a folder that cannot be had.
    """
    plan_jobs(scenario, settings)
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in VERSIONS}}
    asked = Asked(scenario.name, scenario.digest, settings, versions)
    if resume is not None:
        return SimulationFolder.resume(resume, asked)
    more = {"machine": machine_fingerprint(), "scenario_content": scenario.content()}
    return SimulationFolder.create(path, asked, more)


def simulate(
    scenario: Scenario,
    settings: SimulateSettings,
    folder: SimulationFolder,
    *,
    workers: int | None = None,
    step: Step = lambda done, total, text: None,
) -> Simulation:
    """Run every policy in the same worlds, over cores; what has finished in the folder before is not run again.

    Args:
        folder: from `open_folder` with this scenario and these settings.
        workers: processes; None: one for each usable core.
        step: is told slots done, slots in all, and what is going on.

    Raises:
        SplitnetError: bad settings, or a job that cannot be done; what has finished stays in the folder.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"--jobs {workers} is below 1")
    jobs = plan_jobs(scenario, settings)
    _run(scenario, jobs, folder.path, workers or _usable_cores(), step)
    setting = scenario.setting(jobs.v)
    found = Simulation(
        scenario=scenario.name,
        jobs=jobs,
        u_min=setting.u_min,
        u_max=setting.u_max,
        propagation_s=setting.network.propagation_s,
        outcomes=read_outcomes(folder.path, jobs, setting),
        run_dir=folder.path,
    )
    folder.complete()
    return found


def _run(scenario: Scenario, jobs: Jobs, run: Path, workers: int, step: Step) -> None:
    """Do the jobs that have not finished."""
    everything, slots = jobs.all(), jobs.settings.slots
    finished = {job for job in everything if load(run, job) is not None}
    todo = [job for job in everything if job not in finished]
    kept = len(finished) * slots
    gammas: dict[tuple[float, int], float] = {}

    def order(job: Job) -> Order | None:
        if not spec_of(job.policy).needs_fair_gamma:
            return Order(job, None)
        point = job.v, job.devices
        needed = jobs.at(REFERENCE, *point)
        if point not in gammas:
            if not finished.issuperset(needed):
                return None
            gammas[point] = _fair_gamma(at_devices(scenario, job.devices), run, needed)
        return Order(job, gammas[point])

    step(kept, len(everything) * slots, "starting workers")
    run_jobs(
        scenario,
        slots,
        run,
        todo,
        order,
        workers,
        finished.add,
        lambda done, text: step(kept + done, len(everything) * slots, text),
    )


def _fair_gamma(scenario: Scenario, run: Path, jobs: Sequence[Job]) -> float:
    """gamma_0 at which mining without reputation takes as many hashes per block as these jobs did on average."""
    hashes = []
    for job in jobs:
        found = load(run, job)
        assert found is not None, "they have finished"
        hashes.append(float(found[0].hashes_per_block.mean()))
    return fair_gamma(scenario.setting(jobs[0].v), float(np.mean(hashes)))


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
