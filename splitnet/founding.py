"""Founding a network from a scenario: keys for all members, the genesis block, the FLOPs registry.

    DIR/keys/NAME.key, .pub     of `controller`, `gateway-0`, …, `ap-0`, …, `device-0`, …; private ones of mode 600
    DIR/registry.msgpack        FLOPs per layer of the scenario's models, from their profiles
    DIR/genesis.msgpack         members, connections, caps and parameters; its hash is the network's id

A scenario is written in floats, a genesis block in whole micro-units: what is no whole number of them is refused, not
rounded. Decides how one becomes the other. It does not know how blocks are mined or stored.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from splitnet.consensus.canonical import MOST, decode, encode
from splitnet.consensus.database import sync_folder
from splitnet.consensus.difficulty import MICRO, Mining, reputation_of
from splitnet.consensus.errors import ConsensusError, EncodingError, GenesisError
from splitnet.consensus.genesis import (
    MOST_GENESIS_BYTES,
    MOST_MEMBERS,
    VERSION,
    Audit,
    Genesis,
    Member,
    Rules,
)
from splitnet.consensus.identity import KEY_SUFFIX, new_key, public_bytes, write_key
from splitnet.consensus.opening import open_at_once
from splitnet.consensus.registry import MOST_REGISTRY_BYTES, Registry, model_key
from splitnet.errors import SettingsError
from splitnet.files import refusals, replacing
from splitnet.profiling.facts import ModelFacts
from splitnet.profiling.profile import load_profile
from splitnet.scenario import Scenario

KEYS, GENESIS, REGISTRY = "keys", "genesis.msgpack", "registry.msgpack"
LEAST_MOST_RECEIPTS = 4096
"""Of a block; in larger networks one for each device."""
WAY_OUT = "choose another folder"

Kind = TypeVar("Kind", Genesis, Registry)
Step = Callable[[int, int, str], None]


def found_network(
    scenario: Scenario,
    folder: Path,
    started_ms: int,
    *,
    hashes: int | None = None,
    audit: Audit | None = None,
    step: Step | None = None,
) -> Rules:
    """Make a network of a scenario's members, with fresh keys; a folder with a genesis block is whole.

    Args:
        folder: new or empty.
        started_ms: ms since 1970: no block may be older.
        hashes: H_0, expected hashes of a block at gamma = 1; by default the scenario's H / c_h.
        audit: off by default.
        step: is told how many keys are written.

    Raises:
        SettingsError: the folder holds something, the disk refuses, or something in the scenario cannot stand on a
            chain: a line with its key, value and limit. What was written is taken away again.
        GenesisError: more members than a network may have.
    """
    facts = _facts(scenario)
    registry = Registry.of(facts.values())
    mining = _mining(scenario, hashes, _most_flops(scenario, facts))
    _check_counts(scenario)
    with _filling(folder):
        keys = folder / KEYS
        with refusals(keys, WAY_OUT):
            keys.mkdir(mode=0o700)
        models = _models(scenario, facts, registry)
        members = _new_keys(scenario, keys, step)
        genesis = _genesis(scenario, mining, registry, models, started_ms, audit or Audit(), members)
        rules = Rules(genesis, registry)
        _write(folder / REGISTRY, encode(registry))
        _write(folder / GENESIS, encode(genesis))
    return rules


def load_network(folder: Path) -> Rules:
    """The rules of a network that was founded here.

    Raises:
        GenesisError: there is none, or its files are damaged or contradict each other.
    """
    genesis = _read(folder / GENESIS, Genesis, MOST_GENESIS_BYTES)
    registry = _read(folder / REGISTRY, Registry, MOST_REGISTRY_BYTES)
    try:
        return Rules(genesis, registry)
    except ConsensusError as error:
        raise GenesisError(f"the network in {folder} is damaged: {error}; found a new one") from error


def key_file(folder: Path, name: str) -> Path:
    """Where the private key of a member of a network that was founded here lies."""
    return folder / KEYS / f"{name}{KEY_SUFFIX}"


# --- from floats to whole numbers


def _facts(scenario: Scenario) -> dict[str, ModelFacts]:
    """What the profiles say of each DNN's model."""
    found = {}
    for name, dnn in scenario.file.dnn.items():
        if dnn.model is None:
            raise SettingsError(
                f"{scenario.where}: dnn.{name} is written out, and a chain knows FLOPs by a model's graph; "
                f"name a model that was profiled"
            )
        given = dnn.gateway_profile
        found[name] = load_profile(dnn.model if given is None else scenario.folder / given).facts
    return found


