"""Peaks by hand, and against the storages that really live while the halves run, at every cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from splitnet.errors import ModelError
from splitnet.graph import LayerGraph, layer_graph
from splitnet.inference import clone_tensors, exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling.memory import CutMemory, cut_memory, measure_peak_bytes
from splitnet.slicing import Bottom, Top
from tests import nets

# --- the oracle: every storage that an operation returns is watched while the half's own code runs


class Watch(TorchDispatchMode):
    """Counts the bytes of storages that live; the model's own are not counted."""

    def __init__(self, part: fx.GraphModule) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = [StorageWeakRef(tensor.untyped_storage()) for tensor in (*part.parameters(), *part.buffers())]
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak_bytes = 0

    def see(self, values: Any) -> None:
        for value in pytree.tree_leaves(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                reference = StorageWeakRef(storage)
                if all(reference.cdata != own.cdata for own in self._own):
                    self._known[reference.cdata] = (reference, storage.nbytes())

    def sample(self) -> None:
        self._known = {key: known for key, known in self._known.items() if not known[0].expired()}
        self.peak_bytes = max(self.peak_bytes, sum(nbytes for _, nbytes in self._known.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(result)
        return result


@contextmanager
def sampled_between_layers(code: Any, sample: Callable[[], None]) -> Iterator[None]:
    """Sample at every bytecode of the half's code, so never while a layer is at work inside itself."""

    def local(frame: FrameType, event: str, value: Any) -> Any:
        sample()
        return local

    def enter(frame: FrameType, event: str, value: Any) -> Any:
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        return local

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def really_lives(part: fx.GraphModule, given: list[Any], held: bool) -> int:
    """The peak while the half runs on `given`, which is used up unless `held`."""
    watch = Watch(part)
    with exact_inference(), watch:
        watch.see(given)
        kept = list(given) if held else []
        with sampled_between_layers(type(part).forward.__code__, watch.sample):
            # spelled out, not `*given`: arguments on the stack become the callee's, which may drop them
            call = f"forward({', '.join(['given.pop(0)'] * len(given))})"
            eval(call, {"forward": part.forward, "given": given})
        del kept
    return watch.peak_bytes


def received(value: Any) -> Any:
    """A value as it comes over a link: every tensor dense and in a storage of its own."""

    def fresh(tensor: Tensor) -> Tensor:
        narrow = tensor
        for dimension, stride in enumerate(tensor.stride()):
            narrow = narrow if stride else narrow.narrow(dimension, 0, min(1, tensor.shape[dimension]))
        return narrow.clone(memory_format=torch.preserve_format).expand(tensor.shape)

    return pytree.tree_map(lambda leaf: fresh(leaf) if isinstance(leaf, Tensor) else leaf, value)


def weights(part: fx.GraphModule) -> int:
    return sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers()))


def assert_all_cuts_as_in_reality(graph: LayerGraph, inputs: Sequence[Any]) -> None:
    for held in (False, True):
        found = cut_memory(graph, inputs, inputs_held=held)
        assert [one.cut for one in found] == list(range(len(graph.cuts)))
        for cut, memory in zip(graph.cuts, found, strict=True):
            bottom, top = Bottom(graph, cut).part, Top(graph, cut).part
            with exact_inference():
                arrived = list(received(Bottom(graph, cut).run(clone_tensors(list(inputs)))))
            bottom_bytes = really_lives(bottom, clone_tensors(list(inputs)), held)
            top_bytes = really_lives(top, arrived, held)
            assert memory == CutMemory(cut.index, weights(bottom), bottom_bytes, weights(top), top_bytes)


def built_graph(name: str, batch: int = 1, input_size: int | None = None) -> tuple[LayerGraph, list[Any]]:
    built = build_model(ModelRef(name, batch=batch, input_size=input_size))
    graph = layer_graph(built.module, built.args, built.kwargs, name=name)
    return graph, graph.trace.flatten_inputs(built.args, built.kwargs)


@pytest.mark.parametrize("name", TOY_NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_cut_of_every_toy(name: str, batch: int) -> None:
    assert_all_cuts_as_in_reality(*built_graph(name, batch))


def test_every_cut_of_resnet18() -> None:
    assert_all_cuts_as_in_reality(*built_graph("resnet18", input_size=32))


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (nets.ChangesItsInput, [(2, 6)]),
        (nets.SizesCross, [(2, 3, 32, 32)]),
        (nets.ParametersDirectly, [(2, 4, 8)]),
        (nets.OptionalMask, [(2, 4)]),
        (nets.NestedOutput, [(2, 4), (2, 4)]),
        (nets.WritesASlice, [(2, 4)]),
        (nets.BuildsItsEmbeddingInPlace, [(2, 4, 8)]),
        (nets.Attends, [(2, 7, 16)]),
    ],
)
def test_every_cut_of_the_traps(make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]) -> None:
    inputs = tuple(torch.randn(*shape) for shape in shapes)
    assert_all_cuts_as_in_reality(layer_graph(make().eval(), inputs), inputs)


