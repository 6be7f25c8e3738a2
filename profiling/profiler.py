"""Takes a profile: builds the model, counts, times layers, halves and codecs, reads meters.

Every round runs one pass with a clock reading after each layer and the halves at every anchor cut, so that a drift of
the machine meets all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from splitnet.cuts import informative_cuts
from splitnet.errors import SettingsError
from splitnet.inference import exact_inference, synchronize
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.energy import find_meter, measure_j
from splitnet.profiling.facts import ModelFacts, model_facts
from splitnet.profiling.machine import machine_fingerprint
from splitnet.profiling.profile import Anchor, CodecTiming, Profile
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.slicing import cut_range, walk_cuts
from splitnet.wire.codecs import CODECS
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import Encoded, encode_values
from splitnet.wire.frames import allocate_body

Step = Callable[[int, int, str], None]
"""Is told what is done, the total (0: not known) and what is going on."""

MAX_THREADS = 1024
CODEC_CUTS = 6
CODEC_REPEATS = 5
MAX_VALUE_BYTES = 1 << 33


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """How carefully to measure.

    Attributes:
        repeats: measured rounds.
        warmup: rounds before those.
        anchors: cuts whose halves are timed alone.
        budget_s: rounds end early when this is spent and five are done.
    """

    repeats: int = 20
    warmup: int = 3
    anchors: int = 12
    budget_s: float = 120.0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise SettingsError(f"--repeats {self.repeats} is below 1; 20 is the default")
        if self.warmup < 1:
            raise SettingsError(f"--warmup {self.warmup} is below 1; the first pass builds what the others use")
        if self.anchors < 0:
            raise SettingsError(f"--anchors {self.anchors} is below 0; 12 is the default, 0 times no half alone")


def profile_model(
    ref: ModelRef,
    device: torch.device,
    threads: int,
    settings: ProfileSettings | None = None,
    step: Step = lambda done, total, text: None,
) -> Profile:
    """Profile one model on one device of this machine; sets torch's thread count.

    Raises:
        SplitnetError: the model cannot be had, or bad settings.
    """
    settings = settings or ProfileSettings()
    set_threads(threads)
    model, inputs, facts = prepare(ref, device, step)
    with exact_inference():
        step(0, 0, "timing codecs")
        timings = time_codecs(model, inputs, facts)
        layers_ns, anchors = time_rounds(model, inputs, settings, step)
        meter = find_meter(device)
        energy_j = None
        if meter is not None:
            step(0, 0, f"reading {meter.name}")
            energy_j = _energies(model, inputs, lambda run: measure_j(meter, run))
    return Profile(
        facts=facts,
        machine=machine_fingerprint(),
        device=str(device),
        threads=threads,
        layers_ns=layers_ns,
        anchors=anchors,
        codec_timings=timings,
        energy_j=energy_j,
        meter=meter.name if meter else None,
    )


def set_threads(threads: int) -> None:
    """Torch's thread count, checked.

    Raises:
        SettingsError: out of range.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise SettingsError(f"{threads} threads are outside 1..{MAX_THREADS}; give --threads 1")
    torch.set_num_threads(threads)


def prepare(ref: ModelRef, device: torch.device, step: Step) -> tuple[ResidentModel, ModelInputs, ModelFacts]:
    """A model ready to be timed, and what is known of it without a clock.

    Raises:
        ModelError: it cannot be had, or fvcore cannot follow it.
    """
    step(0, 0, f"building {ref.name}")
    model = ResidentModel(build_model(ref), device)
    inputs = ModelInputs(model)
    step(0, 0, f"counting FLOPs and bytes of {ref.name}")
    with exact_inference():
        return model, inputs, model_facts(model, inputs)


def time_rounds(
    model: ResidentModel, inputs: ModelInputs, settings: ProfileSettings, step: Step
) -> tuple[tuple[tuple[int, ...], ...], tuple[Anchor, ...]]:
    """Nanoseconds of layers in every pass, and of the halves at the anchors; call it inside `exact_inference`."""
    cuts = informative_cuts(model.graph.cuts, settings.anchors) if settings.anchors else []
    passes: list[tuple[int, ...]] = []
    halves: dict[int, list[tuple[int, int]]] = {cut: [] for cut in cuts}
    total = settings.warmup + settings.repeats
    start_s = time.monotonic()
    for number in range(total):
        step(number, total, "warming up" if number < settings.warmup else "timing layers and halves")
        if number >= settings.warmup + 5 and time.monotonic() - start_s > settings.budget_s:
            break
        taken_ns = inputs.layers_ns()
        halves_ns = {cut: inputs.halves_ns(cut) for cut in cuts}
        if number >= settings.warmup:
            passes.append(tuple(taken_ns))
            for cut, pair in halves_ns.items():
                halves[cut].append(pair)
    step(total, total, "done")
    anchors = tuple(
        Anchor(cut=cut, bottom_ns=tuple(pair[0] for pair in pairs), top_ns=tuple(pair[1] for pair in pairs))
        for cut, pairs in halves.items()
    )
    return tuple(passes), anchors


def time_codecs(model: ResidentModel, inputs: ModelInputs, facts: ModelFacts) -> tuple[CodecTiming, ...]:
    """Encoding and decoding at a few cuts of different sizes, with every codec."""
    usable = sorted((cut.payload_bytes["none"], cut.cut) for cut in facts.cuts if cut.clean and not cut.refused)
    chosen = {usable[round(place)][1] for place in np.linspace(0, len(usable) - 1, CODEC_CUTS)} if usable else set()
    timings = []
    for cut, live in walk_cuts(model.graph, inputs.flat()):
        if cut.index in chosen:
            timings += [
                _time_codec(codec, cut.index, facts.cuts[cut.index].payload_bytes["none"], live, model.device)
                for codec in CODECS
            ]
    return tuple(timings)


def _time_codec(codec: str, cut: int, raw_bytes: int, live: Sequence[Any], device: torch.device) -> CodecTiming:
    encode_ns, decode_ns = [], []
    for _ in range(CODEC_REPEATS + 1):
        synchronize(device)
        start_ns = time.monotonic_ns()
        encoded = encode_values(live, codec)
        encode_ns.append(time.monotonic_ns() - start_ns)
        body = _body(encoded)
        start_ns = time.monotonic_ns()
        decode_values(encoded.specs, body, device, max_bytes=MAX_VALUE_BYTES)
        synchronize(device)
        decode_ns.append(time.monotonic_ns() - start_ns)
    return CodecTiming(
        codec=codec, cut=cut, raw_bytes=raw_bytes, encode_ns=tuple(encode_ns[1:]), decode_ns=tuple(decode_ns[1:])
    )


def _body(encoded: Encoded) -> torch.Tensor:
    """The bytes as a frame's receiver has them."""
    joined = b"".join(encoded.buffers)
    body = allocate_body(len(joined))
    body.numpy().data[:] = joined
    return body


def _energies(
    model: ResidentModel, inputs: ModelInputs, measure: Callable[[Callable[[], object]], float | None]
) -> tuple[float | None, ...]:
    """Joules of every layer, each run alone for long enough that the meter can tell."""
    energies: list[float | None] = []
    before: tuple[Any, ...] = ()
    for cut, live in walk_cuts(model.graph, inputs.flat()):
        if cut.index:
            with torch.inference_mode(False):
                part = cut_range(model.graph, cut.index - 1, cut.index)
            given = before

            def run(part: Any = part, given: tuple[Any, ...] = given) -> None:
                part.forward(*given)
                synchronize(model.device)

            energies.append(measure(run))
        before = live
    return tuple(energies)
