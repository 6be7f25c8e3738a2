"""Cut a model into a bottom and a top that share its weights and give, together, the same bits.

bottom, top = slice_model(model, "layer2.0.relu")
output = top(bottom(image))
"""

from __future__ import annotations

from collections.abc import Sequence
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
        self.part = _cut_out(graph, cut, bottom=True)

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
        self.part = _cut_out(graph, cut, bottom=False)

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


def _cut_out(graph: LayerGraph, cut: Cut, *, bottom: bool) -> fx.GraphModule:
    """One half as a graph module. Nodes that do not depend on the input go where they are read."""
    source = graph.trace.root.graph
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    live = [value.node for value in cut.live]
    by_name = {node.name: node for node in source.nodes}
    if not bottom:
        for name in live:
            copies[by_name[name]] = part.placeholder(name)
    needed = _needed(graph, cut, bottom=bottom)
    for node in source.nodes:
        if node in copies or node not in needed:
            continue
        copy = part.node_copy(node, lambda used: copies[used])
        copy.meta = {}
        copies[node] = copy
    if bottom:
        part.output(tuple(copies[by_name[name]] for name in live))
    return fx.GraphModule(graph.trace.root, part, f"{graph.name}_{'bottom' if bottom else 'top'}_{cut.index}")


def _needed(graph: LayerGraph, cut: Cut, *, bottom: bool) -> set[fx.Node]:
    """The nodes of one half: those on its side of the cut, and the input-free nodes that they read."""
    needed: set[fx.Node] = set()
    names: set[str] = set()
    for node in reversed(graph.trace.root.graph.nodes):
        position = graph.positions[node.name]
        if position is None:
            wanted = any(user in needed for user in node.users)
            wanted = wanted or not names.isdisjoint(graph.readers.get(node.name, ()))
        elif bottom:
            wanted = position <= cut.index
        else:
            wanted = position > cut.index
        if wanted:
            needed.add(node)
            names.add(node.name)
    return needed
