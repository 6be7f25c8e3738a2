"""Networks that trip naive slicers; each stands for one trap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChangesItsInput(nn.Module):
    """The first layer works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.relu(x))
        return out


class Attends(nn.Module):
    """MultiheadAttention, whose fused path rounds otherwise, and a witness of how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.after = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        x, _ = self.attention(x, x, x, need_weights=False)
        out: Tensor = self.after(x)
        return out


class SizesCross(nn.Module):
    """The size of an early tensor is used late, and a number computed from it too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2)
        self.conv2 = nn.Conv2d(4, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape
        y = self.conv2(self.conv1(x))
        y = functional.interpolate(y, size=size[-2:], mode="bilinear")
        return y.view(size[0], -1)


class ParametersDirectly(nn.Module):
    """A class token and a position embedding, used outside any leaf module."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.before = nn.Linear(8, 8)
        self.after = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, 4, 8]
        x = self.before(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position  # [B, 5, 8]
        out: Tensor = self.after(x)
        return out


class OptionalMask(nn.Module):
    """A branch on an argument that a tracer replaces by a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, flag: bool = False) -> Tensor:
        y = self.one(x)
        if mask is not None:
            y = y * mask
        if flag:
            y = -y
        out: Tensor = self.two(y)
        return out


class BranchesOnItsInput(nn.Module):
    """What it computes depends on the values it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out if out.sum() > 0 else -out


class CountsItsCalls(nn.Module):
    """A buffer changes in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)  # type: ignore[operator]
        out: Tensor = self.fc(x)
        return out


class NestedOutput(nn.Module):
    """Keyword inputs; a dict of tensors, tuples and plain numbers as output."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 4)
        self.right = nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        left = self.left(x)
        return {"sum": left.sum(-1), "pair": (left, self.right(y)), "batch": x.shape[0]}


class ListInput(nn.Module):
    """A list of tensors as one argument: FX cannot, export can."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, parts: list[Tensor]) -> Tensor:
        out: Tensor = self.fc(torch.cat(parts, dim=-1)) + parts[0].sum()
        return out


class WritesASlice(nn.Module):
    """An in-place operation without a value (`setitem`) on a tensor that is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y[:, 0] = 7.0
        out: Tensor = self.two(y)
        return out


class BuildsItsEmbeddingInPlace(nn.Module):
    """An in-place operation that does not depend on the input, and whose value nobody takes (as in MViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Parameter(torch.randn(1, 4, 8))
        self.time = nn.Parameter(torch.randn(1, 1, 8))
        self.before = nn.Linear(8, 8)
        self.after = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, 4, 8]
        x = self.before(x)
        embedding = self.space * 2
        embedding[:, 1:].add_(self.time)
        out: Tensor = self.after(x + embedding)
        return out