def _most_flops(scenario: Scenario, facts: Mapping[str, ModelFacts]) -> int:
    """The most that an AP's devices can bring it in a slot, with all layers on the AP."""
    names = scenario.file.devices.dnn
    brought = [0] * scenario.file.aps.count
    for device, (points, gateway) in enumerate(
        zip(_most_points(scenario), scenario.network.gateway_of.tolist(), strict=True)
    ):
        layers = facts[names[device % len(names)]].layers
        brought[int(scenario.network.ap_of[gateway])] += points * sum(layer.flops for layer in layers)
    return max(brought)


def _models(scenario: Scenario, facts: Mapping[str, ModelFacts], registry: Registry) -> tuple[int, ...]:
    """[devices] numbers of their models in the registry."""
    names = scenario.file.devices.dnn
    numbers = {name: registry.number(*model_key(facts[name].identity)) for name in names}
    return tuple(numbers[names[device % len(names)]] for device in range(scenario.file.devices.count))


def _most_points(scenario: Scenario) -> list[int]:
    """[devices] caps on D_n(t)."""
    return [int(most) for most in scenario.file.devices.points.high(scenario.file.devices.count)]


def _mining(scenario: Scenario, hashes: int | None, most_flops: int) -> Mining:
    """What turns work into a target; U is capped at what `most_flops` earn."""
    section, reputation, where = scenario.file.mining, scenario.file.reputation, scenario.where
    shape: Literal["linear", "log"]
    if reputation.shape == "linear":
        shape = "linear"
    elif reputation.shape == "log":
        shape = "log"
    else:
        raise SettingsError(
            f"{where}: reputation.shape = {reputation.shape!r} cannot stand on a chain, where g has a name, so that "
            f"all get the same bits; take linear or log"
        )
    if section.beta < 0:
        raise SettingsError(f"{where}: mining.beta = {section.beta:g} is below 0, the least on a chain; raise it")
    if hashes is None:
        hashes = _whole(
            f"{where}: mining.cycles_per_block / mining.cycles_per_hash",
            _exact(section.cycles_per_block) / _exact(section.cycles_per_hash),
            "change them, or give H_0 by --hashes",
        )
    elif not 1 <= hashes <= MOST:
        raise SettingsError(f"--hashes {hashes} is outside 1..{MOST}")
    uncapped = Mining(
        alpha_micro=_micro(f"{where}: mining.alpha", section.alpha),
        beta_micro=_micro(f"{where}: mining.beta", section.beta),
        hashes=hashes,
        reputation=shape,
        reference_flops=_whole(
            f"{where}: reputation.reference_flops", _exact(reputation.reference_flops), "take a whole number of FLOPs"
        ),
        most_micro=MOST,
    )
    mining = msgspec.structs.replace(uncapped, most_micro=reputation_of(uncapped, most_flops))
    try:
        mining.check()
    except GenesisError as error:
        raise SettingsError(f"{where}: {error}, or raise reputation.reference_flops") from error
    return mining


def _exact(value: float) -> Fraction:
    """The decimal number that a person wrote."""
    return Fraction(repr(value))


def _micro(key: str, value: float) -> int:
    micro = _exact(value) * MICRO
    if micro.denominator != 1:
        raise SettingsError(f"{key} = {value!r} is no whole number of millionths, as a chain has it; round it")
    return int(micro)


