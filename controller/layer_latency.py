"""`per-layer`: a regression for each kind of layer, for models that were never profiled on the device.

Seconds of a layer = call overhead + FLOPs x a + bytes moved x b, with a, b and the overhead its kind's own and none
of them negative, fitted to the layers of a corpus of profiles by least squares. What a kind is: a convolution of 1x1
runs at another speed than one of 3x3 or a depthwise one, so kernel, stride and groups are part of it. A kind of which
the corpus has too few, or too few that differ, is predicted by the nearest wider kind, at the widest by all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from splitnet.controller.latency import DeviceLatency, Seconds
from splitnet.profiling.facts import LayerFacts, ModelFacts
from splitnet.profiling.profile import Profile

FEW = 6
"""A kind is fitted on its own from this many layers up, if they have at least `DIFFERENT` different sizes."""
DIFFERENT = 4
PRODUCTS = {"linear", "multiheadattention", "shiftedwindowattention", "scaleddotproductattention", "matmul", "bmm"}
"""Kinds that spend their time in matrix products."""
ROUNDING_S = 5e-6
"""Layers below this count alike: a call is no more exact than that."""


@dataclass(frozen=True)
class LayerLatency(DeviceLatency):
    """The fitted regressions of one device.

    Attributes:
        weights: by kind, seconds per unit of each of `features`.
    """

    weights: dict[str, tuple[float, ...]] = field(repr=False)
    name = "per-layer"

    def layer_s(self, layer: LayerFacts, batch: int) -> float:
        """Seconds of one layer."""
        kind = next(kind for kind in kinds(layer) if kind in self.weights)
        return float(np.dot(features(layer, batch), self.weights[kind]))

    def bottom_s(self, facts: ModelFacts) -> Seconds:
        times = [self.layer_s(layer, facts.identity.batch) for layer in facts.layers]
        return np.append(0.0, np.cumsum(times))

    def top_s(self, facts: ModelFacts) -> Seconds:
        bottoms = self.bottom_s(facts)
        return np.asarray(bottoms[-1] - bottoms)


def kinds(layer: LayerFacts) -> tuple[str, ...]:
    """What a layer is, from the narrowest kind to the widest."""
    name = layer.kind.lower().replace("_", "")  # a module or a function: MaxPool2d, max_pool2d
    config = layer.config
    found = []
    pools = "kernel" in config and "groups" not in config
    if pools:
        found += [f"{name} {config['kernel']} / {config['stride']}"]
    elif "kernel" in config:
        depthwise = config["groups"] > 1 and config["groups"] == config["in"]
        way = "depthwise" if depthwise else "grouped" if config["groups"] > 1 else "dense"
        stride = config.get("stride", 1)
        found += [f"{name} {way} {config['kernel']} / {stride}", f"{name} {way} {config['kernel']}", f"{name} {way}"]
    family = ["product"] if name in PRODUCTS else ["pool"] if pools else []
    return (*found, name, *family, "any with FLOPs" if layer.flops else "any without FLOPs", "any")


def features(layer: LayerFacts, batch: int) -> tuple[float, ...]:
    """1 (the call), FLOPs of the batch, activation bytes moved, parameter bytes, bytes that pooling windows see."""
    windows = layer.output_bytes * layer.config.get("kernel", 0) if "groups" not in layer.config else 0
    moved = layer.input_bytes + layer.output_bytes
    return (1.0, float(layer.flops * batch), float(moved), float(layer.param_bytes), float(windows))


def fit_layers(profiles: Sequence[Profile]) -> LayerLatency:
    """Fit every kind that the profiles have enough layers of.

    Squared errors are weighed by 1/time. Relative errors (1/time^2) make totals too low, since a layer that was
    disturbed counts less than one that was not; plain ones let the few slowest layers decide.

    Raises:
        ValueError: there is no profile.
    """
    rows: dict[str, list[tuple[tuple[float, ...], float]]] = {}
    for profile in profiles:
        for layer, time_s in zip(profile.facts.layers, profile.layer_s, strict=True):
            for kind in kinds(layer):
                rows.setdefault(kind, []).append((features(layer, profile.facts.identity.batch), time_s))
    if not rows:
        raise ValueError("a regression needs at least one profile")
    return LayerLatency({kind: _fit(found) for kind, found in rows.items() if kind == "any" or _enough(found)})


def _enough(rows: Sequence[tuple[tuple[float, ...], float]]) -> bool:
    return len(rows) >= FEW and len({row for row, _ in rows}) >= DIFFERENT


def held_out_errors(profiles: Sequence[Profile]) -> dict[str, dict[str, float]]:
    """Each model predicted by a fit to the others: seconds of the whole, and the error as a fraction."""
    found = {}
    for profile in profiles:
        name = profile.facts.identity.name
        others = [other for other in profiles if other.facts.identity.name != name]
        if others:
            measured_s = float(np.median(np.sum(profile.layers_ns, axis=1))) * 1e-9
            predicted_s = float(fit_layers(others).bottom_s(profile.facts)[-1])
            found[name] = {
                "measured_s": measured_s,
                "predicted_s": predicted_s,
                "error": predicted_s / measured_s - 1,
            }
    return found


def _fit(rows: Sequence[tuple[tuple[float, ...], float]]) -> tuple[float, ...]:
    matrix = np.array([row for row, _ in rows])
    seconds = np.array([time_s for _, time_s in rows])
    weight = 1 / np.sqrt(seconds + ROUNDING_S)
    scale = np.maximum(matrix.max(axis=0), 1e-30)  # FLOPs and ones in one matrix
    solution, _ = nnls(matrix / scale * weight[:, None], seconds * weight)
    return tuple(float(value) for value in solution / scale)
