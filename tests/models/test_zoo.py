"""torchvision's networks: reproducible in every process, alive for every input, and honest about weights."""

import subprocess
import sys
from collections import Counter
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models import ResNet18_Weights

from splitnet.errors import ModelError
from splitnet.models.build import build_model
from splitnet.models.catalogue import catalogue
from splitnet.models.reference import ModelRef, is_code
from splitnet.models.seeding import draw_weights
from splitnet.models.zoo import families, input_shape

SAMPLE = {  # name: side of a small image, where the network takes one
    "squeezenet1_1": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 75,
    "mnasnet0_5": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet152": 64,
    "shufflenet_v2_x0_5": 64,
    "swin_t": 64,
    "vit_b_32": 64,
    "lraspp_mobilenet_v3_large": 64,
    "fcn_resnet50": 64,
    "r3d_18": 32,
    "quantized_mobilenet_v2": 64,
}
DIGEST = """
import hashlib
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
def digest(name):
    built = build_model(ModelRef(name, seed=5, input_size=64))
    found = hashlib.sha256()
    for tensor in (*built.module.state_dict().values(), *built.args):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()
"""


def logits(model: Any, *args: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        output = model(*args)
    result: torch.Tensor = output["out"] if isinstance(output, dict) else output
    return result


def error_of(ref: ModelRef) -> str:
    with pytest.raises(ModelError) as caught:
        build_model(ref)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "size"), SAMPLE.items())
def test_random_start_is_reproducible_finite_and_varies(name: str, size: int) -> None:
    torch.manual_seed(11)
    one = build_model(ModelRef(name, input_size=size))
    torch.manual_seed(12)
    two = build_model(ModelRef(name, input_size=size))
    for (key, tensor), (_, again) in zip(
        one.module.state_dict().items(), two.module.state_dict().items(), strict=True
    ):
        assert torch.equal(tensor, again), key
        assert tensor.isfinite().all(), key
    assert torch.equal(one.args[0], two.args[0])
    assert one.random_weights
    assert not one.module.training
    assert not any(parameter.requires_grad for parameter in one.module.parameters())

    output = logits(one.module, *one.args)
    other = logits(one.module, one.args[0].flip(-1))
    assert output.isfinite().all()
    assert output.abs().max() < 65504, "half precision could not carry it"
    assert (output - other).abs().max() > 1e-3 * output.abs().max()


def test_seeds_differ() -> None:
    zero, one = (build_model(ModelRef("squeezenet1_1", seed=seed, input_size=64)) for seed in (0, 1))
    assert not torch.equal(next(zero.module.parameters()), next(one.module.parameters()))
    assert not torch.equal(zero.args[0], one.args[0])


def test_another_process_draws_the_same_bits() -> None:
    code = f"{DIGEST}\nprint(digest('mobilenet_v3_small'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    here: dict[str, Any] = {}
    exec(DIGEST, here)
    assert done.stdout.strip() == here["digest"]("mobilenet_v3_small")


def test_the_callers_generators_are_untouched() -> None:
    def draws() -> tuple[float, float]:
        return torch.rand(1).item(), float(np.random.rand())

    torch.manual_seed(3)
    np.random.seed(3)
    expected = draws()
    torch.manual_seed(3)
    np.random.seed(3)
    build_model(ModelRef("resnet18"))
    assert draws() == expected


def test_heads_that_torchvision_leaves_zero_are_drawn() -> None:
    tiny = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    assert not tiny.get_parameter("heads.head.weight").any()
    draw_weights(tiny, seed=0)
    assert tiny.get_parameter("heads.head.weight").std() > 0.01
    assert tiny.get_parameter("class_token").std() > 0.01


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (3, 224, 224)),
        ("inception_v3", (3, 299, 299)),
        ("efficientnet_b7", (3, 600, 600)),
        ("vit_h_14", (3, 224, 224)),
        ("swin_v2_t", (3, 256, 256)),
        ("fcn_resnet50", (3, 520, 520)),
        ("r3d_18", (3, 16, 112, 112)),
        ("s3d", (3, 16, 224, 224)),
        ("mvit_v2_s", (3, 16, 224, 224)),
        ("quantized_inception_v3", (3, 299, 299)),
    ],
)
def test_default_input_shapes(name: str, shape: tuple[int, ...]) -> None:
    assert input_shape(name) == shape


