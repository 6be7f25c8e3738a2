"""The layer graph against what was derived by hand, and against counts measured before it was written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from splitnet.errors import CutError, ModelError
from splitnet.graph import LayerGraph, layer_graph
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from tests import nets


def graph_of(name: str, **options: int) -> LayerGraph:
    built = build_model(ModelRef(name, **options))  # type: ignore[arg-type]
    return layer_graph(built.module, built.args, built.kwargs, name=name)


@pytest.mark.parametrize("name", TOY_NETS)
def test_toys_have_the_layers_payloads_and_refusals_derived_by_hand(name: str) -> None:
    toy = TOY_NETS[name]
    graph = graph_of(name)
    assert [layer.name for layer in graph.layers] == list(toy.flops_by_layer)
    assert tuple(cut.payload_bytes for cut in graph.cuts) == toy.live_bytes
    assert tuple(cut.index for cut in graph.cuts if cut.refused) == toy.refused_cuts


@pytest.mark.parametrize(
    ("name", "size", "cuts", "clean"),
    [
        ("resnet18", 32, 70, 24),  # 4 stem + 8 blocks of 7 + 3 downsamplings of 2 ... + pool, flatten, fc
        ("resnet50", 32, 176, 40),
        ("vgg16", 32, 41, 41),
        ("densenet121", 32, 432, 26),
        ("mobilenet_v3_large", 32, 188, 66),
    ],
)
def test_counts_of_cuts(name: str, size: int, cuts: int, clean: int) -> None:
    graph = graph_of(name, input_size=size)
    assert len(graph.cuts) == cuts
    assert sum(cut.clean for cut in graph.cuts) == clean


def test_densenet_carries_up_to_25_tensors() -> None:
    assert max(len(cut.tensors) for cut in graph_of("densenet121", input_size=32).cuts) == 25


def test_the_payload_of_the_ends_is_the_input_and_the_output() -> None:
    graph = graph_of("resnet18", input_size=32, batch=3)
    assert graph.cuts[0].payload_bytes == 3 * 3 * 32 * 32 * 4
    assert graph.cuts[-1].payload_bytes == 3 * 1000 * 4
    assert graph.cuts[-1].layer == "fc"


def test_names_can_be_typed_and_repeats_are_numbered() -> None:
    graph = graph_of("resnet18", input_size=32)
    names = [layer.name for layer in graph.layers]
    assert len(set(names)) == len(names)
    assert {"layer1.0.relu", "layer1.0.relu_1", "layer1.0.add", "flatten", "fc"} <= set(names)
    assert graph.cut("layer1.0.relu_1").index == names.index("layer1.0.relu_1") + 1
    assert graph.cut("input").index == 0


@pytest.mark.parametrize("where", [-1, 70, "70", "layer9", ""])
def test_a_cut_that_does_not_exist_is_named_with_the_way_out(where: int | str) -> None:
    with pytest.raises(CutError) as caught:
        graph_of("resnet18", input_size=32).cut(where)
    assert str(where) in str(caught.value)
    assert "0..69" in str(caught.value) or "splitnet layers" in str(caught.value)


def test_expanded_dimensions_count_once() -> None:
    class Expands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide: torch.Tensor = self.fc(x).unsqueeze(0).expand(5, -1, -1)
            return wide * 2

    graph = layer_graph(Expands(), torch.randn(2, 4))
    assert graph.cuts[1].tensors[0].shape == (5, 2, 4)
    assert graph.cuts[1].payload_bytes == 2 * 4 * 4


def test_inputs_that_are_changed_in_place_are_known() -> None:
    assert layer_graph(nets.ChangesItsInput(), torch.randn(2, 6)).changes_input
    assert not graph_of("toy_chain").changes_input


def test_what_the_example_leaves_out_is_fixed_at_its_default() -> None:
    graph = layer_graph(nets.OptionalMask(), torch.randn(2, 4))
    assert graph.trace.frontend == "fx"
    assert [layer.name for layer in graph.layers] == ["one", "two"]
    masked = layer_graph(nets.OptionalMask(), torch.randn(2, 4), {"mask": torch.ones(2, 4), "flag": True})
    assert [layer.kind for layer in masked.layers] == ["Linear", "mul", "neg", "Linear"]


def test_export_follows_what_fx_cannot_and_the_reason_is_kept() -> None:
    graph = layer_graph(nets.ListInput(), ([torch.randn(2, 2), torch.randn(2, 2)],))
    assert graph.trace.frontend == "export"
    assert "container of tensors" in str(graph.trace.fallback_reason)
    assert [layer.name for layer in graph.layers] == ["cat", "fc", "sum", "add"]


def test_a_model_that_neither_front_end_follows_is_refused_with_both_reasons() -> None:
    with pytest.raises(ModelError) as caught:
        layer_graph(nets.BranchesOnItsInput(), torch.randn(2, 4))
    assert "torch.fx says" in str(caught.value)
    assert "torch.export says" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_changes_its_own_state_is_refused() -> None:
    with pytest.raises(ModelError, match=r"own state|keeps state"):
        layer_graph(nets.CountsItsCalls(), torch.randn(2, 4))


def test_a_model_that_is_random_in_eval_mode_is_refused() -> None:
    class Random(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(ModelError, match="random"):
        layer_graph(Random(), torch.randn(2, 4))


def test_a_wrong_input_shape_is_named() -> None:
    built = build_model(ModelRef("toy_chain"))
    with pytest.raises(ModelError, match=r"\(1, 5, 8, 8\)"):
        layer_graph(built.module, torch.randn(1, 5, 8, 8))


def test_swin3d_is_traced_and_recorded() -> None:
    built = build_model(ModelRef("swin3d_t", input_size=32))
    graph = layer_graph(built.module, tuple(value[:, :, :4] for value in built.args), name="swin3d_t")
    assert graph.last_cut > 100


def test_fingerprints_tell_graph_from_weights() -> None:
    first = graph_of("toy_residual").fingerprint
    assert first == graph_of("toy_residual").fingerprint
    other_weights = graph_of("toy_residual", seed=1).fingerprint
    assert first.difference(other_weights) == "weights"
    assert first.difference(graph_of("toy_chain").fingerprint) == "graph"
    built = build_model(ModelRef("toy_residual"))
    next(built.module.parameters()).data.view(-1)[0] += 1e-7
    assert first.difference(layer_graph(built.module, built.args).fingerprint) == "weights"


def test_fingerprints_are_the_same_in_another_process() -> None:
    code = "from tests.test_graph import graph_of; f = graph_of('toy_tuple').fingerprint; print(f.graph, f.weights)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        cwd=Path(__file__).parents[1],
    ).stdout.split()
    found = graph_of("toy_tuple").fingerprint
    assert said == [found.graph, found.weights]
