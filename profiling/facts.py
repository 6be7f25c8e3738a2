"""What a model is, before any clock is read: FLOPs, parameters and bytes of every layer, and what crosses each cut.

Latency models read these records; for a model that was never profiled they are all there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from splitnet.graph import LayerGraph, operation
from splitnet.profiling.flops import count_flops
from splitnet.profiling.memory import cut_memory
from splitnet.profiling.timing import layer_of_node
from splitnet.recording import fetch_attribute
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.slicing import walk_cuts
from splitnet.wire.codecs import CODECS
from splitnet.wire.encoding import encode_values

Walk = Callable[[int, Sequence[Any]], None]
"""Is shown the live values of each cut in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model: enough to build it again, and the fingerprints that say whether it is the same."""

    name: str
    weights: str | None
    seed: int
    batch: int
    input_shapes: tuple[tuple[int, ...], ...]
    graph: str
    weights_digest: str
    frontend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One layer of one model.

    Attributes:
        flops: per data point, whatever the batch (chi; one multiply-add = 1, as fvcore counts).
        uncounted: operations that fvcore has no handle for.
        config: sizes that decide how fast a layer of this kind runs: `kernel` and `stride` (products over the
            dimensions), `groups`, `in`, `out`; of convolutions, pooling and linear layers.
        params, param_bytes: of the parameters that the layer reads; buffers (running means) not counted.
        input_bytes, output_bytes: activations that it reads and writes, the whole batch.
        output_shape: of its (first) output tensor, batch included.
    """

    name: str
    kind: str
    flops: int
    uncounted: tuple[str, ...]
    config: dict[str, int]
    params: int
    param_bytes: int
    input_bytes: int
    output_bytes: int
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = (self.flops, self.params, self.param_bytes, self.input_bytes, self.output_bytes)
        if min(sizes) < 0:
            raise ValueError(f"layer {self.name} has a negative size: {sizes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFacts:
    """What crosses one cut, and what its halves need.

    Attributes:
        layer: name of the bottom's last layer, `input` for cut 0.
        clean: one tensor crosses.
        payload_bytes: of all live tensors together, by codec, the whole batch.
        bottom_peak_bytes, top_peak_bytes: weights and live activations at the worst moment of each half.
    """

    cut: int
    layer: str
    clean: bool
    refused: str | None
    payload_bytes: dict[str, int]
    bottom_peak_bytes: int
    top_peak_bytes: int

    def __post_init__(self) -> None:
        if not self.payload_bytes.keys() >= set(CODECS):
            raise ValueError(f"cut {self.cut} has payloads by {sorted(self.payload_bytes)}, not by {sorted(CODECS)}")
        if min(*self.payload_bytes.values(), self.bottom_peak_bytes, self.top_peak_bytes) < 0:
            raise ValueError(f"cut {self.cut} has a negative size")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's layers 1..L and cuts 0..L.

    Attributes:
        result_bytes: of the output, unencoded, the whole batch.
        torch_flops: torch's own count of the whole per data point, halved to multiply-adds, as a cross-check.
    """

    identity: ModelIdentity
    layers: tuple[LayerFacts, ...]
    cuts: tuple[CutFacts, ...]
    result_bytes: int
    torch_flops: int

    def __post_init__(self) -> None:
        if len(self.cuts) != len(self.layers) + 1 or not self.layers:
            raise ValueError(f"{len(self.cuts)} cuts do not fit {len(self.layers)} layers")
        if [cut.cut for cut in self.cuts] != list(range(len(self.cuts))):
            raise ValueError("cuts are not numbered 0..L in order")
        if [cut.layer for cut in self.cuts[1:]] != [layer.name for layer in self.layers]:
            raise ValueError("cuts 1..L do not have the names of the layers before them")
        if self.result_bytes < 0 or self.torch_flops < 0:
            raise ValueError(f"{self.result_bytes} bytes of result, {self.torch_flops} FLOPs: below 0")

    @property
    def flops(self) -> int:
        """FLOPs of the whole model per data point."""
        return sum(layer.flops for layer in self.layers)


def model_facts(model: ResidentModel, inputs: ModelInputs, walk: Walk = lambda cut, live: None) -> ModelFacts:
    """Count, size and name everything, with one forward pass for the FLOPs and one for the payloads.

    Args:
        walk: is shown the live values of each cut on that second pass, on the model's device.

    Raises:
        ModelError: fvcore cannot follow the model.
    """
    graph, ref = model.graph, model.built.ref
    counted = count_flops(graph, inputs.flat(), ref.batch)
    payloads, result_bytes = _payloads(graph, inputs, walk)
    with torch.inference_mode(False):  # it watches the version counters, which inference tensors have not
        peaks = cut_memory(graph, inputs.flat())
    nodes = _nodes_by_layer(graph)
    return ModelFacts(
        identity=ModelIdentity(
            name=ref.name,
            weights=ref.weights,
            seed=ref.seed,
            batch=ref.batch,
            input_shapes=tuple(tuple(value.shape) for _, value in model.example() if isinstance(value, torch.Tensor)),
            graph=graph.fingerprint.graph,
            weights_digest=graph.fingerprint.weights,
            frontend=graph.trace.frontend,
        ),
        layers=tuple(
            _layer_facts(graph, layer.index, nodes[layer.index], counted.layers[layer.index - 1], counted.uncounted)
            for layer in graph.layers
        ),
        cuts=tuple(
            CutFacts(
                cut=cut.index,
                layer=cut.layer,
                clean=cut.clean,
                refused=cut.refused,
                payload_bytes=payload,
                bottom_peak_bytes=peak.bottom_peak_bytes,
                top_peak_bytes=peak.top_peak_bytes,
            )
            for cut, payload, peak in zip(graph.cuts, payloads, peaks, strict=True)
        ),
        result_bytes=result_bytes,
        torch_flops=counted.torch_total,
    )


def _payloads(graph: LayerGraph, inputs: ModelInputs, walk: Walk) -> tuple[list[dict[str, int]], int]:
    """Encoded bytes of every cut by codec, and of the result, on one pass layer by layer."""
    payloads = []
    for cut, live in walk_cuts(graph, inputs.flat()):
        payloads.append({codec: encode_values(live, codec).payload_bytes for codec in CODECS})
        walk(cut.index, live)
    return payloads, payloads[-1]["none"]


def _nodes_by_layer(graph: LayerGraph) -> list[list[fx.Node]]:
    nodes: list[list[fx.Node]] = [[] for _ in range(graph.last_cut + 2)]
    layers = layer_of_node(graph)
    for node in graph.trace.root.graph.nodes:
        nodes[layers[node.name]].append(node)
    return nodes


def _layer_facts(
    graph: LayerGraph, index: int, nodes: list[fx.Node], flops: int, uncounted: dict[str, tuple[str, ...]]
) -> LayerFacts:
    layer = graph.layers[index - 1]
    node = next(node for node in nodes if node.name == layer.node)
    outputs = graph.records[layer.node].tensors
    activations = [used for used in node.all_input_nodes if graph.positions[used.name] is not None]
    weights = _weights(graph, nodes)
    return LayerFacts(
        name=layer.name,
        kind=layer.kind,
        flops=flops,
        uncounted=uncounted.get(layer.name, ()),
        config=_config(graph, node),
        params=sum(weight.numel() for weight in weights),
        param_bytes=sum(weight.numel() * weight.itemsize for weight in weights),
        input_bytes=sum(tensor.nbytes for used in activations for tensor in graph.records[used.name].tensors),
        output_bytes=sum(tensor.nbytes for tensor in outputs),
        output_shape=outputs[0].shape if outputs else (),
    )


def _weights(graph: LayerGraph, nodes: Sequence[fx.Node]) -> list[torch.Tensor]:
    """Parameters that these nodes read, each once."""
    found: dict[int, torch.Tensor] = {}
    for node in nodes:
        if node.op == "call_module":
            module = graph.trace.root.get_submodule(str(node.target))
            tensors: list[torch.Tensor] = list(module.parameters())
        else:
            reads = [used for used in node.all_input_nodes if used.op == "get_attr"]
            tensors = [
                value
                for used in reads
                if isinstance(value := fetch_attribute(graph.trace.root, str(used.target)), nn.Parameter)
            ]
        found |= {id(tensor): tensor for tensor in tensors}
    return list(found.values())


def _config(graph: LayerGraph, node: fx.Node) -> dict[str, int]:
    """Of convolutions, linear layers and pooling, by module or by function."""
    if node.op == "call_module":
        module = graph.trace.root.get_submodule(str(node.target))
        if isinstance(module, nn.modules.conv._ConvNd):
            return {
                "kernel": _product(module.kernel_size),
                "stride": _product(module.stride),
                "groups": module.groups,
                "in": module.in_channels,
                "out": module.out_channels,
            }
        if isinstance(module, nn.Linear):
            return {"in": module.in_features, "out": module.out_features}
        if isinstance(module, nn.modules.pooling._MaxPoolNd | nn.modules.pooling._AvgPoolNd):
            return _pool_config(graph, node, module.kernel_size, module.stride)
        return {}
    weights = [value for value in _weights(graph, [node]) if value.dim() >= 2]
    name = operation(node)
    if re.fullmatch(r"conv(_transpose)?[123]d|convolution", name) and weights:
        groups = int(_argument(node, "groups", 8 if name == "convolution" else 6, 1))
        first, second, *kernel = weights[0].shape  # [out, in / groups, …], transposed [in, out / groups, …]
        transposed = "transpose" in name or (name == "convolution" and bool(_argument(node, "transposed", 6, False)))
        return {
            "kernel": _product(kernel),
            "stride": _product(_per_dimension(_argument(node, "stride", 3, 1), len(kernel))),
            "groups": groups,
            "in": first if transposed else second * groups,
            "out": second * groups if transposed else first,
        }
    if re.fullmatch(r"(max|avg)_pool[123]d(_with_indices)?", name):
        kernel_size = _argument(node, "kernel_size", 1, 1)
        return _pool_config(graph, node, kernel_size, _argument(node, "stride", 2, None) or kernel_size)
    if name == "linear" and weights:
        return {"in": weights[0].shape[1], "out": weights[0].shape[0]}
    return {}


def _pool_config(graph: LayerGraph, node: fx.Node, kernel: Any, stride: Any) -> dict[str, int]:
    dimensions = len(graph.records[node.name].tensors[0].shape) - 2
    return {
        "kernel": _product(_per_dimension(kernel, dimensions)),
        "stride": _product(_per_dimension(stride, dimensions)),
    }


def _argument(node: fx.Node, name: str, place: int, default: Any) -> Any:
    return node.kwargs.get(name, node.args[place] if len(node.args) > place else default)


def _per_dimension(given: Any, dimensions: int) -> list[int]:
    sizes = list(given) if isinstance(given, list | tuple) else [given]
    return sizes * dimensions if len(sizes) == 1 else sizes


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= int(size)
    return product
