"""The pass with a clock reading after every layer: the unsplit model's bits, one reading a layer, the right layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from splitnet.errors import ModelError
from splitnet.graph import LayerGraph, layer_graph
from splitnet.inference import bitwise_equal, clone_tensors, exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling import timing
from splitnet.profiling.profiler import ProfileSettings, time_rounds
from splitnet.profiling.timing import StampedPass, layer_of_node
from splitnet.resident import ModelInputs, ResidentModel
from tests import nets

CPU = torch.device("cpu")


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


TRAPS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "ChangesItsInput": (nets.ChangesItsInput, (noise(2, 6),), {}),
    "Attends": (nets.Attends, (noise(2, 7, 16),), {}),
    "SizesCross": (nets.SizesCross, (noise(2, 3, 17, 19),), {}),
    "ParametersDirectly": (nets.ParametersDirectly, (noise(2, 4, 8),), {}),
    "OptionalMask": (nets.OptionalMask, (noise(2, 4),), {"mask": noise(2, 4), "flag": True}),
    "NestedOutput": (nets.NestedOutput, (), {"x": noise(3, 4), "y": noise(3, 4)}),
    "ListInput": (nets.ListInput, ([noise(2, 2), noise(2, 2)],), {}),
    "WritesASlice": (nets.WritesASlice, (noise(2, 4),), {}),
    "BuildsItsEmbeddingInPlace": (nets.BuildsItsEmbeddingInPlace, (noise(2, 4, 8),), {}),
}
"""Every net of tests/nets.py that can be traced."""


def trap(name: str) -> BuiltModel:
    make, args, kwargs = TRAPS[name]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return BuiltModel(ModelRef(name), make().eval().requires_grad_(False), args, kwargs)


def built(name: str) -> BuiltModel:
    return trap(name) if name in TRAPS else build_model(ModelRef(name, batch=2))


@pytest.mark.parametrize("name", [*TRAPS, *TOY_NETS])
def test_the_stamped_pass_has_the_unsplit_models_bits(name: str) -> None:
    model = built(name)
    kept = clone_tensors((model.args, model.kwargs))
    resident = ResidentModel(model, CPU)
    inputs = ModelInputs(resident)
    with exact_inference():
        expected = ModelInputs(resident).reference()
        for _ in range(2):
            taken_ns, leaves = resident.stamped().run(inputs.flat())
            assert bitwise_equal(list(leaves), expected)
            assert len(taken_ns) == resident.graph.last_cut
            assert min(taken_ns) >= 0
        assert len(inputs.layers_ns()) == resident.graph.last_cut
    assert bitwise_equal(kept, (model.args, model.kwargs))


def clock() -> int:
    raise AssertionError("the graph is only looked at")


@pytest.mark.parametrize("name", [*TRAPS, *TOY_NETS])
def test_one_reading_stands_before_the_first_layer_and_one_after_each(name: str) -> None:
    model = built(name)
    graph = layer_graph(model.module, model.args, model.kwargs)
    nodes = list(stamped_graph(graph, clock).graph.nodes)
    readings = [index for index, node in enumerate(nodes) if node.target is clock]
    assert len(readings) == graph.last_cut + 1
    places = {node.name: index for index, node in enumerate(nodes)}
    for layer in graph.layers:
        place = places[layer.node]
        assert readings[layer.index - 1] < place < readings[layer.index]
    assert all(nodes.index(node) < readings[0] for node in nodes if node.op == "placeholder")


def stamped_graph(graph: LayerGraph, clock: Callable[[], int]) -> fx.GraphModule:
    return timing._stamped(graph, clock)


def test_a_clock_that_ticks_once_a_reading_gives_every_layer_one_tick() -> None:
    model = build_model(ModelRef("toy_branch"))
    graph = layer_graph(model.module, model.args)
    ticks = itertools.count(7)
    returned = stamped_graph(graph, lambda: next(ticks)).forward(*model.args)
    assert returned[: graph.last_cut + 1] == tuple(range(7, 7 + graph.last_cut + 1))
    assert bitwise_equal(list(returned[graph.last_cut + 1 :]), [model.module(*model.args)])


def test_input_free_nodes_run_with_the_layer_that_reads_them() -> None:
    model = trap("ParametersDirectly")
    graph = layer_graph(model.module, model.args)
    where = layer_of_node(graph)
    parameters = {
        str(node.target): where[node.name] for node in graph.trace.root.graph.nodes if node.op == "get_attr"
    }
    names = [layer.name for layer in graph.layers]
    assert names == ["before", "cat", "add", "after"]
    assert parameters == {"token": 2, "position": 3}


def test_an_input_free_node_that_two_layers_read_runs_with_the_first() -> None:
    class ScalesTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4))
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            scale = self.scale * 2
            out: Tensor = self.fc(x * scale) + scale
            return out

    model = ResidentModel(BuiltModel(ModelRef("scales"), ScalesTwice().eval(), (noise(2, 4),), {}), CPU)
    free = [name for name, position in model.graph.positions.items() if position is None]
    assert [layer_of_node(model.graph)[name] for name in free] == [1, 1]
    with exact_inference():
        assert len(ModelInputs(model).layers_ns()) == 3


def test_the_heavy_layer_is_the_slowest_by_far_wherever_it_stands() -> None:
    class Lopsided(nn.Module):
        def __init__(self, heavy: int) -> None:
            super().__init__()
            for place in range(4):
                self.add_module(f"conv{place}", nn.Conv2d(8, 8, 9 if place == heavy else 1, padding="same"))

        def forward(self, x: Tensor) -> Tensor:
            for place in range(4):
                x = getattr(self, f"conv{place}")(x)
            return x

    for heavy in (0, 2, 3):
        model = BuiltModel(ModelRef("lopsided"), Lopsided(heavy).eval(), (noise(1, 8, 96, 96),), {})
        inputs = ModelInputs(ResidentModel(model, CPU))
        with exact_inference():
            passes = [inputs.layers_ns() for _ in range(5)]
        best = [min(times) for times in zip(*passes, strict=True)]  # 81 times the work of each of the others
        assert best[heavy] > sum(best[:heavy] + best[heavy + 1 :])


def test_a_pass_that_gives_other_bits_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ResidentModel(build_model(ModelRef("toy_chain")), CPU)
    run = StampedPass.run

    def broken(self: StampedPass, values: Any) -> Any:
        taken_ns, leaves = run(self, values)
        spoilt = leaves[0].clone()
        spoilt.view(torch.int32)[0, 3] ^= 1  # one bit of one number
        return taken_ns, (spoilt,)

    monkeypatch.setattr(StampedPass, "run", broken)
    with exact_inference(), pytest.raises(ModelError, match="toy_chain run layer by layer differs from the whole"):
        ModelInputs(model).layers_ns()


def test_nodes_in_a_wrong_order_are_found_by_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The in-place change of an embedding, run after the layer that reads it."""

    def late(graph: LayerGraph) -> dict[str, int]:
        found = layer_of_node(graph)
        assert found["add_"] < graph.last_cut
        return {**found, "add_": graph.last_cut}

    model = ResidentModel(trap("BuildsItsEmbeddingInPlace"), CPU)
    monkeypatch.setattr(timing, "layer_of_node", late)
    with exact_inference(), pytest.raises(ModelError, match="differs from the whole"):
        ModelInputs(model).layers_ns()


