"""One run of a traced graph, node by node, that writes down what every value is and who changes it in place.

From the record the layer graph knows payloads, views and aliases without running any cut. The run also checks
the trace: its output must equal the module's, bit for bit, or the trace took another path through the code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError
from splitnet.inference import bitwise_equal, clone_tensors, exact_inference, fused_attention_paused
from splitnet.tracing import Trace, plain_containers


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known of one tensor: [shape] elements laid out by `stride`."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    storage: int
    """Number of the storage; two tensors with the same number share memory while both live."""

    @property
    def nbytes(self) -> int:
        """Bytes that must cross a link: dimensions of stride 0 (expanded) count once."""
        sizes = (size if stride else min(size, 1) for size, stride in zip(self.shape, self.stride, strict=True))
        return math.prod(sizes) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What one node gave and did."""

    value: Any
    """The node's value with every tensor replaced by its `TensorInfo`."""
    changed: frozenset[int]
    """Storages that the node changed in place."""
    reads: frozenset[int]
    """Storages of the tensors it was given."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(leaf for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, TensorInfo))


def record(trace: Trace, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, NodeRecord]:
    """Run the graph once on the example inputs and compare it with the module.

    Returns:
        A record per node name.

    Raises:
        ModelError: the module does not run on these inputs, the graph's output differs from the module's, or a
            forward pass changes the module's own parameters or buffers.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with exact_inference():
        try:
            expected = model(*clone_tensors(args), **clone_tensors(kwargs))
        except Exception as error:
            message = does_not_run(type(model).__name__, pytree.tree_leaves((args, kwargs)), error)
            raise ModelError(f"{message}; give inputs of the shape it takes") from error
    for name, buffer in model.named_buffers():
        if name in before and not bitwise_equal(buffer, before[name]):
            raise ModelError(
                f"{type(model).__name__} changes its own state ({name}) in a forward pass, so repeats would differ"
            )
    inputs = trace.flatten_inputs(clone_tensors(args), clone_tensors(kwargs))
    records, outputs = _record_run(trace.root, inputs)
    if not bitwise_equal(list(outputs), pytree.tree_leaves(expected)):
        raise ModelError(
            f"the {trace.frontend} graph of {type(model).__name__} gives another output than the module: it "
            f"branches on its input, is random in eval mode, or keeps state between calls"
        )
    return records


def does_not_run(name: str, values: Sequence[Any], error: Exception) -> str:
    """One line about a forward pass that failed on these flat inputs."""
    shapes = ", ".join(str(tuple(value.shape)) for value in values if isinstance(value, torch.Tensor))
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{name} does not run on inputs of shape {shapes}: {line}"


def fetch_attribute(root: nn.Module, path: str) -> Any:
    """The parameter, buffer or constant at a dotted path."""
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _record_run(root: fx.GraphModule, inputs: Sequence[Any]) -> tuple[dict[str, NodeRecord], Any]:
    records: dict[str, NodeRecord] = {}
    storages = _Storages()
    outputs: Any = None
    # no_grad, not inference_mode: version counters tell who changed a tensor in place
    with fused_attention_paused(), torch.no_grad():
        for node, given, versions, value in _run_nodes(root, inputs):
            changed = (tensor for tensor, version in zip(given, versions, strict=True) if tensor._version != version)
            records[node.name] = NodeRecord(
                value=pytree.tree_map(storages.describe, value),
                changed=frozenset(map(storages.number, changed)),
                reads=frozenset(map(storages.number, given)),
            )
            outputs = value
    owned = {storages.number(tensor) for tensor in (*root.parameters(), *root.buffers())}
    for name, node_record in records.items():
        if node_record.changed & owned:
            raise ModelError(f"{name} changes the model's own state in a forward pass; repeats would differ")
    return records, outputs


def _run_nodes(
    root: fx.GraphModule, inputs: Sequence[Any]
) -> Iterator[tuple[fx.Node, list[torch.Tensor], list[int], Any]]:
    """Run a graph in order; yields each node, the tensors it was given, their versions before, and its value.

    Values are dropped after their last use. Not `fx.Interpreter`, which fails on swin3d.
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    uses = {node: len(node.users) for node in root.graph.nodes}
    values: dict[fx.Node, Any] = {}
    fresh = iter(inputs)
    for node in root.graph.nodes:
        # plain lists: swin3d changes one that it is given, which FX's own would not allow
        args, kwargs = plain_containers(fx.node.map_arg((node.args, node.kwargs), lambda used: values[used]))
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        versions = [tensor._version for tensor in given]
        match node.op:
            case "placeholder":
                value = next(fresh)
            case "get_attr":
                value = fetch_attribute(root, str(node.target))
            case "call_module":
                value = modules[str(node.target)](*args, **kwargs)
            case "call_function":
                value = node.target(*args, **kwargs)
            case "call_method":
                value = getattr(args[0], node.target)(*args[1:], **kwargs)
            case _:
                value = args[0]
        values[node] = value
        yield node, given, versions, value
        for used in (node, *node.all_input_nodes):
            uses[used] -= used is not node
            if uses[used] == 0:
                values.pop(used, None)


class _Storages:
    """Numbers for storages. A weak reference keeps a number from being given to two storages in turn."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, StorageWeakRef]] = {}

    def number(self, tensor: torch.Tensor) -> int:
        reference = StorageWeakRef(tensor.untyped_storage())
        return self._known.setdefault(reference.cdata, (len(self._known), reference))[0]

    def describe(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return TensorInfo(tuple(leaf.shape), tuple(leaf.stride()), leaf.dtype, self.number(leaf))
