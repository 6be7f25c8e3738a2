"""FLOPs against what was derived by hand, against torch's counter, and against published totals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from splitnet.graph import LayerGraph, layer_graph
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling.flops import FlopCount, count_flops
from tests import nets


def counted(name: str, batch: int = 1, input_size: int | None = None) -> tuple[LayerGraph, FlopCount]:
    built = build_model(ModelRef(name, batch=batch, input_size=input_size))
    graph = layer_graph(built.module, built.args, built.kwargs, name=name)
    return graph, count_flops(graph, graph.trace.flatten_inputs(built.args, built.kwargs), batch)


@pytest.mark.parametrize("name", TOY_NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_toys_have_the_flops_derived_by_hand(name: str, batch: int) -> None:
    graph, found = counted(name, batch)
    toy = TOY_NETS[name]
    assert dict(zip((layer.name for layer in graph.layers), found.layers, strict=True)) == dict(toy.flops_by_layer)
    assert found.torch_total == sum(toy.flops_by_layer.values())


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet18", 1.819e9), ("vgg16", 15.470e9), ("swin_t", 4.509e9)],
)
def test_totals_are_the_published_ones(name: str, published: float) -> None:
    assert counted(name)[1].total == pytest.approx(published, rel=5e-4)


def test_attention_is_counted() -> None:
    torch.manual_seed(0)
    graph = layer_graph(nets.Attends().eval(), torch.randn(2, 7, 16))
    found = count_flops(graph, [torch.randn(2, 7, 16)], batch=2)
    # in and out projection 7*16*48 + 7*16*16, scores and mixing 2 * 4 heads * 7*7*4
    assert found.layers == (7 * 16 * 16, 7 * 16 * 48 + 7 * 16 * 16 + 2 * 4 * 7 * 7 * 4, 7 * 16 * 4)
    assert found.torch_total == found.total


def test_what_has_no_handle_is_listed_by_layer() -> None:
    _, found = counted("toy_residual")
    assert found.uncounted == {
        "block.relu": ("ReLU",),
        "block.add": ("add",),
        "pool": ("max_pool2d",),
        "flatten": ("flatten",),
    }


def test_the_layers_of_a_model_with_plain_values_between_them() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(6, 4)
            self.two = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.shape[0]
            y: torch.Tensor = self.two(self.one(x).view(rows, 4))
            return y

    graph = layer_graph(Sized(), torch.randn(5, 6))
    assert count_flops(graph, [torch.randn(5, 6)], batch=5).layers == (24, 8)
