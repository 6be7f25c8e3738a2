"""VGG-11 for 32x32: FLOPs and shapes counted by hand, against fvcore and the profiler's own count."""

from __future__ import annotations

import pytest
import torch

from splitnet.errors import ModelError
from splitnet.models.build import build_model
from splitnet.models.catalogue import catalogue
from splitnet.models.reference import ModelRef
from splitnet.profiling.profile import load_profile

# (output channels) x (output pixels) x (input channels x 9) of the convolutions, then inputs x outputs
STAGES = [
    64 * 32 * 32 * 3 * 9,
    128 * 16 * 16 * 64 * 9,
    256 * 8 * 8 * 128 * 9,
    256 * 8 * 8 * 256 * 9,
    512 * 4 * 4 * 256 * 9,
    512 * 4 * 4 * 512 * 9,
    512 * 2 * 2 * 512 * 9,
    512 * 2 * 2 * 512 * 9,
    512 * 512,
    512 * 512,
    512 * 10,
]
NAMES = [f"features.{place}" for place in (0, 3, 6, 8, 11, 13, 16, 18)] + [
    f"classifier.{place}" for place in (0, 2, 4)
]


def test_the_shipped_profile_has_the_flops_counted_by_hand() -> None:
    facts = load_profile("vgg11_cifar").facts
    counted = {layer.name: layer.flops for layer in facts.layers if layer.flops}
    assert counted == dict(zip(NAMES, STAGES, strict=True))
    assert facts.flops == facts.torch_flops == sum(STAGES)
    assert sum(STAGES) == pytest.approx(0.153e9, rel=0.005)  # MODEL.md section 4


def test_it_can_be_built_and_its_graph_is_the_profiled_one() -> None:
    from splitnet.graph import layer_graph

    built = build_model(ModelRef("vgg11_cifar", batch=2))
    assert built.module(*built.args).shape == (2, 10)
    assert built.args[0].shape == (2, 3, 32, 32)
    one = build_model(ModelRef("vgg11_cifar"))
    graph = layer_graph(one.module, one.args, one.kwargs, name="vgg11_cifar", exported=None)
    load_profile("vgg11_cifar").check_model("vgg11_cifar", graph.fingerprint.graph)
    with torch.inference_mode():
        assert one.module(*one.args).std() > 0


def test_it_is_listed_and_takes_no_other_size() -> None:
    entry = next(entry for entry in catalogue() if entry.name == "vgg11_cifar")
    assert (entry.family, entry.input_shapes, entry.weights) == ("classification", ((3, 32, 32),), ())
    with pytest.raises(ModelError, match="drop --input-size"):
        build_model(ModelRef("vgg11_cifar", input_size=64))
    with pytest.raises(ModelError, match="near names: vgg11_cifar"):
        build_model(ModelRef("vgg11_cifra"))
