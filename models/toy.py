"""Small networks whose FLOPs, live sets and refused cuts were derived by hand, as data beside each of them.

They are the oracle for the layer graph, the profiler and the slicer; nothing here is computed by those.

Conventions: 1 multiply-add = 1 FLOP as fvcore counts, so a convolution costs (output numbers) x (input
channels) x (kernel area) and a linear layer inputs x outputs; biases, relu, add, mul, cat and pooling count
0. Sizes are bytes of float32 tensors at batch 1. Cut k stands after layer k, cut 0 before the first; at the
last cut the outputs cross. 256 B is one 8x8 plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class ToyNet:
    """A network with what is known about it.

    Attributes:
        factory: builds it; weights are drawn by the caller's generators.
        input_shapes: one shape an input, without the batch dimension.
        flops_by_layer: every layer in execution order with its FLOPs at batch 1.
        output_shapes: the outputs in order at batch 1, batch included.
        live_bytes: payload of cuts 0..L at batch 1.
        refused_cuts: cuts that would give wrong results.
    """

    name: str
    factory: Callable[[], nn.Module]
    input_shapes: tuple[tuple[int, ...], ...]
    flops_by_layer: Mapping[str, int]
    output_shapes: tuple[tuple[int, ...], ...]
    live_bytes: tuple[int, ...]
    refused_cuts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.live_bytes) != len(self.flops_by_layer) + 1:
            raise ValueError(f"{self.name}: {len(self.live_bytes)} cuts, {len(self.flops_by_layer)} layers")
        if any(not 0 <= cut < len(self.live_bytes) for cut in self.refused_cuts):
            raise ValueError(f"{self.name}: refused cuts {self.refused_cuts} are out of range")


class ToyChain(nn.Module):
    """A plain chain: one tensor crosses every cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu(self.conv(image))  # [B, 4, 8, 8]
        x = self.flatten(self.pool(x))  # [B, 64]
        return self.fc(x)  # type: ignore[no-any-return]  # [B, 10]


_CHAIN = ToyNet(
    name="toy_chain",
    factory=ToyChain,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "conv": 6912,  # 4*8*8 outputs * 3 channels * 9
        "relu": 0,
        "pool": 0,
        "flatten": 0,
        "fc": 640,  # 64 * 10
    },
    output_shapes=((1, 10),),
    live_bytes=(
        768,  # image, 3*8*8*4
        1024,  # conv, 4*8*8*4
        1024,  # relu, same shape
        256,  # pool, 4*4*4*4
        256,  # flatten, 64*4
        40,  # fc, 10*4
    ),
)


class ResidualBlock(nn.Module):
    """Two convolutions and the skip around them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.relu(self.conv1(x)))  # [B, 4, 8, 8]
        return out + x


class ToyResidual(nn.Module):
    """A skip connection: two tensors cross the cuts inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.block = ResidualBlock()
        self.pool = nn.MaxPool2d(8)
        self.fc = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.block(self.stem(image))  # [B, 4, 8, 8]
        x = torch.flatten(self.pool(x), 1)  # [B, 4]
        return self.fc(x)  # type: ignore[no-any-return]  # [B, 5]


_RESIDUAL = ToyNet(
    name="toy_residual",
    factory=ToyResidual,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "stem": 6912,  # 4*8*8 * 3*9
        "block.conv1": 9216,  # 4*8*8 * 4*9
        "block.relu": 0,
        "block.conv2": 1024,  # 4*8*8 * 4*1
        "block.add": 0,
        "pool": 0,
        "flatten": 0,
        "fc": 20,  # 4 * 5
    },
    output_shapes=((1, 5),),
    live_bytes=(
        768,  # image
        1024,  # stem, read by conv1 and by add, shipped once
        2048,  # conv1 1024 + stem 1024
        2048,  # relu 1024 + stem 1024
        2048,  # conv2 1024 + stem 1024
        1024,  # add
        16,  # pool, 4*4
        16,  # flatten
        20,  # fc, 5*4
    ),
)


