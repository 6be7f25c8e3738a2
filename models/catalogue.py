"""What `splitnet models` lists: every built-in name, without building any."""

from __future__ import annotations

from dataclasses import dataclass

from splitnet.models.cifar import CIFAR_NETS, INPUT_SHAPE
from splitnet.models.toy import TOY_NETS
from splitnet.models.zoo import families, input_shape, weights_of


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One built-in model.

    Attributes:
        family: classification, segmentation, video, quantization or toy.
        input_shapes: default shape of each input with a seeded random start, without the batch dimension.
        weights: the published weights that `ModelRef.weights` takes, besides `DEFAULT`.
    """

    name: str
    family: str
    input_shapes: tuple[tuple[int, ...], ...]
    weights: tuple[str, ...]


def catalogue() -> tuple[CatalogueEntry, ...]:
    """All built-in models: torchvision's by family and name, those for 32x32, then the toy nets."""
    zoo = [
        CatalogueEntry(name, family, (input_shape(name),), tuple(member.name for member in weights_of(name)))
        for name, family in families().items()
    ]
    cifar = [CatalogueEntry(name, "classification", (INPUT_SHAPE,), ()) for name in CIFAR_NETS]
    toys = [CatalogueEntry(toy.name, "toy", toy.input_shapes, ()) for toy in TOY_NETS.values()]
    return (*zoo, *cifar, *toys)
