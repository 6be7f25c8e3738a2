"""What a run needs before its first slot: profiles of this machine, one core's hash rate, the scenario as played.

A profile that was taken here before is taken from the cache; one of another model, machine or version is not. Decides
what may be played at all (models that take what devices send, speeds that fit this host's cores) and how consensus
without reputation stands in a scenario. It does not know folders of runs, nor how a slot is played.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splitnet.cache import cache_dir
from splitnet.consensus.difficulty import MICRO
from splitnet.consensus.mining_process import MiningProcess
from splitnet.controller.policies import fair_gamma, make_policy, spec_of
from splitnet.controller.simulation import simulate
from splitnet.emulation import Emulation, check_models, emulate, usual_batch
from splitnet.errors import ModelError, SettingsError
from splitnet.files import refusals
from splitnet.models.build import build_model
from splitnet.models.images import load_images
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import machine_fingerprint
from splitnet.profiling.profile import NOT_ITS_SPEED, Profile, load_profile
from splitnet.profiling.profiler import profile_model
from splitnet.resident import ResidentModel
from splitnet.running.settings import RunSettings
from splitnet.runtime.actuators import why_not
from splitnet.runtime.core_plan import CorePlan, EmulatedMachine, Role, plan_cores
from splitnet.runtime.speed import Pacing
from splitnet.scenario import Scenario, scenario_from
from splitnet.scenario.loading import find, read
from splitnet.scenario.network import drawn
from splitnet.scenario.values import connected

HASHING_S = 0.5
"""For which one core is watched as it mines; its rate then holds for all blocks."""
CACHE_WAY_OUT = "name another cache by the environment's SPLITNET_CACHE"

Step = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured on this machine for a run.

    Attributes:
        profiles: the file of each DNN's profile.
        core_hash_rate: hashes/s of one core.
    """

    profiles: Mapping[str, Path]
    core_hash_rate: float


# --- what may be played


def read_scenario(name_or_path: str | Path) -> Scenario:
    """A scenario whose models need not have been profiled: it knows no cuts yet, and so has no network.

    Raises:
        SettingsError: there is none, something in it is wrong, or a DNN is only a table of numbers.
    """
    path = find(name_or_path)
    scenario = Scenario(read(path), {}, str(name_or_path), path.parent)
    check_models(scenario)
    return scenario


def check_here(settings: RunSettings, scenario: Scenario) -> None:
    """Raises SettingsError where this machine does not offer the actuator, or that not for each lane of an AP."""
    if reason := why_not(settings.actuator):
        raise SettingsError(f"--actuator {settings.actuator}: {reason}")
    file = scenario.file
    lanes = np.bincount(connected(file.gateways.ap, file.gateways.count, file.aps.count))
    if settings.actuator != Pacing.name and lanes.max() > 1:
        raise SettingsError(
            f"--actuator {settings.actuator} holds a whole process at one speed, and AP {lanes.argmax()} has "
            f"{lanes.max()} gateways, each with its own share; use --actuator {Pacing.name}, or more APs"
        )


def core_plan(scenario: Scenario, strict: bool = False) -> CorePlan:
    """Who runs on which core of this host.

    Raises:
        SettingsError: more cores are asked for than there are, and `strict`.
    """
    machines = []
    for role, section, key, fastest in (
        (Role.GATEWAY, "gateways", "frequency_hz", scenario.file.testbed.gateway_speed),
        (Role.AP, "aps", "max_hz", scenario.file.testbed.ap_speed),
    ):
        hz = drawn(scenario.file, section, key)
        machines += [
            EmulatedMachine(f"{role} {number}", role, float(speed))
            for number, speed in enumerate(fastest * hz / hz.max())
        ]
    return plan_cores(machines, usable_cores(), strict=strict)


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return list(range(os.cpu_count() or 1))


def model_refs(scenario: Scenario) -> dict[str, ModelRef]:
    """Of each DNN, as it is profiled and run."""
    batch = usual_batch(scenario)
    return {name: ModelRef(model, batch=batch) for name, model in check_models(scenario).items()}


def input_shape(profile: Profile) -> tuple[int, ...]:
    """Of one data point of a model that `look_at` let through."""
    return profile.facts.identity.input_shapes[0][1:]