class ToyDense(nn.Module):
    """Dense concatenation: every layer reads all before it, up to three tensors cross."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(4, 2, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(6, 2, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        a = self.conv1(image)  # [B, 4, 8, 8]
        b = self.conv2(a)  # [B, 2, 8, 8]
        c = self.conv3(torch.cat([a, b], dim=1))  # [B, 2, 8, 8]
        x = torch.cat([a, b, c], dim=1)  # [B, 8, 8, 8]
        x = torch.flatten(self.pool(x), 1)  # [B, 8]
        return self.fc(x)  # type: ignore[no-any-return]  # [B, 5]


_DENSE = ToyNet(
    name="toy_dense",
    factory=ToyDense,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "conv1": 6912,  # 4*8*8 * 3*9
        "conv2": 4608,  # 2*8*8 * 4*9
        "cat": 0,
        "conv3": 6912,  # 2*8*8 * 6*9
        "cat_1": 0,
        "pool": 0,
        "flatten": 0,
        "fc": 40,  # 8 * 5
    },
    output_shapes=((1, 5),),
    live_bytes=(
        768,  # image
        1024,  # a
        1536,  # a 1024 + b 512
        3072,  # a 1024 + b 512 + cat 1536: a and b are read again by cat_1
        2048,  # a 1024 + b 512 + c 512
        2048,  # cat_1, 8*8*8*4
        32,  # pool, 8*4
        32,  # flatten
        20,  # fc
    ),
)


class ToyBranch(nn.Module):
    """A branch and two merges; one arm is a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.left = nn.Conv2d(4, 6, kernel_size=3, stride=2, padding=1)
        self.right = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, kernel_size=1))
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(96, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)  # [B, 4, 8, 8]
        left = self.left(x)  # [B, 6, 4, 4]
        right = self.right(x)  # [B, 6, 4, 4]
        merged = left + right
        merged = functional.relu(merged + left)  # [B, 6, 4, 4]
        return self.fc(self.flatten(merged))  # type: ignore[no-any-return]  # [B, 5]


_BRANCH = ToyNet(
    name="toy_branch",
    factory=ToyBranch,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "stem": 6912,  # 4*8*8 * 3*9
        "left": 3456,  # 6*4*4 * 4*9
        "right.0": 0,
        "right.1": 384,  # 6*4*4 * 4*1
        "add": 0,
        "add_1": 0,
        "relu": 0,
        "flatten": 0,
        "fc": 480,  # 96 * 5
    },
    output_shapes=((1, 5),),
    live_bytes=(
        768,  # image
        1024,  # stem
        1408,  # stem 1024, which the right arm still reads, + left 6*4*4*4 = 384
        640,  # left 384 + pooled 4*4*4*4 = 256
        768,  # left 384 + right 384
        768,  # add 384 + left 384, which add_1 reads
        384,  # add_1
        384,  # relu
        384,  # flatten, 96*4
        20,  # fc
    ),
)


class ToyInplaceSkip(nn.Module):
    """The skip looks into the tensor that the next layer changes in place.

    Cut 1 is refused: the two live tensors are one storage, and relu, in the top, changes it. Shipped as two,
    the skip would keep the values from before relu. From cut 2 on nothing changes it any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 2, kernel_size=3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image)  # [B, 4, 8, 8]
        skip = x[:, :2]  # [B, 2, 8, 8], a view
        out: Tensor = self.conv2(self.relu(x))  # [B, 2, 8, 8]
        return out + skip  # type: ignore[no-any-return]


_INPLACE_SKIP = ToyNet(
    name="toy_inplace_skip",
    factory=ToyInplaceSkip,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "conv1": 6912,  # 4*8*8 * 3*9
        "relu": 0,
        "conv2": 4608,  # 2*8*8 * 4*9
        "add": 0,
    },
    output_shapes=((1, 2, 8, 8),),
    live_bytes=(
        768,  # image
        1536,  # conv1 1024 + skip 512, a view that belongs to conv1
        1536,  # relu 1024 + skip 512
        1024,  # conv2 512 + skip 512
        512,  # add
    ),
    refused_cuts=(1,),
)


class ToyShared(nn.Module):
    """One convolution and one activation, each used twice: a cut between has the weights on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.conv = nn.Conv2d(4, 4, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(8)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)  # [B, 4, 8, 8]
        for _ in range(2):
            x = self.relu(self.conv(x))
        return self.fc(self.flatten(self.pool(x)))  # type: ignore[no-any-return]  # [B, 5]


