"""A run on disk: what was asked, on what it stands, and a line for every slot that was played.

    manifest.json                        scenario, settings, machine, versions, emulation; running or complete. It is
                                         written last: a folder without it was never begun
    slots.jsonl                          a `SlotRecord` a line, on disk before the next slot begins
    keys/ genesis.msgpack registry.msgpack     the network (`splitnet/founding.py`)
    profiles/vgg11.json                  the profiles that it is played with, by DNN
    rates.csv                            the rates that its links follow, where a file of them was given
    ap-0/chain.sqlite3                   what each AP has stored
    run.json, *.png, *.svg               what came of it, when it has ended

Decides names, order and durability, and where a run that was broken off goes on. It does not know how slots are
played or what they mean.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, final

import msgspec

from splitnet.chains import stores_below
from splitnet.consensus.errors import ConsensusError
from splitnet.consensus.store import Store
from splitnet.controller.policy import State
from splitnet.errors import SettingsError
from splitnet.files import read_sealed, refusals, write_sealed
from splitnet.owned_folder import WAY_OUT, OwnedFolder, check_same
from splitnet.running.settings import RunSettings
from splitnet.slot_record import SlotRecord

FORMAT = 1
"""Version of the folder's layout; others are refused."""
MANIFEST, SLOTS, PROFILES, RATE_TRACE = "manifest.json", "slots.jsonl", "profiles", "rates.csv"
KIND = "manifest of a run"
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in RunSettings.__dataclass_fields__} | {
    "v": "--V",
    "audit_millionths": "--audit (in millionths)",
}
"""Fields of the settings, as a user gives them."""
MOST_LINE_BYTES = 1 << 26


def has_begun(folder: Path) -> bool:
    """Whether a folder is of a run of which a slot was played, so that each of its APs has a store."""
    slots = folder / SLOTS
    return slots.is_file() and slots.stat().st_size > 0


class Played(msgspec.Struct, frozen=True):
    """How this host plays the scenario.

    Attributes:
        gateway_speed, ap_speed: [machines] fractions of one core.
        core_hash_rate: hashes/s of one core.
        hashes: H_0.
        batch: data points of a profiled pass.
        gamma: gamma_0 where consensus makes no use of reputation.
        u_min, u_max: the limits of C6.
        propagation_s: tau^prop.
        profiles: digest of each DNN's profile.
    """

    gateway_speed: list[float]
    ap_speed: list[float]
    core_hash_rate: float
    hashes: int
    batch: int
    gamma: float | None
    u_min: float
    u_max: float
    propagation_s: float
    profiles: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is of, and on what it stands.

    Attributes:
        status: `running`, also where it was broken off, or `complete`.
        scenario_digest: of the scenario's content.
        machine, versions: a run goes on only where these are the same.
    """

    status: str
    created: str
    scenario: str
    scenario_digest: str
    scenario_content: dict[str, Any]
    settings: RunSettings
    machine: dict[str, Any]
    versions: dict[str, str]
    emulation: Played


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is of: it is gone on with only where all of it is equal."""

    scenario: str
    scenario_digest: str
    settings: RunSettings
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


@final
class RunFolder:
    """A run's folder while this process has it.

    with RunFolder.create(path, scenario) as folder: ...; folder.begin(manifest)
    with RunFolder.resume(path, asked) as folder: ...
    """

    def __init__(self, owned: OwnedFolder) -> None:
        self._owned = owned
        self.path = owned.path
        self.manifest: Manifest | None = None
        """None before the run was begun."""

    @classmethod
    def create(cls, path: Path | None, scenario: str) -> Self:
        """A new folder, `path` or one under runs/; SettingsError where there is something in it already."""
        return cls(OwnedFolder.begin(path, "run", f"run-{scenario}"))

    @classmethod
    def resume(cls, path: Path, asked: Asked) -> Self:
        """The folder of a run that was broken off, or of a complete one; a last line cut short is taken away.

        Raises:
            SettingsError: it is of another scenario, settings, versions or machine, or damaged.
        """
        folder = cls(OwnedFolder(path, "run"))
        try:
            folder.manifest = read_manifest(path)
            then, now = (msgspec.json.decode(msgspec.json.encode(one)) for one in (folder.manifest, asked))
            then["machine"] = {name: value for name, value in then["machine"].items() if name in now["machine"]}
            check_same(path, then, now, OPTIONS, ("settings", "versions", "machine"))
            _drop_torn_line(path / SLOTS)
        except BaseException:
            folder.close()
            raise
        return folder

    def begin(self, manifest: Manifest, profiles: Mapping[str, Path], rate_trace: str | None = None) -> None:
        """Keep profiles and rates, then the manifest: from now on this is a run that can be gone on with.

        Args:
            profiles: of each DNN, as `profile_file` will find them.
            rate_trace: a file of rates, if one was given.

        Raises:
            SettingsError: the disk refuses.
        """
        with refusals(self.path, WAY_OUT):
            (self.path / PROFILES).mkdir()
            for name, path in profiles.items():
                shutil.copyfile(path, profile_file(self.path, name))
            if rate_trace is not None:
                shutil.copyfile(rate_trace, self.path / RATE_TRACE)
            (self.path / SLOTS).touch()
        self._write(manifest)

    def discard(self) -> None:
        """Take away what stands in a folder in which no run was begun, and the folder where nothing else is in it."""
        if self.manifest is None:
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.unlink()
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def append(self, record: SlotRecord) -> None:
        """Put a slot's line on disk, whole or not at all. Raises SettingsError where the disk refuses."""
        path = self.path / SLOTS
        line = encode_record(record) + b"\n"
        with refusals(path, "make room and go on with --resume"), path.open("ab") as file:
            start = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(start)
                raise

    def complete(self) -> None:
        """Mark the run as one of which every slot was played."""
        assert self.manifest is not None, "it was begun"
        self._write(msgspec.structs.replace(self.manifest, status="complete"))

    def _write(self, manifest: Manifest) -> None:
        content = msgspec.json.decode(msgspec.json.encode(manifest))
        write_sealed(self.path / MANIFEST, KIND, FORMAT, content, WAY_OUT)
        self.manifest = manifest

    def close(self) -> None:
        """Let others have the folder; a second call does nothing."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_run(path: Path) -> bool:
    """Whether the folder claims to be one of a run, whole or not."""
    try:
        found = msgspec.json.decode((path / MANIFEST).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def read_manifest(path: Path) -> Manifest:
    """The manifest of a run's folder; SettingsError where it is none or was damaged."""
    again = f"name a run's folder, or {WAY_OUT}"
    content = read_sealed(path / MANIFEST, KIND, FORMAT, again)
    try:
        return msgspec.convert(content, Manifest)
    except msgspec.MsgspecError as error:  # with a right digest: somebody made it so
        raise SettingsError(f"{path / MANIFEST} is no manifest of a run ({error}); {again}") from error


