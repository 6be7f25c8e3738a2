"""Networks for images of 32x32, which torchvision does not have: its own heads are cut for 224 pixels.

`vgg11_cifar` is the network of the default scenario (MODEL.md section 4): 11 weighted stages, each a convolution or a
linear layer with what follows it, 152,757,760 + 529,408 multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

INPUT_SHAPE = (3, 32, 32)
CLASSES = 10

_WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of VGG-11's convolutions (Simonyan and Zisserman 2015, configuration A); a pooling ends each group."""
_HIDDEN = 512
"""Of the two hidden linear layers: 4096 in the paper, for 224 pixels and 1000 classes."""


class Vgg11Cifar(nn.Module):
    """VGG-11 on 32x32: five poolings leave one pixel of 512 channels for the three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = INPUT_SHAPE[0]
        for group in _WIDTHS:
            for width in group:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.flatten(self.features(images))  # [B, 512]
        return self.classifier(features)  # type: ignore[no-any-return]  # [B, 10]


CIFAR_NETS: Mapping[str, Callable[[], nn.Module]] = {"vgg11_cifar": Vgg11Cifar}
"""By name; all take images of `INPUT_SHAPE`."""