def look_at(scenario: Scenario, name: str, ref: ModelRef, images: str | None) -> ResidentModel:
    """The model of a DNN, if it takes what devices send.

    Raises:
        SplitnetError: it cannot be had, takes something else, or there are no pictures for it.
    """
    try:
        model = ResidentModel(build_model(ref), torch.device("cpu"))
    except ModelError as error:
        raise ModelError(f"{scenario.where}: dnn.{name}: {error}") from error
    inputs = [value for _, value in model.example()]
    takes = [f"{value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__ for value in inputs]
    if takes != ["torch.float32"] or inputs[0].dim() < 2:
        raise SettingsError(
            f"{scenario.where}: dnn.{name}: {ref.name} takes {', '.join(takes)}, and a device sends one float32 "
            f"tensor; take another model"
        )
    if images is not None:
        try:
            load_images(Path(images), (1, *inputs[0].shape[1:]))
        except SettingsError as error:
            raise SettingsError(str(error).replace("--input", "--images", 1)) from error
    return model


# --- what is measured


def take(scenario: Scenario, settings: RunSettings, step: Step) -> Taken:
    """Profile what was not profiled on this machine yet, and see how fast one core mines.

    Raises:
        SplitnetError: a model that cannot be played, or a cache that cannot be written.
    """
    profiles: dict[str, Path] = {}
    for name, ref in model_refs(scenario).items():
        step(0, 0, f"building {ref.name}")
        profiles[name] = _profile(look_at(scenario, name, ref, settings.images), step)
    step(0, 0, "measuring the hash rate of one core")
    return Taken(profiles, measure_hash_rate())


def _profile(model: ResidentModel, step: Step) -> Path:
    ref, machine = model.built.ref, machine_fingerprint()
    path = profile_path(machine, ref)
    if not _still_fits(path, model):
        with refusals(path.parent, CACHE_WAY_OUT):
            path.parent.mkdir(parents=True, exist_ok=True)
        profile = profile_model(
            ref,
            torch.device("cpu"),
            threads=1,
            step=lambda done, total, text: step(done, total, f"profiling {ref.name}: {text}"),
        )
        profile.save(path)
    return path


def profile_path(machine: Mapping[str, Any], ref: ModelRef) -> Path:
    """Where a model's profile on one core of this machine is kept."""
    lasting = {name: value for name, value in machine.items() if name not in NOT_ITS_SPEED}
    key = {"machine": lasting, "model": asdict(ref), "device": "cpu", "threads": 1}
    key["splitnet"] = metadata.version("splitnet")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / f"profile-{digest}.json"


def _still_fits(path: Path, model: ResidentModel) -> bool:
    """Whether what is kept there is a whole profile of this very model."""
    try:
        return fits(load_profile(path), model)
    except SettingsError:
        return False


def fits(profile: Profile, model: ResidentModel) -> bool:
    """Whether a profile is of this very model: graph, weights and batch."""
    identity, fingerprint = profile.facts.identity, model.graph.fingerprint
    return (identity.name, identity.graph, identity.weights_digest, identity.batch) == (
        model.built.ref.name,
        fingerprint.graph,
        fingerprint.weights,
        model.built.ref.batch,
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises SettingsError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; {CACHE_WAY_OUT}") from error


def measure_hash_rate(seconds: float = HASHING_S) -> float:
    """Hashes/s of one core, from mining what cannot be found."""
    with MiningProcess() as miner:
        miner.wait_ready()
        miner.start(bytes(32), 1)
        time.sleep(seconds)
        return miner.stop().hash_rate


# --- the scenario as it is played


def played(scenario: Scenario, settings: RunSettings, taken: Taken, gamma: float | None) -> Emulation:
    """The scenario on this machine, with consensus as the policy has it.

    Args:
        gamma: gamma_0 of a policy without reputation in consensus, from `gamma_of`; else None.

    Raises:
        SettingsError: something in the scenario that cannot be.
    """
    found = emulate(scenario, taken.profiles, taken.core_hash_rate)
    found.setting(settings.v)
    return found if gamma is None else _without_reputation(found, gamma)


def gamma_of(scenario: Scenario, settings: RunSettings, taken: Taken) -> float | None:
    """gamma_0 with which the policy's consensus works, as a chain can have it; None where reputation counts.

    A fair one is that at which a block takes as many hashes as DPRA's on average, in a simulation of the same slots.
    """
    spec = spec_of(settings.policy)
    if spec.gamma is None:
        return None
    gamma = spec.gamma if spec.gamma != "fair" else settings.fair_gamma
    return math.exp(-_beta(_fair(scenario, settings, taken) if gamma is None else gamma))


def _fair(scenario: Scenario, settings: RunSettings, taken: Taken) -> float:
    own = emulate(scenario, taken.profiles, taken.core_hash_rate)
    setting = own.setting(settings.v)
    trace = simulate(make_policy("dpra", setting), own.scenario.world.observations(settings.seed, settings.slots))
    return min(1.0, fair_gamma(setting, float(np.mean(trace.hashes_per_block))))


def _beta(gamma: float) -> float:
    """-ln gamma_0 in whole micro-units, as it stands in a genesis block."""
    return round(-math.log(gamma) * MICRO) / MICRO


def _without_reputation(found: Emulation, gamma: float) -> Emulation:
    """gamma_j = gamma_0 for every AP: alpha = 0, beta = -ln gamma_0. H_0 stays as it is."""
    content = found.scenario.content()
    content["mining"] |= {"alpha": 0.0, "beta": _beta(gamma)}
    scenario = scenario_from(content, found.scenario.where, found.scenario.folder)
    return replace(found, scenario=scenario, network=scenario.network)