def read_settings(path: Path) -> RunSettings:
    """What the run in this folder was asked for; SettingsError where there is none."""
    return read_manifest(path).settings


def profile_file(path: Path, dnn: str) -> Path:
    """Where the profile of a DNN lies in a run's folder; a name that is no file's is told by its bytes."""
    tame = dnn if dnn.isidentifier() else dnn.encode().hex()
    return path / PROFILES / f"{tame}.json"


# --- slots


def encode_record(record: SlotRecord) -> bytes:
    """One line, without its end. JSON has no number for what is not finite, so an error that is not is in words."""
    content = msgspec.to_builtins(record)
    if not math.isfinite(record.max_error):
        content["max_error"] = str(record.max_error)
    return msgspec.json.encode(content)


def decode_record(line: bytes) -> SlotRecord:
    """Raises msgspec.MsgspecError where it is none."""
    content = msgspec.json.decode(line)
    if isinstance(content, dict) and content.get("max_error") in ("nan", "inf"):
        content["max_error"] = float(content["max_error"])
    return msgspec.convert(content, SlotRecord)


def read_records(path: Path) -> list[SlotRecord]:
    """The slots of a run, in order; a last line that was cut short counts as not written.

    Raises:
        SettingsError: a line is missing, damaged, or not of this run.
    """
    file = path / SLOTS
    played = read_manifest(path).emulation
    found: list[SlotRecord] = []
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(MOST_LINE_BYTES):
                number += 1
                if line.endswith(b"\n"):
                    found.append(_checked(line, number, file, played, found))
                elif len(line) == MOST_LINE_BYTES:
                    raise _damaged(file, number, "it is too long")
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}; name a run's folder") from error
    return found


def _checked(line: bytes, number: int, file: Path, played: Played, before: Sequence[SlotRecord]) -> SlotRecord:
    try:
        record = decode_record(line)
        State.from_dict(record.state)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise _damaged(file, number, f"{error}") from error
    gateways, aps = len(played.gateway_speed), len(played.ap_speed)
    of_gateways: list[Sized] = [record.asked_bps, record.rate_bps, record.uploads, record.bottoms, record.tops]
    for times in (record.predicted, record.measured):
        of_gateways += [times.gateway_s, times.link_s, times.ap_s]
    of_aps: list[Sized] = [record.mined, record.reputation, record.queue]
    sizes = {len(one) for one in of_gateways}, {len(one) for one in of_aps}, len(record.slowness)
    if sizes != ({gateways}, {aps}, gateways + aps):
        raise _damaged(file, number, f"it is not of {gateways} gateways and {aps} APs")
    if record.slot <= (before[-1].slot if before else -1):
        raise _damaged(file, number, f"slot {record.slot} does not come after the one before it")
    return record


def _damaged(file: Path, number: int, what: str) -> SettingsError:
    told = " ".join(what.split())[:200]
    return SettingsError(f"{file} line {number} is damaged ({told}); take this line and all after it out")


def _drop_torn_line(file: Path) -> None:
    """A kill may leave a line without its end; the slot then counts as not written."""
    with refusals(file, "choose another run"), file.open("rb+") as opened:
        end = opened.seek(0, os.SEEK_END)
        tail = b""
        while end > 0 and b"\n" not in tail:
            start = max(0, end - 65536)
            opened.seek(start)
            tail = opened.read(end - start)
            end = start
        opened.truncate(end + tail.rfind(b"\n") + 1)


def next_slot(path: Path, records: Sequence[SlotRecord]) -> int:
    """Where a run goes on: behind the last slot that was recorded or has a block in any AP's chain.

    Raises:
        SettingsError: a chain that cannot be read.
    """
    last = records[-1].slot if records else -1
    try:
        for folder in stores_below(path) if any(path.glob("*/chain.sqlite3")) else []:
            with Store.read(folder) as store:
                last = max([last, *(block.header.slot for block in store.blocks())])
    except ConsensusError as error:
        raise SettingsError(f"a chain of the run in {path} cannot be read: {error}") from error
    return last + 1


def lost_slots(records: Sequence[SlotRecord], following: int) -> list[int]:
    """Slots before `following` that have no line: they were broken off between their block and their line."""
    return sorted(set(range(following)) - {record.slot for record in records})


def now() -> str:
    """For a manifest: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
