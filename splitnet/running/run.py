"""A run from its scenario to its figures: prepared, founded or gone on with, played slot after slot, verified.

    with open_run(scenario, settings, path=...) as folder:
        prepared = prepare_run(scenario, settings, folder)
        result = play_run(prepared, folder)

Decides the order of things. Whatever ends it (the last slot, an error, Ctrl-C), no process is left, and a folder in
which a run was begun can be gone on with.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from splitnet.chains import Agreement, Outcome, agreement, verify_one
from splitnet.consensus.database import FILE
from splitnet.consensus.errors import ConsensusError
from splitnet.consensus.genesis import Audit, Rules
from splitnet.consensus.identity import read_key
from splitnet.controller.policies import make_policy, spec_of
from splitnet.controller.policy import Policy, State
from splitnet.emulation import Emulation, usual_batch
from splitnet.errors import SettingsError
from splitnet.files import write_json_atomic
from splitnet.founding import found_network, key_file, load_network
from splitnet.machines.assignment import Assignment
from splitnet.owned_folder import WAY_OUT
from splitnet.profiling.machine import machine_fingerprint
from splitnet.profiling.profile import NOT_ITS_SPEED, load_profile
from splitnet.running.folder import (
    RATE_TRACE,
    Asked,
    Manifest,
    Played,
    RunFolder,
    lost_slots,
    next_slot,
    now,
    profile_file,
    read_manifest,
    read_records,
)
from splitnet.running.preparing import (
    Step,
    Taken,
    check_here,
    core_plan,
    file_digest,
    fits,
    gamma_of,
    input_shape,
    look_at,
    model_refs,
    played,
    take,
)
from splitnet.running.result import RunResult, Topology, run_result
from splitnet.running.settings import RunSettings
from splitnet.runtime.core_plan import CorePlan
from splitnet.runtime.kernel_links import KernelLinks
from splitnet.runtime.links import Links, UserLinks
from splitnet.runtime.trace_sources import read_trace
from splitnet.scenario import Scenario
from splitnet.simulating.workers import SAMPLE_SEED, SAMPLE_SLOTS
from splitnet.slot_record import SlotRecord
from splitnet.testbed import Testbed

VERSIONS = ("splitnet", "torch", "numpy", "numba", "scipy")
RESULT = "run.json"
ASSIGNMENT = "assignment.json"

Tell = Callable[[str], None]
OnSlot = Callable[[SlotRecord], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """All that a testbed needs.

    Attributes:
        shapes: of each DNN's input, for one data point.
    """

    emulation: Emulation
    rules: Rules
    cores: CorePlan
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can be played.

    Attributes:
        records: of slots that were played before.
        first_slot: with which it goes on.
        stage: None where no slot is left.
    """

    settings: RunSettings
    records: list[SlotRecord]
    first_slot: int
    stage: Stage | None


# --- opened


def open_run(
    scenario: Scenario, settings: RunSettings, *, path: Path | None = None, resume: Path | None = None
) -> RunFolder:
    """The folder of a run, locked until it is closed.

    Args:
        scenario: from `read_scenario`.
        path: new or empty; None: a new one under runs/.
        resume: of a run of the same scenario and settings, to go on with.

    Raises:
        SettingsError: settings that this machine cannot keep, or a folder that cannot be had.
    """
    check_here(settings, scenario)
    if resume is None:
        if settings.rate_trace is not None:
            read_trace(Path(settings.rate_trace))
        return RunFolder.create(path, scenario.name)
    return RunFolder.resume(
        resume, Asked(scenario.name, scenario.digest, settings, versions(), _lasting(machine_fingerprint()))
    )


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in VERSIONS}}


def _lasting(machine: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in machine.items() if name not in NOT_ITS_SPEED}


# --- prepared