def test_every_cut_of_an_exported_model() -> None:
    inputs = ([torch.randn(2, 2), torch.randn(2, 2)],)
    graph = layer_graph(nets.ListInput().eval(), inputs)
    assert graph.trace.frontend == "export"
    assert_all_cuts_as_in_reality(graph, graph.trace.flatten_inputs(inputs))


def test_other_inputs_than_those_of_the_trace() -> None:
    graph, _ = built_graph("toy_residual")
    assert_all_cuts_as_in_reality(graph, [torch.randn(5, 3, 8, 8)])


@fx.wrap
def first_of_two(x: Tensor) -> Tensor:
    return torch.cat([x, x])[: x.shape[0]]


def test_a_view_into_a_storage_that_no_layer_shows() -> None:
    class Hides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return first_of_two(x.sin()).cos()

    inputs = (torch.randn(4, 25),)
    graph = layer_graph(Hides().eval(), inputs)
    assert [layer.kind for layer in graph.layers] == ["sin", "first_of_two", "cos"]
    assert_all_cuts_as_in_reality(graph, inputs)
    # sin 400, the storage behind the view 800; then that and cos 400
    assert [one.bottom_activations_bytes for one in cut_memory(graph, inputs)] == [400, 800, 1200, 1200]


# --- by hand, in bytes; the sizes stand beside the nets in models/toy.py


def test_a_chain_by_hand() -> None:
    found = cut_memory(*built_graph("toy_chain"))
    conv, fc = 4 * (4 * 3 * 9 + 4), 4 * (64 * 10 + 10)
    assert [one.bottom_weights_bytes for one in found] == [0, conv, conv, conv, conv, conv + fc]
    assert [one.top_weights_bytes for one in found] == [conv + fc, fc, fc, fc, fc, 0]
    # image 768; with conv 1792; conv and relu 2048; flatten looks at pool's storage
    assert [one.bottom_activations_bytes for one in found] == [768, 1792, 2048, 2048, 2048, 2048]
    # relu 1024 and pool 256; pool (or flatten) 256 and fc 40
    assert [one.top_activations_bytes for one in found] == [2048, 2048, 1280, 296, 296, 40]
    assert (found[3].bottom_peak_bytes, found[3].top_peak_bytes) == (conv + 2048, fc + 296)


def test_a_chain_by_hand_when_the_caller_keeps_what_it_gave() -> None:
    found = cut_memory(*built_graph("toy_chain"), inputs_held=True)
    # the image stays beside conv and relu
    assert [one.bottom_activations_bytes for one in found] == [768, 1792, 2816, 2816, 2816, 2816]
    # what came stays: image + conv + relu; conv + relu + pool; relu + pool + fc
    assert [one.top_activations_bytes for one in found] == [2816, 2304, 1320, 296, 296, 40]


