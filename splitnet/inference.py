"""How every forward pass of splitnet is run, and how two outputs are compared.

Bitwise equality of a split and an unsplit model holds for the same device, batch and thread count, under one
grad mode, and with the fused path of MultiheadAttention off (it is taken or not depending on the grad mode, and
its rounding differs by some 2e-6). `exact_inference` fixes the last two.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

_switch = threading.Lock()
_paused_by = 0
_fused_before = True


@contextlib.contextmanager
def exact_inference() -> Iterator[None]:
    """Inference mode without the fused attention path; on every side, the unsplit model's included."""
    with fused_attention_paused(), torch.inference_mode():
        yield


@contextlib.contextmanager
def fused_attention_paused() -> Iterator[None]:
    """Switch the fused attention path off, and back when the last thread that asked is done.

    The switch is the whole process's: were each to put back what it had found, one of two threads that overlap would
    put back the other's off, for good.
    """
    global _paused_by, _fused_before
    with _switch:
        if _paused_by == 0:
            _fused_before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _paused_by += 1
    try:
        yield
    finally:
        with _switch:
            _paused_by -= 1
            if _paused_by == 0:
                torch.backends.mha.set_fastpath_enabled(_fused_before)


def fused_attention_off() -> None:
    """Switch the fused attention path off for good, as a worker does: its threads share that switch."""
    torch.backends.mha.set_fastpath_enabled(False)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a timestamp means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tensor_bits(tensor: torch.Tensor) -> torch.Tensor:
    """The elements' bytes in index order, as a flat uint8 tensor."""
    flat = tensor.detach().contiguous().flatten()
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)  # one element counts as contiguous with any stride


def bitwise_equal(one: Any, other: Any) -> bool:
    """Whether two outputs (any nesting) hold the same leaves, bit for bit, NaN included."""
    ones, others = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(ones) == len(others) and all(_same_bits(left, right) for left, right in zip(ones, others, strict=True))


def max_abs_error(one: Any, other: Any) -> float:
    """Largest absolute difference between the tensors of two outputs; infinite where their shapes differ."""
    worst = 0.0
    for left, right in zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True):
        if not isinstance(left, torch.Tensor) or not isinstance(right, torch.Tensor) or left.numel() == 0:
            continue
        if left.shape != right.shape:
            return float("inf")
        if _same_bits(left, right):
            continue
        difference = (left.to("cpu", torch.float64) - right.to("cpu", torch.float64)).abs().max().item()
        worst = float("inf") if difference != difference else max(worst, difference)
    return worst


def clone_tensors(values: Any) -> Any:
    """Copies of all tensors in a nesting, strides kept; a forward pass may change what it is given."""
    return pytree.tree_map(
        lambda value: value.clone(memory_format=torch.preserve_format) if isinstance(value, torch.Tensor) else value,
        values,
    )


def _same_bits(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return type(one) is type(other) and bool(one == other)
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(tensor_bits(one), tensor_bits(other).to(one.device))
    )