def test_weights_decide_the_default_size() -> None:
    weights = torchvision.models.ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1
    assert input_shape("vit_h_14", weights) == (3, 518, 518)


def test_input_size_reaches_networks_whose_parameters_depend_on_it() -> None:
    built = build_model(ModelRef("vit_b_32", input_size=64, batch=2))
    assert built.args[0].shape == (2, 3, 64, 64)
    assert logits(built.module, *built.args).shape == (2, 1000)
    assert "vit_b_32 does not take --input-size 50" in error_of(ModelRef("vit_b_32", input_size=50))


def test_published_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    published = build_model(ModelRef("resnet18", seed=9)).module.state_dict()
    asked = []

    def fetch(url: str, **settings: Any) -> dict[str, Any]:
        asked.append(url)
        return published

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fetch)
    built = build_model(ModelRef("resnet18", weights="DEFAULT", input_size=64))
    assert asked == [ResNet18_Weights.DEFAULT.url]
    assert not built.random_weights
    assert torch.equal(built.module.get_parameter("fc.weight"), published["fc.weight"])


@pytest.mark.parametrize("error", [URLError("no route"), OSError("timed out"), RuntimeError("invalid hash")])
def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fetch(url: str, **settings: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fetch)
    said = error_of(ModelRef("resnet18", weights="IMAGENET1K_V1"))
    assert ResNet18_Weights.DEFAULT.url in said
    assert said.endswith("drop --weights for a seeded random start")


def test_unknown_weights_list_the_valid_ones() -> None:
    said = error_of(ModelRef("resnet50", weights="IMAGENET1K_V9"))
    assert "'IMAGENET1K_V9'" in said
    assert "IMAGENET1K_V1, IMAGENET1K_V2" in said


def test_unknown_names_get_near_ones_and_the_list() -> None:
    said = error_of(ModelRef("resnet19"))
    assert "'resnet19'" in said
    assert "resnet18" in said
    assert "`splitnet models` lists all" in said
    assert "near" not in error_of(ModelRef("qqqqqq"))


@pytest.mark.parametrize(
    ("settings", "guilty"),
    [
        ({"batch": 0}, "batch 0"),
        ({"seed": -1}, "seed -1"),
        ({"input_size": 0}, "input size 0"),
        ({"input_shape": ((3, 0),)}, "3,0"),
        ({"input_shape": ()}, "3,224,224"),
        ({"name": "a\nb"}, "'a\\nb'"),
        ({"weights": "a\nb"}, "'a\\nb'"),
    ],
)
def test_references_are_checked(settings: dict[str, Any], guilty: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelRef(**{"name": "resnet18"} | settings)
    assert guilty in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "way_out"),
    [
        (ModelRef("resnet18", input_shape=((3, 64, 64),)), "use --input-size"),
        (ModelRef("toy_chain", input_size=64), "drop --input-size"),
        (ModelRef("toy_chain", weights="DEFAULT"), "drop --weights"),
        (ModelRef("toy_chain", input_shape=((3, 8, 8),)), "drop --input-shape"),
    ],
)
def test_settings_that_do_not_apply_are_refused(ref: ModelRef, way_out: str) -> None:
    assert way_out in error_of(ref)


def test_the_catalogue_lists_every_name_once() -> None:
    entries = {entry.name: entry for entry in catalogue()}
    assert len(entries) == len(catalogue())
    models = torchvision.models
    assert Counter(entry.family for entry in entries.values()) == {
        "classification": len(models.list_models(module=models)) + 1,  # vgg11_cifar
        "segmentation": len(models.list_models(module=models.segmentation)),
        "video": len(models.list_models(module=models.video)),
        "quantization": len(models.list_models(module=models.quantization)),
        "toy": 8,
    }
    assert entries["resnet50"].weights == ("IMAGENET1K_V1", "IMAGENET1K_V2")
    assert entries["toy_multi"].input_shapes == ((3, 8, 8), (6,))
    assert not any(is_code(name) for name in entries)
    assert "fasterrcnn_resnet50_fpn" not in families()


def test_mvit_says_which_size_it_takes() -> None:
    with pytest.raises(ModelError, match=r"mvit_v1_b takes frames of 224 pixels only, not --input-size 64"):
        build_model(ModelRef("mvit_v1_b", input_size=64))
