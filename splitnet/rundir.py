"""A run's folder: `manifest.json` (what was measured, and on what) and `samples.jsonl` (every raw sample).

The manifest is written first, with status `running`; samples are appended as they are measured; at the end
the manifest is replaced by one with status `complete`, the table's rows and a digest of the samples. So a run
that was broken off can be told from a whole one, and its samples can still be read.

Decides names, atomicity and what a whole folder is. Knows nothing of how samples come about.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from splitnet.errors import SettingsError
from splitnet.files import refusals, write_json_atomic
from splitnet.measurement import BenchResult, CutRow, Sample

FORMAT = 1
"""Version of the folder's layout; a reader refuses others."""
MANIFEST = "manifest.json"
SAMPLES = "samples.jsonl"
RUNS_WAY_OUT = "choose another folder with --runs DIR"


@dataclass(frozen=True, slots=True)
class _Row:
    """A `CutRow` without its samples."""

    cut: int
    layer: str
    clean: bool
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class _Manifest:
    format: int
    status: Literal["running", "complete"]
    created: str
    model: str
    layers: int
    settings: dict[str, Any]
    machine: dict[str, Any]
    rows: tuple[_Row, ...] = ()
    local_samples_s: dict[str, tuple[float, ...]] | None = None
    samples: int | None = None
    samples_sha256: str | None = None


