"""Synthetic models and profiles: every cost is planted, so that what is predicted can be worked out by hand.

And profiles of toy nets that are measured on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from splitnet.models.reference import ModelRef
from splitnet.profiling.facts import CutFacts, LayerFacts, ModelFacts, ModelIdentity
from splitnet.profiling.profile import Anchor, CodecTiming, Profile
from splitnet.profiling.profiler import ProfileSettings, profile_model

SHARES = {"none": 1, "fp16": 2, "int8": 4, "int8+lz4": 5}
"""Payload before the codec over payload after it."""
MACHINE = {"system": "Linux", "cpu_model": "Abacus 9000", "cores": 2}
QUICK = ProfileSettings(repeats=3, warmup=1, anchors=3)

Costs = tuple[float, float]
"""Seconds: base, and per byte before encoding."""


def a_layer(
    name: str = "conv",
    kind: str = "Conv2d",
    *,
    flops: int = 0,
    moved: tuple[int, int] = (0, 0),
    param_bytes: int = 0,
    config: Mapping[str, int] | None = None,
) -> LayerFacts:
    """A layer; `moved` is the activation bytes in and out."""
    return LayerFacts(
        name=name,
        kind=kind,
        flops=flops,
        uncounted=(),
        config=dict(config or {}),
        params=param_bytes // 4,
        param_bytes=param_bytes,
        input_bytes=moved[0],
        output_bytes=moved[1],
        output_shape=(1, max(1, moved[1] // 4)),
    )


def some_facts(
    layers: Sequence[LayerFacts],
    *,
    name: str = "net",
    graph: str | None = None,
    batch: int = 1,
    side: int = 8,
    payload_bytes: Sequence[int] | None = None,
    refused: Sequence[int] = (),
    result_bytes: int = 40,
) -> ModelFacts:
    """A model of these layers; the graph's fingerprint goes by its name, payloads are of cuts 0..L."""
    payload_bytes = payload_bytes or [1000] * len(layers) + [result_bytes]
    return ModelFacts(
        identity=ModelIdentity(
            name=name,
            weights=None,
            seed=0,
            batch=batch,
            input_shapes=((batch, 3, side, side),),
            graph=graph or f"graph of {name}",
            weights_digest="w",
            frontend="fx",
        ),
        layers=tuple(layers),
        cuts=tuple(
            CutFacts(
                cut=cut,
                layer=layers[cut - 1].name if cut else "input",
                clean=True,
                refused="it would give wrong results" if cut in refused else None,
                payload_bytes={codec: size // share for codec, share in SHARES.items()},
                bottom_peak_bytes=0,
                top_peak_bytes=0,
            )
            for cut, size in enumerate(payload_bytes)
        ),
        result_bytes=result_bytes,
        torch_flops=sum(layer.flops for layer in layers),
    )


def a_profile(
    facts: ModelFacts,
    layer_s: Sequence[float],
    *,
    passes: int = 3,
    anchors: Mapping[int, Costs] | None = None,
    encode: Mapping[str, Costs] | None = None,
    decode: Mapping[str, Costs] | None = None,
    machine: Mapping[str, Any] = MACHINE,
) -> Profile:
    """A profile in which every pass took the same; anchors are (bottom, top) in seconds by cut."""
    encode, decode = encode or {}, decode or {}
    sizes = {cut.payload_bytes["none"]: cut.cut for cut in facts.cuts}
    return Profile(
        facts=facts,
        machine=dict(machine),
        device="cpu",
        threads=1,
        layers_ns=((*(_ns(time_s) for time_s in layer_s),),) * passes,
        anchors=tuple(
            Anchor(cut=cut, bottom_ns=(_ns(bottom_s),), top_ns=(_ns(top_s),))
            for cut, (bottom_s, top_s) in (anchors or {}).items()
        ),
        codec_timings=tuple(
            CodecTiming(
                codec=codec,
                cut=cut,
                raw_bytes=raw_bytes,
                encode_ns=(_spent_ns(encode.get(codec), raw_bytes),),
                decode_ns=(_spent_ns(decode.get(codec), raw_bytes),),
            )
            for codec in SHARES
            for raw_bytes, cut in sizes.items()
        ),
    )


def measured(name: str = "toy_chain", settings: ProfileSettings = QUICK, batch: int = 1) -> Profile:
    """A toy net's profile, measured on this machine's CPU."""
    return profile_model(ModelRef(name, batch=batch), torch.device("cpu"), 1, settings)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _spent_ns(costs: Costs | None, raw_bytes: int) -> int:
    base_s, byte_s = costs or (0.0, 0.0)
    return _ns(base_s + byte_s * raw_bytes)
