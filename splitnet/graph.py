"""The layer graph: which layers a model has, in order, and what crosses a cut after each of them.

A *layer* is a leaf-level compute node. Layers 1..L stand in execution order; cut k puts layers 1..k into the
bottom and the rest into the top. Nodes that compute nothing (sizes, indexing that makes a view, and view
operations that never copy) belong to the layer that produced what they look at; nodes that do not depend on the
input (a position bias) are part of whichever half needs them. What crosses cut k is its *live set*: the values
that the bottom makes and the top, or the output, still reads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from splitnet.cuts import find_cut
from splitnet.errors import ModelError
from splitnet.fingerprint import Fingerprint, fingerprint
from splitnet.recording import NodeRecord, TensorInfo, record
from splitnet.tracing import Trace, trace, trace_export

INPUT = "input"
"""The name of what stands before layer 1; the layer name of cut 0."""

VIEWS_THAT_NEVER_COPY = frozenset(
    [
        "view",
        "view_as",
        "expand",
        "expand_as",
        "unsqueeze",
        "squeeze",
        "permute",
        "transpose",
        "swapaxes",
        "swapdims",
        "movedim",
        "moveaxis",
        "t",
        "select",
        "slice",
        "narrow",
        "getitem",
        "unflatten",
        "alias",
        "detach",
    ]
)
"""flatten and reshape may copy, so they are layers; chunk and split make several tensors, so they are too."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, counted from 1."""

    index: int
    name: str
    kind: str
    """Class of the module (`Conv2d`) or name of the operation (`add`)."""
    node: str
    """Name of its node in the traced graph."""


