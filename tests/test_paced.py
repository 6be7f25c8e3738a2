"""Paced halves against the model itself, bit for bit: at every cut, at several speeds, in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from splitnet.inference import bitwise_equal, clone_tensors, exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.resident import ResidentModel
from splitnet.runtime.paced import PacedHalf
from splitnet.runtime.speed import Pacing
from splitnet.slicing import slice_model
from tests.nets import Attends, BuildsItsEmbeddingInPlace, ChangesItsInput, SizesCross, WritesASlice


def resident(ref: ModelRef) -> ResidentModel:
    return ResidentModel(build_model(ref), torch.device("cpu"))


def unsplit(model: ResidentModel) -> Any:
    built = model.built
    with exact_inference():
        return clone_tensors(model.module(*clone_tensors(built.args), **clone_tensors(built.kwargs)))


def check_cut(model: ResidentModel, cut: int, pacing: Pacing, lane: str, whole: Any) -> None:
    """Both halves under pacing give what they give without, and the unsplit model's output."""
    flat = [value for _, value in model.example()]
    bottom, top = model.bottom(cut), model.top(cut)
    slow_bottom, slow_top = PacedHalf(bottom), PacedHalf(top)
    assert (slow_bottom.boundaries, slow_top.boundaries) == (cut, model.graph.last_cut - cut)
    with exact_inference():
        live, below = pacing.run(lane, lambda pause: slow_bottom.run(clone_tensors(flat), pause))
        assert bitwise_equal(list(live), list(bottom.run(clone_tensors(flat))))
        leaves, above = pacing.run(lane, lambda pause: slow_top.run(live, pause))
    assert bitwise_equal(list(leaves), whole)
    for use in (below, above):
        assert use.achieved <= use.asked * (1 + 1e-6)


@pytest.mark.parametrize("name", TOY_NETS)
def test_toy_nets_at_every_cut(name: str) -> None:
    model = resident(ModelRef(name))
    whole = unsplit(model)
    pacing = Pacing()
    for cut in model.graph.cuts:
        if cut.refused is None:
            for fraction in (0.2, 0.9):
                pacing.set("lane", fraction)
                check_cut(model, cut.index, pacing, "lane", whole)


def test_resnet18_at_every_cut() -> None:
    model = resident(ModelRef("resnet18", input_size=64))
    whole = unsplit(model)
    pacing = Pacing()
    for cut in model.graph.cuts:
        pacing.set("lane", (0.3, 0.6, 0.95)[cut.index % 3])
        check_cut(model, cut.index, pacing, "lane", whole)
    assert model.graph.last_cut == 69


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (ChangesItsInput, (2, 6)),
        (Attends, (2, 5, 16)),
        (SizesCross, (1, 3, 16, 16)),
        (WritesASlice, (2, 4)),
        (BuildsItsEmbeddingInPlace, (2, 4, 8)),
    ],
)
def test_nets_with_traps_at_every_cut(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    net = make().eval()
    example = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with exact_inference():
        whole = net(example.clone())
    bottom, _ = slice_model(net, 0, example.clone())
    pacing = Pacing()
    pacing.set("lane", 0.5)
    for cut in bottom.graph.cuts:
        if cut.refused is not None:
            continue
        below, above = (PacedHalf(half) for half in slice_model(bottom.graph, cut.index))
        with exact_inference():
            live, _ = pacing.run("lane", lambda pause, half=below: half.run([example.clone()], pause))  # type: ignore[misc]
            leaves, _ = pacing.run("lane", lambda pause, half=above, live=live: half.run(live, pause))  # type: ignore[misc]
        assert bitwise_equal(list(leaves), whole)


def test_lanes_of_one_process_share_a_model_and_do_not_mix() -> None:
    model = resident(ModelRef("resnet18", input_size=64))
    halves = {cut: PacedHalf(model.top(cut)) for cut in (0, 20, 50)}
    pacing = Pacing()
    wrong: list[str] = []
    with exact_inference():
        chance = torch.Generator().manual_seed(5)
        images = [torch.randn(1, 3, 64, 64, generator=chance) for _ in halves]
        expected = [model.module(image) for image in images]

    def lane(place: int, cut: int) -> None:
        name = f"cut {cut}"
        pacing.set(name, (0.5, 0.3, 0.1)[place])
        with exact_inference():
            for _ in range(4):
                live = model.bottom(cut).run([images[place]])
                leaves, _ = pacing.run(name, lambda pause, live=live: halves[cut].run(live, pause))  # type: ignore[misc]
                if not bitwise_equal(list(leaves), expected[place]):
                    wrong.append(name)
        done.append(name)

    done: list[str] = []
    threads = [threading.Thread(target=lane, args=one) for one in enumerate(halves)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == ["cut 0", "cut 20", "cut 50"]
    assert wrong == []


def test_the_boundaries_stand_between_the_layers() -> None:
    """A pause that counts sees each layer's work done when it is called, and no later one's."""
    model = resident(ModelRef("toy_chain"))
    order: list[str] = []
    for layer in model.graph.layers:
        model.graph.trace.root.get_submodule(layer.name).register_forward_hook(
            lambda module, args, out, name=layer.name: order.append(name)
        )
    half = PacedHalf(model.bottom(4))
    with exact_inference():
        half.run([value for _, value in model.example()], lambda: order.append("|"))
    assert order == ["conv", "|", "relu", "|", "pool", "|", "flatten", "|"]
