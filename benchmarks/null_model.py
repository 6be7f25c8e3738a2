"""Models that compute nothing, so that a split of them times the harness alone: `null_model.py:null_800000`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

SIZES_BYTES = (10_000, 100_000, 800_000, 3_200_000, 12_800_000)


def _factory(size_bytes: int) -> Callable[[], tuple[nn.Module, torch.Tensor]]:
    def make() -> tuple[nn.Module, torch.Tensor]:
        return nn.Sequential(nn.Identity()), torch.rand(1, size_bytes // 4)

    return make


for _size in SIZES_BYTES:
    globals()[f"null_{_size}"] = _factory(_size)
