"""Proof on the user's own machine that every cut gives the unsplit model's bits, through the wire's encoding.

No sockets: the bottom's live values are encoded, framed, read back by a frame decoder and decoded into other
memory, and the top runs on those. This is what an AP would see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch.utils import _pytree as pytree

from splitnet.cuts import select_cuts
from splitnet.graph import LayerGraph, layer_graph
from splitnet.inference import bitwise_equal, clone_tensors, exact_inference, max_abs_error
from splitnet.models.build import build_model
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.slicing import Bottom, Top
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values
from splitnet.wire.frames import FrameDecoder, encode_frame
from splitnet.wire.specs import ValueSpec

MAX_VALUE_BYTES = 1 << 32


class _Values(msgspec.Struct):
    values: list[ValueSpec]


@dataclass(frozen=True, slots=True)
class CheckedCut:
    """One cut's verdict."""

    cut: int
    layer: str
    bitwise_equal: bool
    max_error: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `splitnet check` found."""

    model: str
    frontend: str
    cuts: int
    checked: tuple[CheckedCut, ...]
    refused: dict[int, str]
    """Reasons, by cut."""
    varies: bool
    """Another input gives another output; without that, equality proves nothing."""

    @property
    def different(self) -> tuple[CheckedCut, ...]:
        return tuple(cut for cut in self.checked if not cut.bitwise_equal)

    @property
    def passed(self) -> bool:
        return not self.different and self.varies

    def to_dict(self) -> dict[str, Any]:
        """The object that `splitnet check --json` prints."""
        return {
            "model": self.model,
            "frontend": self.frontend,
            "cuts": self.cuts,
            "tested": len(self.checked),
            "bitwise_equal": len(self.checked) - len(self.different),
            "refused": [{"cut": cut, "reason": reason} for cut, reason in self.refused.items()],
            "different": [{"cut": cut.cut, "layer": cut.layer, "max_error": cut.max_error} for cut in self.different],
            "varies": self.varies,
        }


def check(
    model: BuiltModel | ModelRef | str,
    cuts: str = "all",
    step: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> CheckResult:
    """Compare every cut that `cuts` asks for with the unsplit module.

    Raises:
        SplitnetError: the model cannot be built or traced, or there is no such cut.
    """
    if isinstance(model, str):
        model = ModelRef(model)
    built = build_model(model) if isinstance(model, ModelRef) else model
    graph = layer_graph(built.module, built.args, built.kwargs, name=built.ref.name, exported=built.exported)
    indices = select_cuts(cuts, graph.cuts, graph.name)
    expected = _unsplit(built, built.args, built.kwargs)
    checked = []
    for done, index in enumerate(indices):
        step(done, len(indices), graph.cuts[index].layer)
        leaves = _through_the_wire(graph, index, graph.trace.flatten_inputs(built.args, built.kwargs))
        equal = bitwise_equal(leaves, expected)
        error = 0.0 if equal else max_abs_error(leaves, expected)
        checked.append(CheckedCut(index, graph.cuts[index].layer, equal, error))
    step(len(indices), len(indices), "done")
    return CheckResult(
        model=graph.name,
        frontend=graph.trace.frontend,
        cuts=len(graph.cuts),
        checked=tuple(checked),
        refused={cut.index: cut.refused for cut in graph.cuts if cut.refused},
        varies=_varies(built, expected),
    )


def over_the_wire(values: Sequence[Any], codec: str = "none") -> list[Any]:
    """The values as a receiver has them: encoded, framed, read back into other memory, decoded."""
    encoded = encode_values(values, codec)
    message = msgspec.msgpack.encode(_Values(encoded.specs))
    decoder: FrameDecoder[_Values] = FrameDecoder(_Values)
    frame = None
    for part in encode_frame(message, encoded.buffers, session=1, checksum=True):
        view = memoryview(part)
        while len(view):
            room = decoder.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            frame = decoder.received(count)
            view = view[count:]
    assert frame is not None
    return decode_values(frame.message.values, frame.body, torch.device("cpu"), max_bytes=MAX_VALUE_BYTES)


def _through_the_wire(graph: LayerGraph, index: int, inputs: list[Any]) -> list[Any]:
    cut = graph.cuts[index]
    with exact_inference():
        live = Bottom(graph, cut).run(clone_tensors(inputs))
        return list(Top(graph, cut).run(over_the_wire(live)))


def _unsplit(built: BuiltModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    with exact_inference():
        output = built.module(*clone_tensors(args), **clone_tensors(kwargs))
    return clone_tensors(pytree.tree_leaves(output))  # type: ignore[no-any-return]


def _varies(built: BuiltModel, expected: list[Any]) -> bool:
    generator = torch.Generator().manual_seed(built.ref.seed + 1)

    def other(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.is_floating_point():
            return torch.randn(value.shape, generator=generator).to(value.dtype)
        return value.flip(-1) if value.dim() and not torch.equal(value, value.flip(-1)) else value

    args, kwargs = pytree.tree_map(other, (built.args, built.kwargs))
    return not bitwise_equal(_unsplit(built, args, kwargs), expected)
