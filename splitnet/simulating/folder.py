"""A simulation on disk: a folder that says what was asked and keeps the trace of every job that has finished.

    manifest.json                     what was asked of which scenario, machine, versions; running or complete
    traces/dpra-n12-v16-seed0.npz     what the job decided, slot by slot; the same bytes whenever it is run
    traces/dpra-n12-v16-seed0.json    its seal: digest of the trace, times of the decisions; a job with it is finished

Decides names, atomicity, and when a folder may be gone on with. Knows nothing of how a trace comes about.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from splitnet.controller.policy import State
from splitnet.controller.simulation import Trace
from splitnet.errors import SettingsError
from splitnet.files import read_sealed, refusals, replacing, write_sealed
from splitnet.owned_folder import WAY_OUT, OwnedFolder, check_same
from splitnet.simulating.jobs import Job, SimulateSettings

FORMAT = 1
"""Version of the folder's layout and of the seals; others are refused."""
MANIFEST = "manifest.json"
TRACES = "traces"
KIND = "manifest of a simulation"
SEAL = "seal of a simulated job"
OPTIONS = {name: f"--{name}" for name in ("slots", "seeds", "devices")} | {"policies": "--policy", "v": "--V"}
"""Fields of the settings, as a user gives them."""
COLUMNS = tuple(field.name for field in fields(Trace) if field.name not in ("solve_s", "infeasible", "state"))
"""Of a trace, what its file holds: all that is decided. Times, words and the state stand in the seal."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is of: two runs may share a folder only where all of it is equal.

    Attributes:
        scenario: its name.
        scenario_digest: of its content.
        settings: of `SimulateSettings`.
        versions: of the libraries that compute.
    """

    scenario: str
    scenario_digest: str
    settings: SimulateSettings
    versions: Mapping[str, str]


class SimulationFolder:
    """A run's folder while this process has it: no other process can open it until it is closed.

    with SimulationFolder.create(path, asked, more) as folder: ...
    with SimulationFolder.resume(path, asked) as folder: ...
    """

    def __init__(self, owned: OwnedFolder) -> None:
        self._owned = owned
        self.path = owned.path

    @classmethod
    def create(cls, path: Path | None, asked: Asked, more: Mapping[str, Any]) -> Self:
        """A new folder, `path` or one under runs/, with its manifest.

        Args:
            more: goes into the manifest, for whoever reads it: machine, the scenario's content.

        Raises:
            SettingsError: there is something in it already, or the disk refuses.
        """
        folder = cls(OwnedFolder.begin(path, "simulation", f"simulate-{asked.scenario}"))
        path = folder.path
        try:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            try:
                with refusals(path, WAY_OUT):
                    (path / TRACES).mkdir()
                folder._write_manifest({"status": "running", "created": created, **_as_read(asked), **more})
            except BaseException:
                with contextlib.suppress(OSError):
                    (path / TRACES).rmdir()
                    path.rmdir()
                raise
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def resume(cls, path: Path, asked: Asked) -> Self:
        """The folder of a run that was broken off, or of a complete one.

        Raises:
            SettingsError: it is of another scenario, of other settings or versions, or damaged.
        """
        folder = cls(OwnedFolder(path, "simulation"))
        try:
            check_same(path, read_manifest(path), _as_read(asked), OPTIONS)
            with refusals(path, WAY_OUT):
                (path / TRACES).mkdir(exist_ok=True)
                for left in (path / TRACES).glob(".*.tmp"):  # of a worker that was killed while it wrote
                    left.unlink()
        except BaseException:
            folder.close()
            raise
        return folder

    def complete(self) -> None:
        """Mark the run as one in which every job has finished."""
        self._write_manifest({**read_manifest(self.path), "status": "complete"})

    def _write_manifest(self, content: Mapping[str, Any]) -> None:
        write_sealed(self.path / MANIFEST, KIND, FORMAT, content, WAY_OUT)

    def close(self) -> None:
        """Let others have the folder; a second call does nothing."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a simulation's folder; SettingsError where it is none or was damaged."""
    return read_sealed(path / MANIFEST, KIND, FORMAT, f"name a simulation's folder, or {WAY_OUT}")


def read_settings(path: Path) -> SimulateSettings:
    """What the run in this folder was asked for; SettingsError where there is none."""
    return msgspec.convert(read_manifest(path)["settings"], SimulateSettings)


def save(run: Path, job: Job, trace: Trace, fair_gamma: float | None) -> None:
    """Put a finished job on disk: its trace first, then the seal that makes it count.

    Args:
        fair_gamma: the constant difficulty that the policy was given, if any.
    """
    path = run / TRACES / f"{job.name}.npz"
    content = io.BytesIO()
    np.savez_compressed(content, **dict[str, Any]({name: getattr(trace, name) for name in COLUMNS}))
    with replacing(path, WAY_OUT) as temporary:
        temporary.write_bytes(content.getvalue())
    seal = {
        "job": asdict(job),
        "trace_sha256": hashlib.sha256(content.getvalue()).hexdigest(),
        "fair_gamma": fair_gamma,
        "infeasible": {str(slot): why for slot, why in enumerate(trace.infeasible) if why is not None},
        "state": trace.state.as_dict(),
        "solve_s": [round(time, 9) for time in trace.solve_s.tolist()],
    }
    write_sealed(path.with_suffix(".json"), SEAL, FORMAT, seal, WAY_OUT)


def load(run: Path, job: Job) -> tuple[Trace, float | None] | None:
    """A job's trace and the constant difficulty its policy was given; None where it has not finished.

    Raises:
        SettingsError: its files were edited, damaged or mixed up.
    """
    path = run / TRACES / f"{job.name}.npz"
    sealed = path.with_suffix(".json")
    if not sealed.exists():
        return None
    again = f"take {sealed.name} out of {sealed.parent} to have the job run again"
    seal = read_sealed(sealed, SEAL, FORMAT, again)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; {again}") from error
    if seal.get("job") != asdict(job) or seal.get("trace_sha256") != hashlib.sha256(content).hexdigest():
        raise SettingsError(f"{path} was edited or damaged: it does not match its seal; {again}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in COLUMNS}
        solve_s = np.array(seal["solve_s"], dtype=np.float64)
        infeasible = tuple(seal["infeasible"].get(str(slot)) for slot in range(len(solve_s)))
        state = State.from_dict(seal["state"])
        return Trace(**columns, solve_s=solve_s, infeasible=infeasible, state=state), seal["fair_gamma"]
    except Exception as error:  # numpy and zipfile have many; the digests are right, so somebody made it so
        raise SettingsError(f"{path} is no trace of this splitnet ({error}); {again}") from error


def _as_read(asked: Asked) -> dict[str, Any]:
    """As it comes back from the manifest."""
    return msgspec.json.decode(msgspec.json.encode(asked), type=dict[str, Any])
