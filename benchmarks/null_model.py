"""A model that computes nothing, so that a split of it times the harness alone: `benchmarks/null_model.py:null`."""

from __future__ import annotations

import torch
from torch import nn


def null() -> tuple[nn.Module, torch.Tensor]:
    """One identity layer; it takes any [B, N]."""
    return nn.Sequential(nn.Identity()), torch.rand(1, 1000)
