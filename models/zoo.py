"""torchvision's networks by name: classification, segmentation, video, and the float form of quantization's.

Default inputs are those of the published evaluation, except where the bare constructor makes another network:
`vit_h_14` takes 224 pixels without weights and 518 with its default ones. Detection and optical flow are left
out: their control flow depends on the data, so no graph holds for two images; slice a backbone as your own
model.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torchvision import models as tv
from torchvision.models import WeightsEnum

from splitnet.errors import ModelError
from splitnet.models.reference import BuiltModel, ModelRef, format_shape
from splitnet.models.seeding import build_seeded, example_input
from splitnet.models.weights_only import weights_only

FRAMES = 16
"""Length of example clips: the least that MViT takes, and enough for S3D (14)."""
BARE_VIT_SIZE = 224
"""What torchvision's ViT constructors take when no weights say otherwise."""

_MODULES = {
    "classification": tv,
    "segmentation": tv.segmentation,
    "video": tv.video,
    "quantization": tv.quantization,
}


MVIT_SIZE = 224
"""torchvision's builders of MViT fix the side of the frames."""


@cache
def families() -> dict[str, str]:
    """Every model name of the zoo with its family."""
    return {name: family for family, module in _MODULES.items() for name in tv.list_models(module=module)}


def weights_of(name: str) -> type[WeightsEnum]:
    """The published weights of a model; the float form of `quantized_x` takes those of `x`."""
    weights: type[WeightsEnum] = tv.get_model_weights(name.removeprefix("quantized_"))
    return weights


def input_shape(name: str, weights: WeightsEnum | None = None, size: int | None = None) -> tuple[int, ...]:
    """Shape of one input, without batch: [3, H, W], or [3, T, H, W] for video."""
    if size is None and weights is None and name.startswith("vit_"):
        size = BARE_VIT_SIZE
    if size is None:
        evaluation = (weights or weights_of(name)["DEFAULT"]).transforms.keywords
        given = evaluation.get("crop_size", evaluation.get("resize_size"))
        size = given[0] if isinstance(given, tuple | list) else given
    frames = (FRAMES,) if families()[name] == "video" else ()
    return (3, *frames, size, size)


def build_zoo(ref: ModelRef) -> BuiltModel:
    """A torchvision model with published weights, or with a seeded random start.

    Raises:
        ModelError: unknown weights, weights that cannot be fetched, or a size that the network refuses.
    """
    if ref.input_shape is not None:
        raise ModelError(
            f"{ref.name} takes images, not --input-shape {format_shape(ref.input_shape[0])}; use --input-size"
        )
    weights = None if ref.weights is None else _find_weights(ref.name, ref.weights)
    module = _random_start(ref) if weights is None else _published(ref.name, weights)
    if families()[ref.name] == "segmentation":
        _drop_training_head(module)
    shape = input_shape(ref.name, weights, ref.input_size)
    return BuiltModel(
        ref=ref,
        module=module.eval().requires_grad_(False),
        args=example_input((shape,), ref.batch, ref.seed),
        kwargs={},
        random_weights=weights is None,
    )


def _drop_training_head(module: Any) -> None:
    """Published segmentation weights bring an auxiliary head that only training uses."""
    if getattr(module, "aux_classifier", None) is not None:
        module.aux_classifier = None


def _random_start(ref: ModelRef) -> nn.Module:
    settings: dict[str, Any] = {"weights": None}
    family = families()[ref.name]
    if family == "quantization":
        settings["quantize"] = False
    if family == "segmentation":
        settings["weights_backbone"] = None
    if ref.name.endswith(("googlenet", "inception_v3")):
        settings |= {"init_weights": False, "aux_logits": False}
    if ref.input_size is not None:
        settings |= _fixed_size(ref.name, ref.input_size)
    try:
        return build_seeded(lambda: tv.get_model(ref.name, **settings), ref.seed)
    except (ValueError, RuntimeError, AssertionError) as error:
        if ref.input_size is None:
            raise
        raise ModelError(f"{ref.name} does not take --input-size {ref.input_size}: {_line(error)}") from error


def _fixed_size(name: str, size: int) -> dict[str, Any]:
    """The constructor's setting for networks whose parameters depend on the image's size."""
    if name.startswith("vit_"):
        return {"image_size": size}
    if name.startswith("maxvit_"):
        return {"input_size": (size, size)}
    if name.startswith("mvit_") and size != MVIT_SIZE:
        raise ModelError(f"{name} takes frames of {MVIT_SIZE} pixels only, not --input-size {size}; leave it out")
    return {}


def _find_weights(name: str, wanted: str) -> WeightsEnum:
    published = weights_of(name)
    _, _, member = wanted.rpartition(".")  # `ResNet18_Weights.DEFAULT` is torchvision's own spelling
    if member not in published.__members__:
        names = ", ".join(published.__members__)
        raise ModelError(f"{name} has no weights {wanted!r}; it has {names}")
    return published[member]


def _published(name: str, weights: WeightsEnum) -> nn.Module:
    settings: dict[str, Any] = {"quantize": False} if families()[name] == "quantization" else {}
    if name.endswith("inception_v3"):
        settings["aux_logits"] = False
    try:
        with weights_only():
            module: nn.Module = tv.get_model(name, weights=weights, progress=False, **settings)
    except Exception as error:  # the network, the disk, or a file that is not plain weights
        raise ModelError(
            f"weights {weights.name} of {name} could not be fetched from {weights.url} ({_line(error)}); "
            "drop --weights for a seeded random start"
        ) from error
    return module


def _line(error: BaseException) -> str:
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0].strip()}" if lines[0].strip() else type(error).__name__