@dataclass(frozen=True, slots=True)
class LiveValue:
    """One value that crosses a cut."""

    name: str
    """The layer, or input, that made it."""
    node: str
    value: Any
    """Its nesting, with `TensorInfo` for tensors and plain values as they are."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(leaf for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, TensorInfo))


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition point: layers 1..index on the gateway, the rest on the AP."""

    index: int
    layer: str
    live: tuple[LiveValue, ...]
    refused: str | None = None
    """Why this cut cannot be right, when it cannot."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(tensor for value in self.live for tensor in value.tensors)

    @property
    def clean(self) -> bool:
        """One tensor crosses."""
        return len(self.tensors) == 1

    @property
    def payload_bytes(self) -> int:
        """Bytes of all live tensors, before any codec."""
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class LayerGraph:
    """A model as layers and cuts. Made by `layer_graph`.

    Attributes:
        layers: layers 1..L; `layers[0]` is layer 1.
        cuts: cuts 0..L.
        positions: the layer to which each node of the traced graph belongs; None for nodes that do not depend
            on the input.
        readers: of each in-place node that does not depend on the input, the later nodes that see its change.
        records: what each node gave and did on the example inputs.
        changes_input: a forward pass changes its input in place, so repeats need copies.
    """

    name: str
    trace: Trace
    layers: tuple[Layer, ...]
    cuts: tuple[Cut, ...]
    positions: dict[str, int | None] = field(repr=False)
    readers: dict[str, frozenset[str]] = field(repr=False)
    records: dict[str, NodeRecord] = field(repr=False)
    fingerprint: Fingerprint
    changes_input: bool

    def __post_init__(self) -> None:
        if len(self.cuts) != len(self.layers) + 1:
            raise ValueError(f"{len(self.cuts)} cuts do not fit {len(self.layers)} layers")

    @property
    def last_cut(self) -> int:
        """L: all on the gateway."""
        return len(self.layers)

    def cut(self, where: int | str) -> Cut:
        """The cut by its number 0..L, or after the layer of that name.

        Raises:
            CutError: there is no such cut, or it is refused.
        """
        return self.cuts[find_cut(str(where), self.cuts, self.name)]

    def to_records(self) -> list[dict[str, Any]]:
        """One flat record per cut: `pandas.DataFrame(graph.to_records())`."""
        kinds = {layer.index: layer.kind for layer in self.layers}
        return [
            {
                "cut": cut.index,
                "layer": cut.layer,
                "kind": kinds.get(cut.index, INPUT),
                "live": len(cut.live),
                "clean": cut.clean,
                "payload_bytes": cut.payload_bytes,
                "shapes": [list(tensor.shape) for tensor in cut.tensors],
                "refused": cut.refused,
            }
            for cut in self.cuts
        ]


def layer_graph(
    model: nn.Module,
    args: tuple[Any, ...] | torch.Tensor | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    name: str | None = None,
    exported: Any | None = None,
) -> LayerGraph:
    """Trace a model and find its layers, cuts and live sets.

    Args:
        model: any module; it is put into eval mode, and its parameters are shared, not copied.
        args: example inputs (a tensor or a tuple); by default one random image [1, 3, 224, 224].
        kwargs: example keyword inputs.
        name: what messages call the model; by default its class.
        exported: the `torch.export` program that `model` came from.

    Raises:
        ModelError: it cannot be traced, or does not run on the example inputs.
    """
    if args is None and not kwargs:
        args = (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)
    args = (args,) if isinstance(args, torch.Tensor) else tuple(args or ())
    kwargs = dict(kwargs or {})
    traced = trace(model, args, kwargs, exported)
    try:
        records = record(traced, model, args, kwargs)
    except ModelError as error:
        if traced.frontend == "export" or "graph of" not in str(error):
            raise
        traced = trace_export(model, args, kwargs, str(error))
        records = record(traced, model, args, kwargs)
    return _assemble(name or type(model).__name__, model, traced, records)


def _assemble(name: str, model: nn.Module, traced: Trace, records: dict[str, NodeRecord]) -> LayerGraph:
    nodes = list(traced.root.graph.nodes)
    layer_nodes = [node for node in nodes if _is_layer(node, records)]
    positions = _positions(nodes, layer_nodes, records)
    layers = _name_layers(model, traced, [node for node in layer_nodes if positions[node.name] is not None])
    owner = {layer.index: layer.name for layer in layers}
    cuts = []
    for index in range(len(layers) + 1):
        live = tuple(
            LiveValue(
                name=str(node.target) if node.op == "placeholder" else owner.get(positions[node.name] or 0, INPUT),
                node=node.name,
                value=records[node.name].value,
            )
            for node in nodes
            if _is_live(node, index, positions)
        )
        refused = _refusal(index, live, nodes, positions, records)
        cuts.append(Cut(index, owner.get(index, INPUT), live, refused))
    inputs = {tensor.storage for node in nodes if node.op == "placeholder" for tensor in records[node.name].tensors}
    return LayerGraph(
        name=name,
        trace=traced,
        layers=layers,
        cuts=tuple(cuts),
        positions=positions,
        readers=_readers(nodes, positions, records),
        records=records,
        fingerprint=fingerprint(traced.root),
        changes_input=any(node_record.changed & inputs for node_record in records.values()),
    )


def _is_layer(node: fx.Node, records: dict[str, NodeRecord]) -> bool:
    found = records[node.name]
    if node.op in ("placeholder", "get_attr", "output"):
        return False
    if node.op == "call_module" or found.changed:
        return True
    if not found.tensors:
        return False
    looks = operation(node) in VIEWS_THAT_NEVER_COPY
    return not (looks and all(tensor.storage in found.reads for tensor in found.tensors))


def _positions(
    nodes: list[fx.Node], layer_nodes: list[fx.Node], records: dict[str, NodeRecord]
) -> dict[str, int | None]:
    """The layer that each node belongs to; layers that do not depend on the input are counted out."""
    is_layer = set(layer_nodes)
    positions: dict[str, int | None] = {}
    count = 0
    for node in nodes:
        if node.op == "placeholder":
            positions[node.name] = 0
            continue
        found = [position for used in node.all_input_nodes if (position := positions[used.name]) is not None]
        if node.op == "output":
            positions[node.name] = count + 1
        elif not found:
            positions[node.name] = None
        elif node in is_layer:
            count += 1
            positions[node.name] = count
        else:
            positions[node.name] = max(found)
    _sink_views_of_parameters(nodes, is_layer, positions, records)
    return positions


def _sink_views_of_parameters(
    nodes: list[fx.Node],
    is_layer: set[fx.Node],
    positions: dict[str, int | None],
    records: dict[str, NodeRecord],
) -> None:
    """A class token expanded to the batch needs of the input its size alone: it belongs to who reads it first."""
    sunk: list[fx.Node] = []
    for node in nodes:
        if node.op in ("placeholder", "output") or node in is_layer or not records[node.name].tensors:
            continue
        tensors = [used for used in node.all_input_nodes if records[used.name].tensors]
        if positions[node.name] is not None and all(positions[used.name] is None or used in sunk for used in tensors):
            sunk.append(node)
    for node in reversed(sunk):
        readers = [position for user in node.users if (position := positions[user.name]) is not None]
        positions[node.name] = min(readers, default=positions[node.name])


def _readers(
    nodes: list[fx.Node], positions: dict[str, int | None], records: dict[str, NodeRecord]
) -> dict[str, frozenset[str]]:
    """Nodes that see what an input-free in-place node did, though they do not take its value."""
    return {
        node.name: frozenset(
            later.name for later in nodes[place + 1 :] if records[later.name].reads & records[node.name].changed
        )
        for place, node in enumerate(nodes)
        if positions[node.name] is None and records[node.name].changed
    }


def _is_live(node: fx.Node, cut: int, positions: dict[str, int | None]) -> bool:
    position = positions[node.name]
    if position is None or position > cut:
        return False
    return any((positions[user.name] or 0) > cut for user in node.users)


def _refusal(
    cut: int,
    live: tuple[LiveValue, ...],
    nodes: list[fx.Node],
    positions: dict[str, int | None],
    records: dict[str, NodeRecord],
) -> str | None:
    """Two live tensors that share storage are shipped as two; if the top changes one, the other would not follow."""
    owners = [(tensor.storage, value.name) for value in live for tensor in value.tensors]
    shared = {storage for storage, times in Counter(storage for storage, _ in owners).items() if times > 1}
    if not shared:
        return None
    for node in nodes:
        hit = records[node.name].changed & shared
        if hit and (positions[node.name] or 0) > cut:
            names = sorted({owner for storage, owner in owners if storage in hit})
            return f"live tensors of {' and '.join(names)} share storage, and {node.name} in the top changes it"
    return None


def operation(node: fx.Node) -> str:
    """Name of the function or method that a node calls."""
    if node.op == "call_method":
        return str(node.target)
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).split("::")[-1]
    return str(getattr(node.target, "__name__", node.target))


def _name_layers(model: nn.Module, traced: Trace, nodes: list[fx.Node]) -> tuple[Layer, ...]:
    """Dotted names in execution order: a module's path, or the path it stands in and the operation."""
    paths = [_module_path(node) for node in nodes]
    leaves = {path: not list(_children(model, path)) for path in set(paths)}
    operations: dict[str, set[str]] = {}
    for node, path in zip(nodes, paths, strict=True):
        operations.setdefault(path, set()).add(operation(node))
    names: set[str] = {INPUT}
    layers = []
    for index, (node, path) in enumerate(zip(nodes, paths, strict=True), start=1):
        if node.op == "call_module" or (path and leaves[path] and len(operations[path]) == 1):
            base = path
        else:
            base = f"{path}.{operation(node)}" if path else operation(node)
        candidate, repeat = base, 0
        while candidate in names:
            repeat += 1
            candidate = f"{base}_{repeat}"
        names.add(candidate)
        if node.op == "call_module":
            kind = type(traced.root.get_submodule(str(node.target))).__name__
        else:
            kind = operation(node)
        layers.append(Layer(index, candidate, kind, node.name))
    return tuple(layers)


def _module_path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    entries = list(stack.values())
    path = str(entries[-1][0]) if entries else ""
    return path.split("@")[0]


def _children(model: nn.Module, path: str) -> list[nn.Module]:
    try:
        return list(model.get_submodule(path).children())
    except AttributeError:  # an exported program's module has no submodules of the original
        return []
