"""What a model is before any clock is read: by hand for toys, whatever the batch, through export, for every codec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from splitnet.graph import layer_graph
from splitnet.inference import exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling.facts import ModelFacts, model_facts
from splitnet.profiling.memory import cut_memory
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.wire.codecs import CODECS
from tests import nets

CPU = torch.device("cpu")


def facts_of(model: BuiltModel) -> ModelFacts:
    resident = ResidentModel(model, CPU)
    with exact_inference():
        return model_facts(resident, ModelInputs(resident))


def toy(name: str, batch: int = 1) -> ModelFacts:
    return facts_of(build_model(ModelRef(name, batch=batch)))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


# --- by hand


def test_a_chain_by_hand() -> None:
    found = toy("toy_chain")
    assert [(layer.name, layer.kind, layer.flops) for layer in found.layers] == [
        ("conv", "Conv2d", 6912),
        ("relu", "ReLU", 0),
        ("pool", "MaxPool2d", 0),
        ("flatten", "Flatten", 0),
        ("fc", "Linear", 640),
    ]
    assert [layer.params for layer in found.layers] == [4 * 3 * 9 + 4, 0, 0, 0, 64 * 10 + 10]
    assert [layer.param_bytes for layer in found.layers] == [448, 0, 0, 0, 2600]
    assert [layer.input_bytes for layer in found.layers] == [768, 1024, 1024, 256, 256]
    assert [layer.output_bytes for layer in found.layers] == [1024, 1024, 256, 256, 40]
    shapes = [(1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 4, 4), (1, 64), (1, 10)]
    assert [layer.output_shape for layer in found.layers] == shapes
    assert found.layers[0].config == {"kernel": 9, "stride": 1, "groups": 1, "in": 3, "out": 4}
    assert found.layers[2].config == {"kernel": 4, "stride": 4}
    assert found.layers[4].config == {"in": 64, "out": 10}
    assert [layer.uncounted for layer in found.layers] == [(), ("ReLU",), ("max_pool2d",), ("Flatten",), ()]
    assert (found.flops, found.torch_flops, found.result_bytes) == (7552, 7552, 40)
    assert found.identity.input_shapes == ((1, 3, 8, 8),)


def test_a_layer_reads_every_activation_that_it_takes() -> None:
    by_name = {layer.name: layer for layer in toy("toy_dense").layers}
    assert by_name["cat"].input_bytes == 1024 + 512
    assert by_name["cat_1"].input_bytes == 1024 + 512 + 512
    assert by_name["conv3"].config == {"kernel": 9, "stride": 1, "groups": 1, "in": 6, "out": 2}
    chunk = {layer.name: layer for layer in toy("toy_tuple").layers}["chunk"]
    assert (chunk.output_bytes, chunk.output_shape) == (1024, (1, 2, 8, 8))


def test_shared_weights_count_with_each_layer_that_reads_them() -> None:
    by_name = {layer.name: layer for layer in toy("toy_shared").layers}
    assert by_name["conv"].params == by_name["conv_1"].params == 4 * 4 * 9 + 4
    assert by_name["relu_1"].params == 0


def test_parameters_outside_of_modules_belong_to_their_reader() -> None:
    found = facts_of(BuiltModel(ModelRef("direct"), nets.ParametersDirectly().eval(), (noise(1, 4, 8),), {}))
    assert {layer.name: layer.params for layer in found.layers} == {
        "before": 8 * 8 + 8,
        "cat": 8,  # the class token
        "add": 5 * 8,  # the positions
        "after": 8 * 3 + 3,
    }


def test_parameters_and_strides_of_functional_layers() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.randn(6, 2, 3, 3))
            self.b = nn.Parameter(torch.randn(6, 4, 2, 2))
            self.c = nn.Parameter(torch.randn(5, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = functional.conv2d(x, self.a, None, 2, 1, 1, 2)
            x = functional.conv_transpose2d(x, self.b, stride=(2, 1))
            x = functional.max_pool2d(functional.avg_pool2d(x, 3, stride=1), (2, 1))
            return functional.linear(x.mean((2, 3)), self.c)

    found = facts_of(BuiltModel(ModelRef("functional"), Functional().eval(), (noise(1, 4, 8, 8),), {}))
    configs = {layer.kind: layer.config for layer in found.layers if layer.config}
    assert configs == {
        "conv2d": {"kernel": 9, "stride": 4, "groups": 2, "in": 4, "out": 6},
        "conv_transpose2d": {"kernel": 4, "stride": 2, "groups": 1, "in": 6, "out": 4},
        "avg_pool2d": {"kernel": 9, "stride": 1},
        "max_pool2d": {"kernel": 2, "stride": 2},
        "linear": {"in": 4, "out": 5},
    }
    assert [layer.params for layer in found.layers if layer.params] == [108, 96, 20]


# --- what crosses


@pytest.mark.parametrize("name", TOY_NETS)
@pytest.mark.parametrize("batch", [1, 4])
def test_payloads_are_all_live_tensors_by_every_codec(name: str, batch: int) -> None:
    found, known = toy(name, batch), TOY_NETS[name]
    for cut, live_bytes in zip(found.cuts, known.live_bytes, strict=True):
        assert cut.payload_bytes.keys() == set(CODECS)
        assert cut.payload_bytes["none"] == batch * live_bytes
        assert cut.payload_bytes["fp16"] == batch * live_bytes // 2
        assert cut.payload_bytes["int8"] == batch * live_bytes // 4
        assert 0 < cut.payload_bytes["int8+lz4"] <= batch * live_bytes // 4 + 64  # lz4 may fail to shrink noise
    assert tuple(cut.cut for cut in found.cuts if cut.refused) == known.refused_cuts
    assert [cut.layer for cut in found.cuts] == ["input", *known.flops_by_layer]
    assert found.result_bytes == batch * known.live_bytes[-1]


@pytest.mark.parametrize("name", TOY_NETS)
def test_flops_are_per_data_point_whatever_the_batch(name: str) -> None:
    one, four = toy(name), toy(name, 4)
    flops = tuple(TOY_NETS[name].flops_by_layer.values())
    assert tuple(layer.flops for layer in one.layers) == tuple(layer.flops for layer in four.layers) == flops
    assert one.flops == four.flops == one.torch_flops == four.torch_flops == sum(flops)
    assert [layer.params for layer in one.layers] == [layer.params for layer in four.layers]
    for small, large in zip(one.layers, four.layers, strict=True):
        assert large.output_bytes == 4 * small.output_bytes
        assert large.input_bytes == 4 * small.input_bytes
        assert large.output_shape == (4, *small.output_shape[1:])


def test_the_walk_sees_every_cut_with_its_live_values() -> None:
    seen: list[tuple[int, int]] = []

    def walk(cut: int, live: Any) -> None:
        seen.append((cut, sum(value.nbytes for value in live)))

    model = ResidentModel(build_model(ModelRef("toy_branch")), CPU)
    with exact_inference():
        model_facts(model, ModelInputs(model), walk)
    assert seen == list(enumerate(TOY_NETS["toy_branch"].live_bytes))


def test_peak_memory_of_both_halves_is_there_for_every_cut() -> None:
    model = build_model(ModelRef("toy_residual"))
    graph = layer_graph(model.module, model.args)
    expected = cut_memory(graph, model.args)  # tests/test_memory.py has the oracle of these
    found = toy("toy_residual")
    assert [(cut.bottom_peak_bytes, cut.top_peak_bytes) for cut in found.cuts] == [
        (peak.bottom_peak_bytes, peak.top_peak_bytes) for peak in expected
    ]
    assert found.cuts[0].bottom_peak_bytes < found.cuts[0].top_peak_bytes


# --- which model


def test_the_inputs_are_not_changed_and_in_place_models_are_measured_too() -> None:
    image = noise(2, 6)
    kept = image.clone()
    found = facts_of(BuiltModel(ModelRef("inplace", batch=2), nets.ChangesItsInput().eval(), (image,), {}))
    assert [layer.flops for layer in found.layers] == [0, 18]
    assert torch.equal(image, kept)


def test_the_identity_tells_models_apart() -> None:
    ref = ModelRef("toy_chain", seed=3, batch=2)
    one, again = facts_of(build_model(ref)).identity, facts_of(build_model(ref)).identity
    assert one == again
    assert (one.name, one.seed, one.batch, one.weights, one.frontend) == ("toy_chain", 3, 2, None, "fx")
    other_seed = facts_of(build_model(replace(ref, seed=4))).identity
    assert other_seed.weights_digest != one.weights_digest
    assert other_seed.graph == one.graph
    other_batch = facts_of(build_model(replace(ref, batch=1))).identity
    assert other_batch.weights_digest == one.weights_digest
    assert toy("toy_residual").identity.graph != one.graph


def test_an_exported_model_has_the_same_facts(tmp_path: Path) -> None:
    plain = build_model(ModelRef("toy_residual"))
    path = tmp_path / "toy.pt2"
    torch.export.save(torch.export.export(plain.module, plain.args, strict=False), path)
    exported, by_hand = facts_of(build_model(ModelRef(str(path)))), facts_of(plain)
    assert exported.identity.frontend == "export"
    assert [layer.name for layer in exported.layers] == [layer.name for layer in by_hand.layers]
    for one, other in zip(exported.layers, by_hand.layers, strict=True):
        sizes = ("flops", "config", "params", "param_bytes", "input_bytes", "output_bytes", "output_shape")
        assert [getattr(one, size) for size in sizes] == [getattr(other, size) for size in sizes]
    assert [cut.payload_bytes["none"] for cut in exported.cuts] == list(TOY_NETS["toy_residual"].live_bytes)


def test_a_model_that_only_export_can_trace() -> None:
    module = nets.ListInput().eval().requires_grad_(False)
    found = facts_of(BuiltModel(ModelRef("list", batch=2), module, ([noise(2, 2), noise(2, 2)],), {}))
    assert found.identity.frontend == "export"
    assert {layer.name: layer.flops for layer in found.layers}["fc"] == 4 * 2
    assert {layer.name: layer.params for layer in found.layers}["fc"] == 4 * 2 + 2


# --- facts check themselves


def broken(facts: ModelFacts) -> list[tuple[str, Any]]:
    layer, cut = facts.layers[0], facts.cuts[0]
    return [
        ("cuts do not fit", lambda: replace(facts, layers=facts.layers[:-1])),
        ("cuts do not fit", lambda: replace(facts, layers=(), cuts=facts.cuts[:1])),
        ("numbered", lambda: replace(facts, cuts=facts.cuts[::-1])),
        ("names of the layers", lambda: replace(facts, layers=facts.layers[::-1])),
        ("below 0", lambda: replace(facts, result_bytes=-1)),
        ("negative size", lambda: replace(layer, flops=-1)),
        ("negative size", lambda: replace(cut, bottom_peak_bytes=-1)),
        ("not by", lambda: replace(cut, payload_bytes={"none": 3})),
        ("negative size", lambda: replace(cut, payload_bytes=dict.fromkeys(CODECS, -4))),
    ]


def test_facts_that_contradict_themselves_cannot_be_made() -> None:
    for reason, make in broken(toy("toy_chain")):
        with pytest.raises(ValueError, match=reason):
            make()