def prepare_run(
    scenario: Scenario,
    settings: RunSettings,
    folder: RunFolder,
    *,
    strict: bool = False,
    step: Step = lambda done, total, text: None,
) -> Prepared:
    """Profile and found, or take up what is there.

    Args:
        folder: from `open_run` with this scenario and these settings.
        strict: refuse to play machines that need more cores than there are.
        step: is told what is done, the total (0: not known) and what is going on.

    Raises:
        SplitnetError: what cannot be played here; a folder in which no run was begun is empty again.
    """
    cores = core_plan(scenario, strict)
    if folder.manifest is None:
        try:
            stage = _begun(scenario, settings, folder, cores, step)
        except BaseException:
            folder.discard()
            raise
        return Prepared(settings, [], 0, stage)
    records = read_records(folder.path)
    first = next_slot(folder.path, records)
    left = first < settings.slots
    return Prepared(settings, records, first, _taken_up(scenario, settings, folder, cores, step) if left else None)


def _begun(scenario: Scenario, settings: RunSettings, folder: RunFolder, cores: CorePlan, step: Step) -> Stage:
    taken = take(scenario, settings, step)
    step(0, 0, "founding the network")
    gamma = gamma_of(scenario, settings, taken)
    emulation = played(scenario, settings, taken, gamma)
    rules = found_network(
        emulation.scenario,
        folder.path,
        time.time_ns() // 10**6,
        hashes=emulation.hashes,
        audit=Audit(share_millionths=settings.audit_millionths),
    )
    setting = emulation.setting(settings.v)
    manifest = Manifest(
        status="running",
        created=now(),
        scenario=scenario.name,
        scenario_digest=scenario.digest,
        scenario_content=scenario.content(),
        settings=settings,
        machine=machine_fingerprint(),
        versions=versions(),
        emulation=Played(
            gateway_speed=emulation.gateway_speed.tolist(),
            ap_speed=emulation.ap_speed.tolist(),
            core_hash_rate=emulation.core_hash_rate,
            hashes=emulation.hashes,
            batch=usual_batch(scenario),
            gamma=gamma,
            u_min=setting.u_min,
            u_max=setting.u_max,
            propagation_s=setting.network.propagation_s,
            profiles={name: file_digest(path) for name, path in taken.profiles.items()},
        ),
    )
    folder.begin(manifest, taken.profiles, settings.rate_trace)
    return Stage(emulation, rules, cores, _shapes(taken))


def _taken_up(scenario: Scenario, settings: RunSettings, folder: RunFolder, cores: CorePlan, step: Step) -> Stage:
    """With the profiles, the hash rate and the network with which it was begun."""
    assert folder.manifest is not None, "it was begun"
    begun = folder.manifest.emulation
    taken = Taken({name: profile_file(folder.path, name) for name in begun.profiles}, begun.core_hash_rate)
    for name, ref in model_refs(scenario).items():
        step(0, 0, f"building {ref.name}")
        file = taken.profiles[name]
        if file_digest(file) != begun.profiles[name]:
            raise SettingsError(f"{file} was edited or damaged: it is not what the run was begun with; {WAY_OUT}")
        if not fits(load_profile(file), look_at(scenario, name, ref, settings.images)):
            raise SettingsError(f"{ref.name} has changed since the run in {folder.path} was begun; {WAY_OUT}")
    return Stage(played(scenario, settings, taken, begun.gamma), load_network(folder.path), cores, _shapes(taken))


def _shapes(taken: Taken) -> dict[str, tuple[int, ...]]:
    return {name: input_shape(load_profile(path)) for name, path in taken.profiles.items()}


# --- played


def play_run(
    prepared: Prepared,
    folder: RunFolder,
    *,
    tell: Tell = lambda what: None,
    on_slot: OnSlot = lambda record: None,
) -> RunResult:
    """Play the slots that are left; each is on disk before the next begins.

    Args:
        tell: is told what goes on.
        on_slot: is handed every slot that was played.

    Raises:
        SplitnetError: a machine is gone or cannot do its part; the slots so far are kept.
    """
    if prepared.stage is not None:
        _play(prepared, prepared.stage, folder, tell, on_slot)
    tell("verify")
    found = read_run(folder.path)
    write_json_atomic(folder.path / RESULT, found.to_dict(), WAY_OUT)
    folder.complete()
    return found


