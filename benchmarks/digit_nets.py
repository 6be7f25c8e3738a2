"""Two small nets that are trained in place, and the digits they learn: 1,797 grey pictures of 8x8, ten classes.

The pictures ship inside scikit-learn, so nothing is downloaded. Decides how they are split, and how the nets are
built and trained. A third of the pictures is never trained on. Everything drawn at random comes from a seed; the
trained weights still differ a little from machine to machine, since kernels round differently.

Knows nothing of cuts and codecs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from splitnet.errors import SplitnetError
from splitnet.models.seeding import seeded

CLASSES = 10
BATCH = 64
"""Pictures of one step of training."""
PEAK_RATE = 4e-3
"""The highest learning rate; it rises to that for a third of the steps, then falls to nothing."""
WEIGHT_DECAY = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures with what they show.

    Attributes:
        images: float32 [N, 1, height, width].
        labels: int64 [N].
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.dtype != torch.float32 or len(self.images) == 0:
            raise ValueError(f"images must be float32 [N, C, H, W] with N > 0, not {tuple(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(f"{len(self.images)} images need as many int64 labels, not {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)


class SlimVgg(nn.Module):
    """VGG in small: three stages of two convolutions and a pooling, 8x8 -> 4x4 -> 2x2 -> 1x1; no dropout."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 1
        for channels in (16, 32, 64):
            for _ in range(2):
                layers += [
                    nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                channels_in = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels_in, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, x: Tensor) -> Tensor:  # [B, 1, 8, 8]
        out: Tensor = self.head(self.features(x))
        return out  # [B, 10]


class Block(nn.Module):
    """Two convolutions and a way around them, which has one of its own where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.around: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.around = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + (x if self.around is None else self.around(x)))


class SmallResNet(nn.Module):
    """ResNet in small: a stem, then four basic blocks at 8x8, 8x8, 4x4 and 2x2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:  # [B, 1, 8, 8]
        out: Tensor = self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))
        return out  # [B, 10]


NETS: dict[str, Callable[[], nn.Module]] = {"slim VGG": SlimVgg, "small ResNet": SmallResNet}


def load_digits() -> Pictures:
    """All digits, grey from 0 to 1; SplitnetError where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise SplitnetError(
            "the digits ship inside scikit-learn, which is not installed; "
            "take the benchmark extra: .venv/bin/pip install --editable '.[benchmark]'"
        ) from error
    found = load()
    images = torch.from_numpy(found.images).to(torch.float32).unsqueeze(1) / 16  # 17 levels of grey
    return Pictures(images, torch.from_numpy(found.target).to(torch.int64))


def split_pictures(pictures: Pictures, generator: torch.Generator) -> tuple[Pictures, Pictures]:
    """Two thirds to train on and the rest to test with, in an order drawn from `generator`."""
    order = torch.randperm(len(pictures), generator=generator)
    train, test = order.tensor_split([len(pictures) * 2 // 3])
    return (
        Pictures(pictures.images[train], pictures.labels[train]),
        Pictures(pictures.images[test], pictures.labels[test]),
    )


def trained(factory: Callable[[], nn.Module], pictures: Pictures, *, epochs: int, seed: int) -> nn.Module:
    """A net of `factory` after `epochs` passes over `pictures`, in eval mode.

    AdamW on the cross-entropy, one cycle of the learning rate (arXiv:1708.07120). No test picture has a say:
    there is no early stop, and the last weights are taken.
    """
    with seeded(seed):
        net = factory().train()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(pictures) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(pictures), generator=generator).split(BATCH):
            optimiser.zero_grad()
            loss = functional.cross_entropy(net(pictures.images[chosen]), pictures.labels[chosen])
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()
