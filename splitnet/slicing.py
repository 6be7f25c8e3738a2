"""Cut a model into a bottom and a top that share its weights and give, together, the same bits.

bottom, top = slice_model(model, "layer2.0.relu")
output = top(bottom(image))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from splitnet.graph import Cut, LayerGraph, layer_graph
from splitnet.inference import exact_inference


class Bottom(nn.Module):
    """Layers 1..cut. Takes the model's inputs; gives the live value, or a tuple of them where there are several."""

    def __init__(self, graph: LayerGraph, cut: Cut) -> None:
        super().__init__()
        self.graph = graph
        self.cut = cut
        self.part = _part(graph, None, cut, f"bottom_{cut.index}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with exact_inference():
            live = self.run(self.graph.trace.flatten_inputs(args, kwargs))
        return live[0] if len(live) == 1 else live

    def run(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The live values, in the order of `cut.live`, for flat inputs; call it inside `exact_inference`."""
        live: tuple[Any, ...] = self.part.forward(*inputs)
        return live


class Top(nn.Module):
    """The layers after the cut. Takes what the bottom gave (it may change it in place); gives the model's output."""

    def __init__(self, graph: LayerGraph, cut: Cut) -> None:
        super().__init__()
        self.graph = graph
        self.cut = cut
        self.part = _part(graph, cut, None, f"top_{cut.index}")

    def forward(self, live: Any) -> Any:
        with exact_inference():
            leaves = self.run((live,) if len(self.cut.live) == 1 else live)
        return pytree.tree_unflatten(list(leaves), self.graph.trace.out_spec)

    def run(self, live: Sequence[Any]) -> tuple[Any, ...]:
        """The flat output leaves for the live values; call it inside `exact_inference`."""
        leaves: tuple[Any, ...] = self.part.forward(*live)
        return leaves


def slice_model(
    model: nn.Module | LayerGraph,
    cut: int | str,
    args: tuple[Any, ...] | torch.Tensor | None = None,
    kwargs: dict[str, Any] | None = None,
) -> tuple[Bottom, Top]:
    """Cut a model after a layer, so that `top(bottom(*inputs))` has the bits of `model(*inputs)`.

    The comparison holds in inference mode with the fused attention path off (`exact_inference`), for the same
    device, batch and thread count. The halves share the model's weights.

    Args:
        model: a module, put into eval mode, or its `LayerGraph` (cheaper for many cuts).
        cut: 0..L (0: the bottom only hands on the input), or the name of the bottom's last layer.
        args, kwargs: example inputs for tracing a module; by default one random image [1, 3, 224, 224].

    Raises:
        CutError: no such cut, or one that cannot be right.
        ModelError: the model cannot be traced.
    """
    graph = model if isinstance(model, LayerGraph) else layer_graph(model, args, kwargs)
    found = graph.cut(cut)
    return Bottom(graph, found), Top(graph, found)


def cut_range(graph: LayerGraph, start: int, stop: int) -> fx.GraphModule:
    """Layers start+1..stop as a module: the live values of cut `start` go in, those of cut `stop` come out.

    Within one process refused cuts are right too, since nothing is shipped.
    """
    return _part(graph, graph.cuts[start], graph.cuts[stop], f"layers_{start}_{stop}")


def walk_cuts(graph: LayerGraph, inputs: Sequence[Any]) -> Iterator[tuple[Cut, tuple[Any, ...]]]:
    """Each cut 0..L with its live values, layer by layer; they hold until the next is asked for.

    Call it inside `exact_inference`.
    """
    live = tuple(inputs)
    for cut in graph.cuts:
        with torch.inference_mode(False):
            part = cut_range(graph, cut.index - 1, cut.index) if cut.index else Bottom(graph, cut).part
        live = part.forward(*live)
        yield cut, live


def _part(graph: LayerGraph, start: Cut | None, stop: Cut | None, name: str) -> fx.GraphModule:
    """The nodes between two cuts as a graph module; None stands for the model's own inputs and output.

    Nodes that do not depend on the input go where they are read.
    """
    source = graph.trace.root.graph
    by_name = {node.name: node for node in source.nodes}
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    if start is not None:
        for value in start.live:
            copies[by_name[value.node]] = part.placeholder(value.node)
    first = -1 if start is None else start.index
    last = graph.last_cut + 1 if stop is None else stop.index
    needed = _needed(graph, first, last)
    for node in source.nodes:
        if node in copies or node not in needed:
            continue
        copy = part.node_copy(node, lambda used: copies[used])
        copy.meta = {}
        copies[node] = copy
    if stop is not None:
        part.output(tuple(copies[by_name[value.node]] for value in stop.live))
    return fx.GraphModule(graph.trace.root, part, f"{graph.name}_{name}")


def _needed(graph: LayerGraph, first: int, last: int) -> set[fx.Node]:
    """The nodes of layers first+1..last, and the input-free nodes that they read."""
    needed: set[fx.Node] = set()
    names: set[str] = set()
    for node in reversed(graph.trace.root.graph.nodes):
        position = graph.positions[node.name]
        if position is None:
            wanted = any(user in needed for user in node.users)
            wanted = wanted or not names.isdisjoint(graph.readers.get(node.name, ()))
        else:
            wanted = first < position <= last
        if wanted:
            needed.add(node)
            names.add(node.name)
    return needed