def _whole(key: str, value: Fraction, way_out: str) -> int:
    if value.denominator != 1 or not 1 <= value <= MOST:
        raise SettingsError(f"{key} = {float(value):.17g} is no whole number from 1 to {MOST}; {way_out}")
    return int(value)


# --- members


def _check_counts(scenario: Scenario) -> None:
    """Before thousands of keys are made. Raises SettingsError."""
    file = scenario.file
    for section in ("devices", "gateways", "aps"):
        if (count := getattr(file, section).count) > MOST_MEMBERS:
            raise SettingsError(
                f"{scenario.where}: {section}.count = {count} is over the {MOST_MEMBERS} of a chain; take fewer"
            )
    for device, most in enumerate(_most_points(scenario)):
        if most < 1:
            raise SettingsError(
                f"{scenario.where}: devices.points gives device {device} at most {most}; a chain wants at least 1"
            )


def _new_keys(scenario: Scenario, folder: Path, step: Step | None) -> dict[str, list[Member]]:
    """Members with their public keys, by role; the private ones are written to the folder."""
    file = scenario.file
    names = {
        "controller": ["controller"],
        "gateway": [f"gateway-{number}" for number in range(file.gateways.count)],
        "ap": [f"ap-{number}" for number in range(file.aps.count)],
        "device": [f"device-{number}" for number in range(file.devices.count)],
    }
    done, total = itertools.count(1), sum(map(len, names.values()))

    def member(name: str) -> Member:
        key = new_key()
        write_key(key, folder / f"{name}{KEY_SUFFIX}")
        if step is not None:
            step(next(done), total, "making keys")
        return Member(name, public_bytes(key))

    return {role: [member(name) for name in named] for role, named in names.items()}


def _genesis(
    scenario: Scenario,
    mining: Mining,
    registry: Registry,
    models: tuple[int, ...],
    started_ms: int,
    audit: Audit,
    members: Mapping[str, list[Member]],
) -> Genesis:
    return Genesis(
        version=VERSION,
        controller=members["controller"][0],
        gateways=tuple(members["gateway"]),
        aps=tuple(members["ap"]),
        devices=tuple(members["device"]),
        gateway_of=tuple(scenario.network.gateway_of.tolist()),
        ap_of=tuple(scenario.network.ap_of.tolist()),
        most_data_points=tuple(_most_points(scenario)),
        models=models,
        mining=mining,
        registry=registry.digest(),
        started_ms=started_ms,
        most_receipts=max(LEAST_MOST_RECEIPTS, len(members["device"])),
        audit=audit,
    )


# --- files


@contextlib.contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """A new or empty folder; if the block fails, it is as it was."""
    made = not folder.exists()
    with refusals(folder, WAY_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty; {WAY_OUT}")
    try:
        yield
        with refusals(folder, WAY_OUT):
            sync_folder(folder)
    except BaseException:
        shutil.rmtree(folder / KEYS, ignore_errors=True)
        with contextlib.suppress(OSError):
            for name in (GENESIS, REGISTRY):
                (folder / name).unlink(missing_ok=True)
            if made:
                folder.rmdir()
        raise


def _write(path: Path, content: bytes) -> None:
    with replacing(path, WAY_OUT) as temporary:
        temporary.write_bytes(content)


def _read(path: Path, kind: type[Kind], most_bytes: int) -> Kind:
    try:
        with open_at_once(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device might never end
                raise GenesisError(f"{path} is no file; make a network with: splitnet chain new SCENARIO DIR")
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise GenesisError(
            f"cannot read {path}: {error.strerror}; make a network with: splitnet chain new SCENARIO DIR"
        ) from None
    try:
        return decode(content, kind, most_bytes)
    except EncodingError as error:
        raise GenesisError(f"{path} is damaged: {error}; found a new network") from error