def test_a_view_is_no_storage_until_it_is_shipped() -> None:
    found = cut_memory(*built_graph("toy_inplace_skip"))
    # at add: conv2 512, add 512 and conv1's whole storage, into which the skip looks
    assert [one.bottom_activations_bytes for one in found] == [768, 1792, 1792, 1792, 2048]
    # conv1 or relu 1024, the skip now 512 of its own, conv2 512; then conv2, skip, add
    assert [one.top_activations_bytes for one in found] == [2048, 2048, 2048, 1536, 512]


def test_shared_weights_count_once_in_each_half() -> None:
    graph, inputs = built_graph("toy_shared")
    stem, conv, fc = 4 * (4 * 3 * 9 + 4), 4 * (4 * 4 * 9 + 4), 4 * (4 * 5 + 5)
    between = cut_memory(graph, inputs)[graph.cut("relu").index]
    assert (between.bottom_weights_bytes, between.top_weights_bytes) == (stem + conv, conv + fc)
    assert cut_memory(graph, inputs)[-1].bottom_weights_bytes == stem + conv + fc


def test_parameters_outside_modules_belong_to_the_half_that_reads_them() -> None:
    image = torch.randn(2, 4, 8)
    graph = layer_graph(nets.ParametersDirectly().eval(), image)
    before, token, position, after = 4 * (64 + 8), 4 * 8, 4 * 5 * 8, 4 * (24 + 3)
    found = cut_memory(graph, [image])
    assert [one.bottom_weights_bytes for one in found][:2] == [0, before]
    assert [one.top_weights_bytes for one in found][:2] == [
        before + token + position + after,
        token + position + after,
    ]
    assert found[-1].bottom_weights_bytes == before + token + position + after


def test_the_inputs_are_not_changed() -> None:
    image = torch.randn(2, 6)
    kept = image.clone()
    cut_memory(layer_graph(nets.ChangesItsInput().eval(), image), [image])
    assert torch.equal(image, kept)


def test_it_may_be_called_in_inference_mode() -> None:
    graph, _ = built_graph("toy_residual")
    with exact_inference():
        image = torch.randn(1, 3, 8, 8)
        found = cut_memory(graph, [image])
    assert found == cut_memory(graph, [torch.randn(1, 3, 8, 8)])


def test_inputs_that_do_not_fit_are_refused() -> None:
    graph, _ = built_graph("toy_chain")
    with pytest.raises(ModelError, match=r"toy_chain does not run on inputs of shape \(1, 5, 8, 8\)"):
        cut_memory(graph, [torch.randn(1, 5, 8, 8)])


def test_impossible_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="top_weights_bytes must be at least 0, not -1"):
        CutMemory(0, 1, 1, -1, 1)


# --- measured on a device


def test_a_cpu_has_no_measured_peak() -> None:
    assert measure_peak_bytes(lambda: None, torch.device("cpu")) is None


@pytest.mark.gpu
def test_measured_peak_is_what_lives_at_once() -> None:
    device = torch.device("cuda")
    mib = 1 << 20
    before = torch.cuda.memory_allocated(device)

    def run() -> None:
        one = torch.empty(4 * mib, dtype=torch.uint8, device=device)
        del one
        two = torch.empty(mib, dtype=torch.uint8, device=device)
        three = torch.empty(2 * mib, dtype=torch.uint8, device=device)
        del two, three

    assert measure_peak_bytes(run, device) == before + 4 * mib


@pytest.mark.gpu
def test_measured_peak_of_a_half_is_the_counted_one() -> None:
    device = torch.device("cuda")
    image = torch.randn(1 << 18, device=device)
    graph = layer_graph(nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh()), image)
    bottom = Bottom(graph, graph.cuts[-1])
    others = torch.cuda.memory_allocated(device) - image.nbytes
    found = measure_peak_bytes(lambda: bottom(image), device)
    assert found == others + cut_memory(graph, [image], inputs_held=True)[-1].bottom_peak_bytes