def test_as_many_samples_as_were_asked_for_and_as_many_anchors() -> None:
    model = ResidentModel(build_model(ModelRef("toy_residual")), CPU)
    inputs = ModelInputs(model)
    told: list[tuple[int, int]] = []
    with exact_inference():
        passes, anchors = time_rounds(
            model,
            inputs,
            ProfileSettings(repeats=4, warmup=2, anchors=3),
            lambda done, total, _: told.append((done, total)),
        )
        none = time_rounds(model, inputs, ProfileSettings(repeats=1, anchors=0), lambda *_: None)
        every = time_rounds(model, inputs, ProfileSettings(repeats=1), lambda *_: None)
    assert [len(row) for row in passes] == [8] * 4
    assert len(anchors) == 3
    assert {anchors[0].cut, anchors[-1].cut} == {0, 8}
    assert all(len(anchor.bottom_ns) == len(anchor.top_ns) == 4 for anchor in anchors)
    assert told == [(number, 6) for number in range(7)]
    assert none[1] == ()
    assert [anchor.cut for anchor in every[1]] == list(range(9))  # 9 cuts are fewer than 12


def test_a_long_model_has_twelve_anchors_and_none_at_a_refused_cut() -> None:
    model = ResidentModel(build_model(ModelRef("resnet18", input_size=32)), CPU)
    refused = ResidentModel(build_model(ModelRef("toy_inplace_skip")), CPU)
    with exact_inference():
        _, anchors = time_rounds(model, ModelInputs(model), ProfileSettings(repeats=1, warmup=1), lambda *_: None)
        _, few = time_rounds(refused, ModelInputs(refused), ProfileSettings(repeats=1, warmup=1), lambda *_: None)
    cuts = [anchor.cut for anchor in anchors]
    assert len(cuts) == 12
    assert (cuts[0], cuts[-1]) == (0, model.graph.last_cut)
    assert [anchor.cut for anchor in few] == [0, 2, 3, 4]


def test_rounds_end_early_when_the_budget_is_spent_but_five_are_kept() -> None:
    model = ResidentModel(build_model(ModelRef("toy_chain")), CPU)
    with exact_inference():
        settings = ProfileSettings(repeats=50, warmup=1, anchors=2, budget_s=0.0)
        passes, anchors = time_rounds(model, ModelInputs(model), settings, lambda *_: None)
    assert len(passes) == 5
    assert all(len(anchor.bottom_ns) == 5 for anchor in anchors)


@pytest.mark.gpu
def test_events_on_a_gpu_give_one_time_a_layer() -> None:
    model = ResidentModel(build_model(ModelRef("resnet18", input_size=64)), torch.device("cuda", 0))
    inputs = ModelInputs(model)
    with exact_inference():
        assert len(inputs.layers_ns()) == model.graph.last_cut
        assert sum(inputs.layers_ns()) > 0
