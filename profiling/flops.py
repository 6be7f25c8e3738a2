"""FLOPs of every layer by fvcore, cross-checked against torch's own counter.

One multiply-add = 1 FLOP, as fvcore counts (torch's counter says 2). The model is run once as a flat module with one
child per layer, so the sum over the layers equals fvcore's own total with the same handles exactly.

What fvcore has no handle for counts 0 and is listed, not hidden: relu, pooling, add, softmax, … take time that
chi/f does not see.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from splitnet.errors import ModelError
from splitnet.graph import LayerGraph
from splitnet.inference import clone_tensors, fused_attention_paused
from splitnet.slicing import Bottom, cut_range


@dataclass(frozen=True, slots=True)
class FlopCount:
    """What one forward pass computes, per data point.

    Attributes:
        layers: chi_1..chi_L, in execution order.
        uncounted: by layer name, the operations that have no handle; of a layer that counts 0 at least its kind.
        torch_total: torch's own count of the same pass, halved to multiply-adds; it sees matrix products and
            convolutions only, fvcore also normalisation and interpolation.
    """

    layers: tuple[int, ...]
    uncounted: dict[str, tuple[str, ...]]
    torch_total: int

    @property
    def total(self) -> int:
        return sum(self.layers)


def count_flops(graph: LayerGraph, inputs: Sequence[Any], batch: int = 1) -> FlopCount:
    """Count the FLOPs of every layer in one forward pass.

    Args:
        graph: of a model on the CPU.
        inputs: flat inputs of one pass, which are not changed.
        batch: data points in `inputs`; the count is divided by it.

    Raises:
        ModelError: fvcore cannot follow the model, or a layer's count is no multiple of the batch.
    """
    flat = _FlatModel(graph)
    try:
        with _quiet():
            # imported late: fvcore's import alone warns of torch.jit
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(flat, clone_tensors(tuple(inputs)))
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
            analysis.ancestor_mode("caller")
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            by_module = analysis.by_module()
            total = int(analysis.total())
            skipped = [analysis.unsupported_ops(name) for name in flat.names]
    except Exception as error:  # fvcore raises whatever the tracer of torch.jit does
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"fvcore cannot count the FLOPs of {graph.name}: {line}") from error
    counts = [int(by_module[name]) for name in flat.names]
    if sum(counts) != total:
        raise ModelError(f"the layers of {graph.name} have {sum(counts)} FLOPs and the whole has {total}; report it")
    for count, layer in zip(counts, graph.layers, strict=True):
        if count % batch:
            raise ModelError(f"{layer.name} of {graph.name} has {count} FLOPs, no multiple of the batch {batch}")
    return FlopCount(
        layers=tuple(count // batch for count in counts),
        uncounted={
            layer.name: tuple(name.removeprefix("aten::") for name in sorted(found)) or (layer.kind,)
            for layer, count, found in zip(graph.layers, counts, skipped, strict=True)
            if found or not count
        },
        torch_total=_torch_flops(flat, inputs) // batch,
    )


class _FlatModel(nn.Module):
    """The model as one child per layer, run in order."""

    def __init__(self, graph: LayerGraph) -> None:
        super().__init__()
        self.names = [f"layer_{layer.index}" for layer in graph.layers]
        self.start = Bottom(graph, graph.cuts[0]).part
        for layer, name in zip(graph.layers, self.names, strict=True):
            self.add_module(name, cut_range(graph, layer.index - 1, layer.index))

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        live = self.start(*inputs)
        for name in self.names:
            live = getattr(self, name)(*live)
        return tuple(live)


def _attention_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    """Two products for each head: [.., L, E] x [.., E, S] and [.., L, S] x [.., S, Ev]."""
    query, key, value = (tuple(given.type().sizes()) for given in inputs[:3])
    *heads, length, width = query
    counted = math.prod(heads) * length * key[-2] * (width + value[-1])
    return Counter({"scaled_dot_product_attention": counted})


def _torch_flops(flat: nn.Module, inputs: Sequence[Any]) -> int:
    with _quiet(), FlopCounterMode(display=False) as counter:
        flat(*clone_tensors(tuple(inputs)))
    return int(counter.get_total_flops()) // 2


@contextmanager
def _quiet() -> Iterator[None]:
    """fvcore logs and the tracer warns about what this file handles."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # both counters are blind to the fused path
        with fused_attention_paused(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
