"""Every cut against the unsplit module, bit for bit, through the wire's encoding; and each trap by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from splitnet.checking import check, over_the_wire
from splitnet.errors import CutError
from splitnet.graph import layer_graph
from splitnet.inference import bitwise_equal, clone_tensors, exact_inference, max_abs_error, tensor_bits
from splitnet.models.build import build_model
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.slicing import Bottom, Top, slice_model
from tests import nets


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make().eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def assert_every_cut_is_right(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, cuts: str = "all"
) -> None:
    result = check(BuiltModel(ModelRef(type(model).__name__), model, args, kwargs or {}), cuts)
    assert result.varies
    assert result.checked
    assert not result.different
    assert not result.refused


@pytest.mark.parametrize("name", TOY_NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_cut_of_every_toy(name: str, batch: int) -> None:
    result = check(ModelRef(name, batch=batch))
    assert result.passed
    assert len(result.checked) == result.cuts - len(TOY_NETS[name].refused_cuts)


@pytest.mark.parametrize(
    ("name", "size", "cuts"),
    [
        ("resnet18", 32, "all"),
        ("vgg11", 32, "all"),
        ("shufflenet_v2_x0_5", 32, "40"),
        ("googlenet", 64, "20"),
        ("densenet121", 32, "20"),
        ("mobilenet_v3_small", 64, "30"),
        ("efficientnet_b0", 64, "20"),
        ("swin_t", 64, "20"),
        ("fcn_resnet50", 32, "12"),
        ("quantized_mobilenet_v2", 32, "20"),
        ("r3d_18", 16, "12"),
    ],
)
def test_cuts_of_the_zoo(name: str, size: int, cuts: str) -> None:
    assert check(ModelRef(name, input_size=size), cuts).passed


def test_the_halves_accept_other_batch_and_image_sizes() -> None:
    built = build_model(ModelRef("resnet18", input_size=64))
    bottom, top = slice_model(built.module, "layer2.0.relu", built.args)
    other = noise(3, 3, 96, 96)
    with exact_inference():
        expected = built.module(other)
    assert bitwise_equal(top(bottom(other)), expected)


def test_slice_model_takes_a_bare_module_and_hands_on_what_crosses() -> None:
    model = build_model(ModelRef("resnet18")).module
    bottom, top = slice_model(model, "maxpool")
    image = noise(1, 3, 224, 224)
    crossing = bottom(image)
    assert crossing.shape == (1, 64, 56, 56)
    with exact_inference():
        assert bitwise_equal(top(crossing), model(image))


def test_the_halves_share_the_models_weights() -> None:
    model = build_model(ModelRef("toy_chain")).module
    bottom, top = slice_model(model, "relu", noise(1, 3, 8, 8))
    own = {parameter.data_ptr() for parameter in model.parameters()}
    halves = {parameter.data_ptr() for half in (bottom.part, top.part) for parameter in half.parameters()}
    assert halves == own
    assert {name for name, _ in bottom.part.named_parameters()} == {"conv.weight", "conv.bias"}
    assert {name for name, _ in top.part.named_parameters()} == {"fc.weight", "fc.bias"}


# The nine traps of SLICING.md, and what mends them.


def test_trap_strides_are_shipped() -> None:
    built = build_model(ModelRef("convnext_tiny", input_size=32))
    graph = layer_graph(built.module, built.args)
    odd = [cut for cut in graph.cuts if any(not _contiguous(tensor) for tensor in cut.tensors)]
    assert odd
    for cut in odd[:: max(1, len(odd) // 8)]:
        with exact_inference():
            live = Bottom(graph, cut).run(list(built.args))
            arrived = over_the_wire(live)
            expected = built.module(*built.args)
            assert [value.stride() for value in arrived] == [value.stride() for value in live]
            assert bitwise_equal(Top(graph, cut).run(arrived), [expected])


def test_trap_addresses_keep_their_alignment() -> None:
    pool = noise(1000)
    for start in (0, 1, 3, 16, 17):
        sent = pool[start : start + 64]
        (arrived,) = over_the_wire([sent])
        assert arrived.data_ptr() % 64 == sent.data_ptr() % 64
        assert arrived.data_ptr() != sent.data_ptr()
    for parameter in build_model(ModelRef("resnet18", input_size=32)).module.parameters():
        assert parameter.data_ptr() % 64 == 0


def test_trap_a_changed_alias_is_refused_by_name() -> None:
    built = build_model(ModelRef("toy_inplace_skip"))
    (index,) = TOY_NETS["toy_inplace_skip"].refused_cuts
    with pytest.raises(CutError, match=r"conv1 .*relu"):
        slice_model(built.module, index, built.args)
    graph = layer_graph(built.module, built.args)
    cut = graph.cuts[index]
    with exact_inference():
        wrong = Top(graph, cut).run(over_the_wire(Bottom(graph, cut).run(list(clone_tensors(built.args)))))
        assert not bitwise_equal(wrong, [built.module(*clone_tensors(built.args))])


def test_trap_a_top_may_change_what_it_is_given() -> None:
    model = seeded(nets.ChangesItsInput)
    image = noise(2, 6)
    kept = image.clone()
    graph = layer_graph(model, image)
    assert graph.changes_input
    assert bitwise_equal(image, kept)
    assert_every_cut_is_right(model, (image,))
    assert bitwise_equal(image, kept)


def test_trap_the_fused_attention_path_is_off_on_every_side(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(nets.Attends)
    seen: list[tuple[bool, bool]] = []
    forward = nn.MultiheadAttention.forward

    def spy(self: nn.MultiheadAttention, *args: Any, **kwargs: Any) -> Any:
        seen.append((torch.backends.mha.get_fastpath_enabled(), torch.is_inference_mode_enabled()))
        return forward(self, *args, **kwargs)

    assert torch.backends.mha.get_fastpath_enabled()
    bottom, top = slice_model(model, "before", noise(2, 7, 16))
    monkeypatch.setattr(nn.MultiheadAttention, "forward", spy)
    image = noise(3, 7, 16)
    output = top(bottom(image))
    with exact_inference():
        expected = model(image)
    assert seen == [(False, True), (False, True)]
    assert bitwise_equal(output, expected)
    assert torch.backends.mha.get_fastpath_enabled()


def test_threads_that_overlap_leave_the_fused_path_as_it_was() -> None:
    entered, left = threading.Event(), threading.Event()

    def inside() -> None:
        with exact_inference():
            entered.set()
            assert left.wait(10)

    assert torch.backends.mha.get_fastpath_enabled()
    thread = threading.Thread(target=inside)
    with exact_inference():
        thread.start()
        assert entered.wait(10)
    assert not torch.backends.mha.get_fastpath_enabled()  # the other still needs it off
    left.set()
    thread.join(10)
    assert torch.backends.mha.get_fastpath_enabled()


def test_trap_sizes_and_numbers_cross() -> None:
    model = seeded(nets.SizesCross)
    graph = layer_graph(model, noise(2, 3, 17, 19))
    plain = [value for cut in graph.cuts for value in cut.live if not value.tensors]
    assert (17, 19) in [value.value for value in plain]
    assert_every_cut_is_right(model, (noise(2, 3, 17, 19),))


def test_trap_tuples_cross() -> None:
    assert_every_cut_is_right(build_model(ModelRef("toy_tuple")).module, build_model(ModelRef("toy_tuple")).args)


def test_trap_parameters_go_to_the_half_that_uses_them() -> None:
    model = seeded(nets.ParametersDirectly)
    assert_every_cut_is_right(model, (noise(2, 4, 8),))
    bottom, top = slice_model(model, "before", noise(2, 4, 8))
    assert {"token", "position"} <= {name for name, _ in top.part.named_parameters()}
    assert not {"token", "position"} & {name for name, _ in bottom.part.named_parameters()}


def test_trap_an_output_that_never_varies_proves_nothing() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)
            nn.init.zeros_(self.fc.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(x)
            return out

    result = check(BuiltModel(ModelRef("constant"), Constant().eval(), (noise(2, 4),), {}))
    assert not result.different
    assert not result.varies
    assert not result.passed


def test_writing_a_slice_is_a_layer_and_stays_in_order() -> None:
    model = seeded(nets.WritesASlice)
    graph = layer_graph(model, noise(2, 4))
    assert [layer.kind for layer in graph.layers] == ["linear", "fill_", "linear"]
    assert [cut.index for cut in graph.cuts if cut.refused] == [1]  # the slice is a view of what crosses with it
    result = check(BuiltModel(ModelRef("writes"), model, (noise(2, 4),), {}))
    assert result.passed
    assert [cut.cut for cut in result.checked] == [0, 2, 3]


def test_an_input_free_change_in_place_is_in_the_half_that_sees_it() -> None:
    assert_every_cut_is_right(seeded(nets.BuildsItsEmbeddingInPlace), (noise(2, 4, 8),))


def test_nested_inputs_and_outputs_come_back_as_they_were() -> None:
    model = seeded(nets.NestedOutput)
    kwargs = {"x": noise(3, 4), "y": noise(3, 4)}
    assert_every_cut_is_right(model, (), kwargs)
    bottom, top = slice_model(model, 1, (), kwargs)
    output = top(bottom(**kwargs))
    assert list(output) == ["sum", "pair", "batch"]
    assert output["batch"] == 3
    assert isinstance(output["pair"], tuple)


def test_export_halves_are_right_too() -> None:
    model = seeded(nets.ListInput)
    assert_every_cut_is_right(model, ([noise(2, 2), noise(2, 2)],))


def test_a_saved_program_and_it_shares_its_weights_with_the_halves(tmp_path: Path) -> None:
    model = build_model(ModelRef("toy_residual")).module
    torch.export.save(torch.export.export(model, (noise(1, 3, 8, 8),), strict=False), tmp_path / "toy.pt2")
    built = build_model(ModelRef(str(tmp_path / "toy.pt2")))
    assert check(built).passed
    graph = layer_graph(built.module, built.args, built.kwargs, exported=built.exported)
    assert [layer.name for layer in graph.layers] == list(TOY_NETS["toy_residual"].flops_by_layer)
    own = {parameter.data_ptr() for parameter in built.module.parameters()}
    assert {parameter.data_ptr() for parameter in graph.trace.root.parameters()} == own


def test_a_hugging_face_model_through_export() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50
    )
    model = seeded(lambda: transformers.BertModel(config))
    tokens = torch.arange(1, 15).reshape(2, 7)
    kwargs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    result = check(BuiltModel(ModelRef("bert"), model, (), kwargs), "16")
    assert result.frontend == "export"
    assert result.passed


def test_a_timm_model() -> None:
    timm = pytest.importorskip("timm")
    model = seeded(lambda: timm.create_model("resnet10t", num_classes=7))
    assert_every_cut_is_right(model, (noise(1, 3, 64, 64),), cuts="16")


def test_comparison_sees_one_bit_nan_and_shape() -> None:
    one = noise(4)
    other = one.clone()
    other.view(torch.int32)[2] ^= 1
    assert not bitwise_equal(one, other)
    assert 0 < max_abs_error(one, other) < 1e-5
    assert bitwise_equal(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not bitwise_equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not bitwise_equal(one, one.view(2, 2))
    assert max_abs_error(one, one.view(2, 2)) == float("inf")
    assert not bitwise_equal((one, 3), (one, 4))
    assert not bitwise_equal((one,), (one, one))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(2.0)[::2],
        torch.arange(6.0)[3::4],
        torch.arange(9.0).as_strided((1, 1), (5, 7), 4),
        torch.arange(4.0)[4::3],
        torch.arange(2, dtype=torch.int16)[1::2],
        torch.tensor(3.5, dtype=torch.float64),
        torch.arange(12.0).view(3, 4).t(),
        torch.arange(12.0)[1::3],
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)}-{tensor.stride()}",
)
def test_bits_of_tensors_with_odd_strides(tensor: torch.Tensor) -> None:
    """One element is contiguous whatever its stride; its bytes are those of a dense copy."""
    assert bytes(tensor_bits(tensor).numpy()) == tensor.numpy().tobytes()
    assert bitwise_equal(tensor, torch.from_numpy(tensor.numpy().copy()))
    if tensor.numel():
        assert not bitwise_equal(tensor, tensor + 1)


def _contiguous(tensor: Any) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def test_leaves_of_an_output_are_in_the_order_of_the_module() -> None:
    model = seeded(nets.NestedOutput)
    kwargs = {"x": noise(3, 4), "y": noise(3, 4)}
    graph = layer_graph(model, (), kwargs)
    with exact_inference():
        expected = pytree.tree_leaves(model(**kwargs))
        live = Bottom(graph, graph.cuts[0]).run(graph.trace.flatten_inputs((), kwargs))
        assert bitwise_equal(list(Top(graph, graph.cuts[0]).run(live)), expected)
