"""Peak memory of both halves at every cut, from the layer graph and one run of it.

A half's peak is the bytes of the weights it uses plus the most bytes of activations that live at one instant. An
activation is a storage, counted once however many values look at it, and it lives from the node that makes it to
the last node that reads it: a layer's inputs and outputs are both there while it runs.

What is not in it: kernels' workspaces and what lives inside one layer only (max pooling's indices, the scores of
a MultiheadAttention), rounding and slack of the allocator, the codec's and the link's buffers, the libraries
themselves; nor weights that are neither parameters nor buffers (the packed ones of quantised modules). Two halves
in one process share weights that are counted here for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError
from splitnet.graph import LayerGraph
from splitnet.inference import clone_tensors, fused_attention_paused, synchronize
from splitnet.recording import _run_nodes, _Storages, does_not_run, fetch_attribute
from splitnet.slicing import _needed


@dataclass(frozen=True, slots=True)
class CutMemory:
    """What each half of one cut needs, in bytes, for inputs of the batch and size that were given."""

    cut: int
    bottom_weights_bytes: int
    """Parameters and buffers that the bottom uses, shared ones once."""
    bottom_activations_bytes: int
    """The most that lives at one instant while the bottom runs."""
    top_weights_bytes: int
    top_activations_bytes: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def bottom_peak_bytes(self) -> int:
        return self.bottom_weights_bytes + self.bottom_activations_bytes

    @property
    def top_peak_bytes(self) -> int:
        return self.top_weights_bytes + self.top_activations_bytes


def cut_memory(graph: LayerGraph, inputs: Sequence[Any], *, inputs_held: bool = False) -> tuple[CutMemory, ...]:
    """Peak memory at cuts 0..L (refused ones too). The graph is run once; the rest is counting.

    The bottom's inputs, and the top's received values, are there from the start until their last use, as the
    halves' code drops them; what a half gives stays. A received tensor has a storage of its own, as it comes over
    a link: a view that was shipped is no larger than its payload.

    Args:
        graph: on any device.
        inputs: flat inputs of one pass on that device, which are not changed.
        inputs_held: whoever calls the halves keeps what it gives them until they end, as a worker does that has
            them in a variable; then inputs and received values stay to the end.

    Raises:
        ModelError: the model does not run on these inputs.
    """
    run = _record(graph, inputs)
    peaks = []
    for cut in graph.cuts:
        below, above = _needed(graph, -1, cut.index), _needed(graph, cut.index, graph.last_cut + 1)
        shipped = [run.nodes[value.node] for value in cut.live]
        received = {node: tuple((node, place) for place in range(len(run.payloads[node]))) for node in shipped}
        peaks.append(
            CutMemory(
                cut=cut.index,
                bottom_weights_bytes=run.weights_bytes(below),
                bottom_activations_bytes=_peak_bytes(run, below, {}, {*shipped}, inputs_held),
                top_weights_bytes=run.weights_bytes(above),
                top_activations_bytes=_peak_bytes(run, above, received, set(), inputs_held),
            )
        )
    return tuple(peaks)


def measure_peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that torch had allocated on a CUDA device at one instant of `run`; None on any other device.

    All that lies on the device counts, weights of models that `run` does not touch too; so do kernels' workspaces
    that torch's allocator gave, and its rounding to 512 bytes.
    """
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))