def _play(prepared: Prepared, stage: Stage, folder: RunFolder, tell: Tell, on_slot: OnSlot) -> None:
    settings = prepared.settings
    tell("start")
    with make_testbed(settings, stage, folder.path) as testbed:
        tell("calibrate")
        policy = _policy(settings, testbed.calibrate(), folder)
        if settings.rate_trace is not None:
            testbed.follow_trace(read_trace(folder.path / RATE_TRACE))
        state = State.from_dict(prepared.records[-1].state) if prepared.records else policy.init()
        worlds = stage.emulation.scenario.world.observations(settings.seed, settings.slots)
        for slot, world in itertools.islice(enumerate(worlds), prepared.first_slot, None):
            state, record = testbed.play(slot, policy, state, world, tell)
            folder.append(record)
            on_slot(record)


def make_testbed(settings: RunSettings, stage: Stage, path: Path) -> Testbed:
    """The machines of a run, not started.

    Args:
        path: of the run's folder, in which a network was founded.
    """
    rules = stage.rules
    return Testbed(
        stage.emulation,
        rules,
        read_key(key_file(path, rules.genesis.controller.name)),
        _assignment(settings, stage, path),
        path / ASSIGNMENT,
        _links(settings, rules),
        stage.cores,
    )


def _policy(settings: RunSettings, emulation: Emulation, folder: RunFolder) -> Policy:
    assert folder.manifest is not None, "it was begun"
    needed = spec_of(settings.policy).needs_sample
    return make_policy(
        settings.policy,
        emulation.setting(settings.v),
        seed=settings.seed,
        sample=list(emulation.scenario.world.observations(SAMPLE_SEED, SAMPLE_SLOTS)) if needed else [],
        fair_gamma=folder.manifest.emulation.gamma,
    )


def _assignment(settings: RunSettings, stage: Stage, path: Path) -> Assignment:
    emulation = stage.emulation
    file, network = emulation.scenario.file, emulation.network
    twins = range(len(network.tables))
    names = [file.devices.dnn[twin % len(file.devices.dnn)] for twin in twins]
    refs = model_refs(emulation.scenario)
    return Assignment(
        folder=str(path.resolve()),
        models=[refs[name] for name in names],
        cuts=[table.cuts for table in network.tables],
        codecs=[file.dnn[name].codec for name in names],
        gateway_speed=emulation.gateway_speed.tolist(),
        ap_speed=emulation.ap_speed.tolist(),
        ap_hash_rate=emulation.hash_rates(network.max_hz).tolist(),
        input_shapes=[stage.shapes[name] for name in names],
        seed=settings.seed,
        actuator=settings.actuator,
        paced_links=settings.link_backend == "user",
        images=None if settings.images is None else str(Path(settings.images).resolve()),
    )


def _links(settings: RunSettings, rules: Rules) -> Links:
    ap_of = rules.genesis.ap_of
    return UserLinks(ap_of) if settings.link_backend == "user" else KernelLinks(ap_of)


# --- read


def read_run(path: Path) -> RunResult:
    """The figures of a run, complete or broken off, from its records and its APs' stores.

    Raises:
        SettingsError: it is none, no slot was played, or something in it is damaged.
    """
    manifest, records = read_manifest(path), read_records(path)
    try:
        rules = load_network(path)
    except ConsensusError as error:
        raise SettingsError(f"{path} is a run whose network cannot be read: {error}") from error
    chains = _verified(path, rules)
    clean = [one.verified for one in chains if one.verified is not None]
    following = 1 + max([*(one.slot for one in records), *(one.slot for one in clean)], default=-1)
    agreed: Agreement | None = agreement(clean) if clean else None
    topology = Topology(rules.genesis.gateway_of, rules.genesis.ap_of)
    lost = len(lost_slots(records, following))
    return run_result(manifest, topology, records, lost, chains, agreed, path)


def _verified(path: Path, rules: Rules) -> list[Outcome]:
    """Of each AP's store, where there is one."""
    names = [ap.name for ap in rules.genesis.aps]
    return [
        verify_one(path / name, name, time.time_ns() // 10**6, rules.network)
        for name in names
        if (path / name / FILE).exists()
    ]