_SHARED = ToyNet(
    name="toy_shared",
    factory=ToyShared,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "stem": 6912,  # 4*8*8 * 3*9
        "conv": 9216,  # 4*8*8 * 4*9
        "relu": 0,
        "conv_1": 9216,  # the same weights again
        "relu_1": 0,
        "pool": 0,
        "flatten": 0,
        "fc": 20,  # 4 * 5
    },
    output_shapes=((1, 5),),
    live_bytes=(
        768,  # image
        1024,  # stem
        1024,  # conv
        1024,  # relu
        1024,  # conv_1
        1024,  # relu_1
        16,  # pool
        16,  # flatten
        20,  # fc
    ),
)


class ToyTuple(nn.Module):
    """A layer whose value is a tuple: both parts of the chunk cross the cut after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.left = nn.Conv2d(2, 3, kernel_size=1)
        self.right = nn.Conv2d(2, 3, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(8)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(3, 5)

    def forward(self, image: Tensor) -> Tensor:
        a, b = self.conv(image).chunk(2, dim=1)  # two views [B, 2, 8, 8]
        x = self.left(a) * self.right(b)  # [B, 3, 8, 8]
        return self.fc(self.flatten(self.pool(x)))  # type: ignore[no-any-return]  # [B, 5]


_TUPLE = ToyNet(
    name="toy_tuple",
    factory=ToyTuple,
    input_shapes=((3, 8, 8),),
    flops_by_layer={
        "conv": 6912,  # 4*8*8 * 3*9
        "chunk": 0,
        "left": 384,  # 3*8*8 * 2*1
        "right": 3456,  # 3*8*8 * 2*9
        "mul": 0,
        "pool": 0,
        "flatten": 0,
        "fc": 15,  # 3 * 5
    },
    output_shapes=((1, 5),),
    live_bytes=(
        768,  # image
        1024,  # conv
        1024,  # a 512 + b 512
        1280,  # left 3*8*8*4 = 768 + b 512
        1536,  # left 768 + right 768
        768,  # mul
        12,  # pool, 3*4
        12,  # flatten
        20,  # fc
    ),
)


class ToyMulti(nn.Module):
    """Two inputs, of which the second waits while the first is worked on, and a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(8)
        self.flatten = nn.Flatten()
        self.embed = nn.Linear(6, 4)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor, state: Tensor) -> dict[str, Tensor]:
        seen = self.flatten(self.pool(self.conv(image)))  # [B, 4]
        features = torch.cat([seen, self.embed(state)], dim=1)  # [B, 8]
        return {"features": features, "logits": self.head(features)}  # [B, 8], [B, 5]


_MULTI = ToyNet(
    name="toy_multi",
    factory=ToyMulti,
    input_shapes=((3, 8, 8), (6,)),
    flops_by_layer={
        "conv": 6912,  # 4*8*8 * 3*9
        "pool": 0,
        "flatten": 0,
        "embed": 24,  # 6 * 4
        "cat": 0,
        "head": 40,  # 8 * 5
    },
    output_shapes=((1, 8), (1, 5)),
    live_bytes=(
        792,  # image 768 + state 6*4 = 24
        1048,  # conv 1024 + state 24
        40,  # pool 16 + state 24
        40,  # flatten 16 + state 24
        32,  # flatten 16 + embed 16
        32,  # cat, read by head and by the output, shipped once
        52,  # cat 32 + head 20: both are outputs
    ),
)

TOY_NETS: Mapping[str, ToyNet] = {
    toy.name: toy for toy in (_CHAIN, _RESIDUAL, _DENSE, _BRANCH, _INPLACE_SKIP, _SHARED, _TUPLE, _MULTI)
}
"""All toy nets by name."""