class RunWriter:
    """A run while it is measured: a new folder, samples appended one by one, the manifest at both ends.

        with RunWriter(root, model="resnet18", layers=69, settings=settings, machine=machine) as run:
            run.append(sample)
            ...
            result = run.finish(result)

    Leaving the block without `finish` leaves the status at `running`. A folder that cannot be begun is taken
    away again. Raises SettingsError where the disk refuses.
    """

    def __init__(
        self,
        root: Path,
        *,
        model: str,
        layers: int,
        settings: Mapping[str, Any],
        machine: Mapping[str, Any],
    ) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._manifest = _Manifest(FORMAT, "running", created, model, layers, dict(settings), dict(machine))
        self.path = create_run_dir(root, model)
        try:
            self._write_manifest()
            self._samples = SampleWriter(self.path / SAMPLES)
        except BaseException:
            with contextlib.suppress(OSError):
                (self.path / MANIFEST).unlink(missing_ok=True)
                self.path.rmdir()
            raise

    def append(self, sample: Sample) -> None:
        """Put one sample on disk."""
        self._samples.append(sample)

    def finish(self, result: BenchResult) -> BenchResult:
        """Mark the run complete; returns `result` with its `run_dir`. Its samples were appended before."""
        self._samples.close()
        held = sum(len(row.samples) for row in result.rows)
        if held != self._samples.count:
            raise ValueError(f"the result has {held} samples, its folder {self._samples.count}")
        self._manifest = replace(
            self._manifest,
            status="complete",
            settings=result.settings,
            rows=tuple(_Row(row.cut, row.layer, row.clean, row.payload_bytes) for row in result.rows),
            local_samples_s=result.local_samples_s,
            samples=held,
            samples_sha256=self._samples.sha256,
        )
        self._write_manifest()
        return replace(result, run_dir=str(self.path))

    def _write_manifest(self) -> None:
        write_json_atomic(self.path / MANIFEST, msgspec.to_builtins(self._manifest), RUNS_WAY_OUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._samples.close()


class SampleWriter:
    """Appends samples to a new JSON-lines file; a line is on disk whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._bytes = 0
        self._digest = hashlib.sha256()
        with refusals(path, RUNS_WAY_OUT):
            self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    @property
    def sha256(self) -> str:
        """Digest of all that has been written."""
        return self._digest.hexdigest()

    def append(self, sample: Sample) -> None:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        line = _encode(sample)
        rest = memoryview(line)
        try:
            with refusals(self.path, RUNS_WAY_OUT):
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._bytes)
                os.lseek(self._fd, self._bytes, os.SEEK_SET)
            raise
        self._digest.update(line)
        self._bytes += len(line)
        self.count += 1

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_run_dir(root: Path, name: str) -> Path:
    """A new folder under `root`, named after the time in UTC and `name`; `root` is made where it is missing.

    Never one that existed before. Raises SettingsError where the disk refuses.
    """
    tame = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:] or "run"
    stem = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{tame}"
    if root.exists() and not root.is_dir():
        raise SettingsError(f"cannot write {root}: Not a directory; {RUNS_WAY_OUT}")
    with refusals(root, RUNS_WAY_OUT):
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = root / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path


def load_samples(path: Path) -> tuple[Sample, ...]:
    """All samples of a JSON-lines file, in the order in which they were measured.

    Raises SettingsError, naming the line, for a file that is missing, cut short or not of samples.
    """
    return _parse_samples(path, _read(path))


def load_result(run_dir: Path) -> BenchResult:
    """The result of a complete run, as `RunWriter.finish` returned it.

    Raises SettingsError for a folder that is missing, broken off, cut short or edited.
    """
    manifest = _load_manifest(run_dir / MANIFEST)
    path = run_dir / SAMPLES
    if manifest.status != "complete":
        raise _broken(run_dir, f"the run was broken off (its samples: load_samples on {SAMPLES})")
    content = _read(path)
    samples = _parse_samples(path, content)
    if len(samples) != manifest.samples:
        raise _broken(path, f"{len(samples)} samples, not {manifest.samples} as measured")
    if hashlib.sha256(content).hexdigest() != manifest.samples_sha256:
        raise _broken(path, "edited since it was measured")
    by_cut: dict[int, list[Sample]] = {}
    for sample in samples:
        by_cut.setdefault(sample.cut, []).append(sample)
    cuts = [row.cut for row in manifest.rows]
    if not cuts or len(set(cuts)) != len(cuts) or set(cuts) != set(by_cut):
        raise _broken(run_dir, f"the rows of {MANIFEST} are not the cuts of {SAMPLES}")
    if not all(0 <= cut <= manifest.layers for cut in cuts):
        raise _broken(run_dir / MANIFEST, f"a cut outside 0..{manifest.layers}")
    local = manifest.local_samples_s or {}
    if not all(local.values()):
        raise _broken(run_dir / MANIFEST, "local_samples_s has a role without samples")
    rows = tuple(
        CutRow(row.cut, row.layer, row.clean, row.payload_bytes, tuple(by_cut[row.cut])) for row in manifest.rows
    )
    return BenchResult(manifest.model, manifest.layers, rows, local, manifest.settings, str(run_dir))


def _load_manifest(path: Path) -> _Manifest:
    try:
        obj = msgspec.json.decode(_read(path))
        if isinstance(obj, dict) and obj.get("format", FORMAT) != FORMAT:
            raise SettingsError(f"{path}: layout {obj['format']!r}; this splitnet reads layout {FORMAT}")
        return msgspec.convert(obj, _Manifest)
    except msgspec.MsgspecError as error:
        raise _broken(path, str(error)) from error


def _broken(path: Path, what: str) -> SettingsError:
    return SettingsError(f"{path}: {what}; measure again")


def _parse_samples(path: Path, content: bytes) -> tuple[Sample, ...]:
    lines = content.split(b"\n")
    if lines[-1]:
        raise _broken(path, f"line {len(lines)} is cut short")
    return tuple(_decode(path, number, line) for number, line in enumerate(lines[:-1], 1))


def _encode(sample: Sample) -> bytes:
    obj = msgspec.to_builtins(sample)
    if not math.isfinite(sample.max_error):  # JSON has no number for it
        obj["max_error"] = str(sample.max_error)
    return msgspec.json.encode(obj) + b"\n"


def _decode(path: Path, number: int, line: bytes) -> Sample:
    try:
        obj = msgspec.json.decode(line)
        if isinstance(obj, dict) and obj.get("max_error") in ("nan", "inf"):
            obj["max_error"] = float(obj["max_error"])
        return msgspec.convert(obj, Sample)
    except msgspec.MsgspecError as error:
        raise _broken(path, f"line {number}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; name a run's folder") from error
