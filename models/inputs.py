"""Example inputs of any nesting, and their batch dimension (dimension 0 of every tensor)."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree


def common_batch(inputs: Any) -> int | None:
    """The size of dimension 0 that all tensors share; None when they do not share one."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    sizes = {tensor.shape[0] if tensor.dim() else None for tensor in tensors}
    return sizes.pop() if len(sizes) == 1 else None


def with_batch(inputs: Any, own: int, wanted: int) -> Any:
    """Repeat or trim every tensor from batch `own` to batch `wanted`: row i is row i % own of the example."""
    rows = torch.arange(wanted) % own
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.index_select(0, rows), inputs)