Storage = int | tuple[fx.Node, int]
"""A storage's number in the recorded run; in a top, (live value, tensor) for one that came over the link."""


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One recorded run, in order.

    Attributes:
        nodes: by name.
        reads: the nodes that each node takes values from.
        held: the storages that each node's value holds, one entry a tensor.
        payloads: in the same places, the tensor's bytes as they would cross a link.
        sizes: bytes of each storage; 0 for the model's own, which count among the weights.
        weights: the bytes of the parameters and buffers that each node uses, by address.
    """

    nodes: dict[str, fx.Node]
    reads: dict[fx.Node, tuple[fx.Node, ...]]
    held: dict[fx.Node, tuple[int, ...]]
    payloads: dict[fx.Node, tuple[int, ...]]
    sizes: dict[Storage, int]
    weights: dict[fx.Node, dict[int, int]]

    def weights_bytes(self, nodes: Iterable[fx.Node]) -> int:
        used: dict[int, int] = {}
        for node in nodes:
            used.update(self.weights[node])
        return sum(used.values())


def _record(graph: LayerGraph, inputs: Sequence[Any]) -> _Run:
    root = graph.trace.root
    nodes = list(root.graph.nodes)
    storages = _Storages()
    owned = [tensor for node in nodes if node.op == "get_attr" for tensor in _tensors(_attribute(root, node))]
    own = {storages.number(tensor) for tensor in (*root.parameters(), *root.buffers(), *owned)}
    held: dict[fx.Node, tuple[int, ...]] = {}
    payloads: dict[fx.Node, tuple[int, ...]] = {}
    sizes: dict[Storage, int] = {}
    try:
        # `_run_nodes` reads version counters, which inference mode does not keep
        with fused_attention_paused(), torch.inference_mode(False), torch.no_grad():
            for node, _, _, value in _run_nodes(root, clone_tensors(tuple(inputs))):
                tensors = _tensors(value)
                infos = [storages.describe(tensor) for tensor in tensors]
                held[node] = tuple(info.storage for info in infos)
                payloads[node] = tuple(info.nbytes for info in infos)
                for number, tensor in zip(held[node], tensors, strict=True):
                    nbytes = 0 if number in own else tensor.untyped_storage().nbytes()
                    sizes[number] = max(sizes.get(number, 0), nbytes)
    except Exception as error:  # whatever the model's own code raises
        raise ModelError(does_not_run(graph.name, list(inputs), error)) from error
    return _Run(
        nodes={node.name: node for node in nodes},
        reads={node: tuple(node.all_input_nodes) for node in nodes},
        held=held,
        payloads=payloads,
        sizes=sizes,
        weights={node: _weights(root, node) for node in nodes},
    )


def _weights(root: nn.Module, node: fx.Node) -> dict[int, int]:
    """Parameters and buffers that a node uses: bytes by address."""
    found: list[torch.Tensor] = []
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        found = [*module.parameters(), *module.buffers()]
    elif node.op == "get_attr":
        found = _tensors(_attribute(root, node))
    return {tensor.data_ptr(): tensor.nbytes for tensor in found}


def _attribute(root: nn.Module, node: fx.Node) -> Any:
    return fetch_attribute(root, str(node.target))


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _peak_bytes(
    run: _Run,
    part: AbstractSet[fx.Node],
    received: Mapping[fx.Node, tuple[Storage, ...]],
    kept: AbstractSet[fx.Node],
    inputs_held: bool,
) -> int:
    """The most bytes that live at one instant while a half runs.

    Args:
        part: the half's own nodes, those of a bottom with the model's inputs.
        received: a top's live values, with the storages they came in.
        kept: values that the half gives.
    """
    holds: dict[fx.Node, tuple[Storage, ...]] = {}
    sizes = dict(run.sizes)
    holders: Counter[Storage] = Counter()
    live_bytes = 0

    def hold(node: fx.Node, storages: tuple[Storage, ...]) -> None:
        nonlocal live_bytes
        holds[node] = storages
        for storage in storages:
            live_bytes += 0 if holders[storage] else sizes[storage]
            holders[storage] += 1

    def drop(node: fx.Node) -> None:
        nonlocal live_bytes
        for storage in holds[node]:
            holders[storage] -= 1
            live_bytes -= 0 if holders[storage] else sizes[storage]

    order = [node for node in run.reads if node in part and node not in received]
    last_reader = {used: node for node in order for used in run.reads[node]}
    for node, fresh in received.items():
        sizes.update(zip(fresh, run.payloads[node], strict=True))
        hold(node, fresh)
    for node in order:
        if node.op == "placeholder":
            hold(node, run.held[node])
    # a placeholder that nothing reads stays in any case, as FX's code never drops it
    stays = {*kept, *holds} if inputs_held else kept
    peak_bytes = live_bytes
    for node in order:
        if node.op in ("placeholder", "output"):
            continue
        hold(node, _storages_in_half(run, node, holds))
        peak_bytes = max(peak_bytes, live_bytes)
        for done in {node, *run.reads[node]} - stays:
            if last_reader.get(done, done) is node:
                drop(done)
    return peak_bytes


def _storages_in_half(run: _Run, node: fx.Node, holds: Mapping[fx.Node, tuple[Storage, ...]]) -> tuple[Storage, ...]:
    """The recorded storages of a value, or those that stand for them where it looks at what was received."""
    stands_for: dict[int, Storage] = {}
    for used in run.reads[node]:
        for recorded, storage in zip(run.held[used], holds[used], strict=True):
            stands_for.setdefault(recorded, storage)
    return tuple(stands_for.get(recorded, recorded) for recorded in run.held[node])
