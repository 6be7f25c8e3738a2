"""A profile: what one model costs on one device, layer by layer, with the raw samples.

Decides what a profile holds, how medians are read from it, and the file it is kept in: versioned JSON with a digest,
so that one that was cut short, edited or made by another version is refused and never half read. Does not know how
times are taken (`profiler.py`).

Times of a *pass* come from one forward pass of the whole model with a clock reading after every layer. Halves alone
are timed at a few *anchor* cuts; what they take more or less than the pass says corrects the other cuts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from splitnet.errors import SettingsError
from splitnet.files import read_sealed, sealed, write_sealed
from splitnet.profiling.facts import CutFacts, LayerFacts, ModelFacts, ModelIdentity
from splitnet.profiling.machine import differences
from splitnet.wire.codecs import CODECS

VERSION = 1
LAST_DIGITS = 1e-9
"""Relative: what linear algebra on another processor may change."""
SHIPPED = Path(__file__).parent / "reference"
"""Profiles that come with the package, by model name: for replay where nothing was measured yet."""
KIND = "profile"
NOT_ITS_SPEED = {"boot_digest", "usable_cores"}
"""Fields that differ from boot to boot and process to process."""
LONGEST_NS = 1 << 53
"""104 days; up to here nanoseconds are exact as floats."""
WAKE_NS = 2_000_000.0
"""How long a core that has slept for tens of milliseconds runs slower: 0.7-1 ms more over some 2.5 ms."""
SMALL_NS = 100_000.0
"""Halves below this count by their absolute error."""
Times = NDArray[np.float64]
"""Nanoseconds, one for each cut."""
AGAIN = "profile the model again with `splitnet profile MODEL -o FILE`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A cut whose halves were timed alone, one after the other."""

    cut: int
    bottom_ns: tuple[int, ...]
    top_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_samples(f"the bottom alone at cut {self.cut}", self.bottom_ns)
        _check_samples(f"the top alone at cut {self.cut}", self.top_ns)
        if len(self.bottom_ns) != len(self.top_ns):
            raise ValueError(f"the halves alone at cut {self.cut} have samples that are not in pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecTiming:
    """Encoding and decoding of one cut's live values."""

    codec: str
    cut: int
    raw_bytes: int
    encode_ns: tuple[int, ...]
    decode_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec {self.codec[:20]!r} is unknown, known are {', '.join(CODECS)}")
        if self.raw_bytes < 0:
            raise ValueError(f"codec timing at cut {self.cut} is of {self.raw_bytes} bytes")
        _check_samples(f"encoding by {self.codec} at cut {self.cut}", self.encode_ns)
        _check_samples(f"decoding by {self.codec} at cut {self.cut}", self.decode_ns)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One model on one device.

    Attributes:
        facts: what does not depend on the device.
        machine: its fingerprint.
        device: `cpu`, `cuda:0`, …
        layers_ns: [repeats][L] nanoseconds of each layer in each pass.
        anchors: halves timed alone, in the same rounds as the passes.
        codec_timings: at a few cuts of different sizes.
        energy_j: of each layer for the whole batch; None where the device has no meter that we can read, or where
            the meter is too coarse for a layer.
        meter: the meter's name.
    """

    facts: ModelFacts
    machine: dict[str, Any]
    device: str
    threads: int
    layers_ns: tuple[tuple[int, ...], ...]
    anchors: tuple[Anchor, ...]
    codec_timings: tuple[CodecTiming, ...]
    energy_j: tuple[float | None, ...] | None = None
    meter: str | None = None

    def __post_init__(self) -> None:
        depth = len(self.facts.layers)
        if not self.layers_ns or any(len(row) != depth for row in self.layers_ns):
            raise ValueError(f"a profile needs passes of {depth} layers each")
        if self.threads < 1:
            raise ValueError(f"threads {self.threads} is below 1")
        for row in self.layers_ns:
            _check_samples("a pass", row)
        for cut in [anchor.cut for anchor in self.anchors] + [timing.cut for timing in self.codec_timings]:
            if not 0 <= cut <= depth:
                raise ValueError(f"cut {cut} was timed, it is outside 0..{depth}")
        if len({anchor.cut for anchor in self.anchors}) != len(self.anchors):
            raise ValueError("the halves of one cut stand there twice")
        if (self.energy_j is None) != (self.meter is None):
            raise ValueError("energies need the name of their meter, and a meter energies")
        if self.energy_j is not None:
            if len(self.energy_j) != depth:
                raise ValueError(f"{len(self.energy_j)} energies do not fit {depth} layers")
            if not all(energy is None or 0 <= energy < math.inf for energy in self.energy_j):
                raise ValueError("a layer's energy is below 0 or no number")

    @property
    def layer_s(self) -> tuple[float, ...]:
        """Median seconds of layers 1..L."""
        return tuple(float(value) * 1e-9 for value in np.median(np.asarray(self.layers_ns), axis=0))

    @cached_property
    def prefix_s(self) -> tuple[float, ...]:
        """Seconds of the bottom at cuts 0..L."""
        return self._halves_s[0]

    @cached_property
    def suffix_s(self) -> tuple[float, ...]:
        """Seconds of the top at cuts 0..L."""
        return self._halves_s[1]

    @property
    def halves_from(self) -> tuple[str, ...]:
        """Where the times of each cut come from: `halves`, timed alone, or `pass`, corrected by the anchors."""
        anchors = {anchor.cut for anchor in self.anchors}
        return tuple("halves" if cut.cut in anchors else "pass" for cut in self.facts.cuts)

    @cached_property
    def _halves_s(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return halves_s(self.layers_ns, self.anchors)

    def to_dict(self) -> dict[str, Any]:
        """The object in the file; there with kind, version and digest."""
        identity = msgspec.to_builtins(self.facts.identity)
        energies: Sequence[float | None] = self.energy_j or [None] * len(self.facts.layers)
        samples = np.asarray(self.layers_ns).T.tolist()
        return {
            "model": {**identity, "flops": self.facts.flops, "torch_flops": self.facts.torch_flops},
            "machine": self.machine,
            "device": self.device,
            "threads": self.threads,
            "meter": self.meter,
            "layers": [
                {
                    **msgspec.to_builtins(layer),
                    "payload_bytes": cut.payload_bytes["none"],
                    "time_s": time_s,
                    "samples_ns": taken_ns,
                    "energy_j": energy_j,
                }
                for layer, cut, time_s, taken_ns, energy_j in zip(
                    self.facts.layers, self.facts.cuts[1:], self.layer_s, samples, energies, strict=True
                )
            ],
            "cuts": msgspec.to_builtins(self.facts.cuts),
            "result_bytes": self.facts.result_bytes,
            "prefix_s": list(self.prefix_s),
            "suffix_s": list(self.suffix_s),
            "halves_from": list(self.halves_from),
            "anchors": msgspec.to_builtins(self.anchors),
            "codecs": msgspec.to_builtins(self.codec_timings),
        }

    def to_file(self) -> dict[str, Any]:
        """What stands in the file, kind, version and digest with it."""
        return sealed(KIND, VERSION, self.to_dict())

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            SettingsError: the disk refuses; what was there is as it was.
        """
        write_sealed(path, KIND, VERSION, self.to_dict(), "choose another file with -o FILE")

    def check_model(self, name: str, graph: str | None = None, path: str = "the profile") -> None:
        """Insist on a model by name, and by its graph's fingerprint where one is known.

        Raises:
            SettingsError: the profile is of another.
        """
        identity = self.facts.identity
        if identity.name != name:
            raise SettingsError(f"{path} is a profile of {identity.name}, not of {name}; profile {name} first")
        if graph is not None and identity.graph != graph:
            raise SettingsError(
                f"{path} is of a graph of {name} with fingerprint {identity.graph[:12]}, here it is {graph[:12]} "
                f"(other input size, arguments or library versions); profile it again"
            )

    def unlike(self, machine: Mapping[str, Any], device: str, threads: int) -> list[str]:
        """In what a device differs from the profile's: a phrase for each field, with both values."""
        here = {**machine, "device": device, "threads": threads}
        there = {**self.machine, "device": self.device, "threads": self.threads}
        return [
            f"{name} {_short(there.get(name))} there, {_short(here.get(name))} here"
            for name in differences(there, here)
            if name not in NOT_ITS_SPEED
        ]


def _check_samples(of: str, samples_ns: Sequence[int]) -> None:
    if not samples_ns:
        raise ValueError(f"{of} has no samples")
    if not 0 <= min(samples_ns) <= max(samples_ns) <= LONGEST_NS:
        raise ValueError(f"{of} took {min(samples_ns)}..{max(samples_ns)} ns, outside 0..{LONGEST_NS}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def halves_s(
    layers_ns: Sequence[Sequence[int]], anchors: Sequence[Anchor]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of bottoms and tops at cuts 0..L, from passes and from halves timed alone.

    At an anchor its own medians stand; elsewhere the pass, corrected by what the anchors show (`correction`).
    """
    prefix, suffix = pass_medians(layers_ns)
    if anchors:
        at = np.array([anchor.cut for anchor in anchors])
        for half, alone in (
            (prefix, np.array([np.median(anchor.bottom_ns) for anchor in anchors])),
            (suffix, np.array([np.median(anchor.top_ns) for anchor in anchors])),
        ):
            half += correction(half[at], alone - half[at], half)
            half[at] = alone
    return tuple((np.maximum(prefix, 0) * 1e-9).tolist()), tuple((np.maximum(suffix, 0) * 1e-9).tolist())


def pass_medians(layers_ns: Sequence[Sequence[int]]) -> tuple[Times, Times]:
    """Median nanoseconds until each cut 0..L and from it to the end, over passes [repeats][L]."""
    layers = np.asarray(layers_ns, dtype=float)
    until = np.concatenate([np.zeros((len(layers), 1)), layers.cumsum(axis=1)], axis=1)
    return np.median(until, axis=0), np.median(until[:, -1:] - until, axis=0)


def correction(at_anchors: Times, off: Times, times: Times) -> Times:
    """What halves take more than passes say, at any cut, from what they took more at the anchors.

    A half that is run alone starts on a core that has slept, and its first `WAKE_NS` run slower by some share; a pass
    feels that in its first layers only. The share is fitted by least squares of relative errors: with a constant and
    a slope in its place, the noise of the longest halves decided.

    Args:
        at_anchors: [anchors] what the pass says there.
        off: [anchors] what the half alone took more than that.
        times: [cuts] what the pass says.
    """
    weights = 1 / (at_anchors + SMALL_NS)
    felt = np.minimum(at_anchors, WAKE_NS) * weights
    share = float(felt @ (off * weights)) / max(float(felt @ felt), 1e-30)
    return np.asarray(share * np.minimum(times, WAKE_NS))


def load_profile(where: Path | str) -> Profile:
    """A profile from its file, or one that is shipped, by its model's name.

    Raises:
        SettingsError: no such file, or not a whole, unedited profile of this version.
    """
    path = Path(where)
    shipped = SHIPPED / f"{where}.json"
    try:
        if not path.exists() and path.name == str(where):
            if not shipped.exists():
                names = ", ".join(sorted(found.stem for found in SHIPPED.glob("*.json"))) or "none"
                raise SettingsError(f"{where} is neither a profile's file nor shipped (those are {names}); {AGAIN}")
            path = shipped
    except OSError as error:  # a name that is too long, a folder that is not ours
        raise SettingsError(f"cannot read {where}: {error.strerror}; {AGAIN}") from error
    return profile_from_dict(read_sealed(path, KIND, VERSION, AGAIN), str(path))


def profile_from_dict(content: Mapping[str, Any], path: str, again: str = AGAIN) -> Profile:
    """A profile from what `to_dict` gave; `path` and the way out, `again`, are for messages.

    Raises:
        SettingsError: it is not whole, or contradicts itself.
    """
    try:
        profile = _from_dict(content)
        whole = alike(content, json.loads(json.dumps(profile.to_dict())))
    except (
        msgspec.MsgspecError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise SettingsError(
            f"{path} is not a whole profile ({' '.join(str(error).split())[:200]}); {again}"
        ) from error
    if not whole:
        raise SettingsError(f"{path} contradicts itself: its medians are not those of its samples; {again}")
    return profile


def alike(read: Any, made: Any) -> bool:
    """Whether two JSON values are equal, but for the last digits of fractions.

    Medians are corrected by a least-squares fit, whose last bits depend on the processor's linear algebra.
    """
    if isinstance(read, dict) and isinstance(made, dict):
        return read.keys() == made.keys() and all(alike(read[key], made[key]) for key in made)
    if isinstance(read, list) and isinstance(made, list):
        return len(read) == len(made) and all(map(alike, read, made))
    if isinstance(read, float) and isinstance(made, float):
        return math.isclose(read, made, rel_tol=LAST_DIGITS, abs_tol=0.0)
    return type(read) is type(made) and bool(read == made)


def _from_dict(content: Mapping[str, Any]) -> Profile:
    layers = content["layers"]
    model = dict(content["model"])
    torch_flops = model.pop("torch_flops")
    model.pop("flops")
    beside = ("payload_bytes", "time_s", "samples_ns", "energy_j")
    facts = ModelFacts(
        identity=msgspec.convert(model, ModelIdentity),
        layers=tuple(
            msgspec.convert({name: value for name, value in layer.items() if name not in beside}, LayerFacts)
            for layer in layers
        ),
        cuts=msgspec.convert(content["cuts"], tuple[CutFacts, ...]),
        result_bytes=msgspec.convert(content["result_bytes"], int),
        torch_flops=msgspec.convert(torch_flops, int),
    )
    energies = msgspec.convert([layer["energy_j"] for layer in layers], list[float | None])
    samples = msgspec.convert([layer["samples_ns"] for layer in layers], list[list[int]])
    return Profile(
        facts=facts,
        machine=msgspec.convert(content["machine"], dict[str, Any]),
        device=msgspec.convert(content["device"], str),
        threads=msgspec.convert(content["threads"], int),
        layers_ns=tuple(zip(*samples, strict=True)),
        anchors=msgspec.convert(content["anchors"], tuple[Anchor, ...]),
        codec_timings=msgspec.convert(content["codecs"], tuple[CodecTiming, ...]),
        energy_j=tuple(energies) if content["meter"] is not None else None,
        meter=msgspec.convert(content["meter"], str | None),
    )


def affine_s(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds as base + slope x bytes through (bytes, seconds), relative errors least, neither part negative."""
    sizes = np.array([size for size, _ in points], dtype=float)
    seconds = np.array([max(taken, 1e-9) for _, taken in points])
    rows = np.stack([1 / seconds, sizes / seconds], axis=1)
    (base, slope), *_ = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)
    if base < 0 or slope < 0 or not math.isfinite(base + slope):
        base, slope = (0.0, float(np.median(seconds / np.maximum(sizes, 1)))) if base < 0 else (np.median(seconds), 0)
    return float(base), float(slope)
