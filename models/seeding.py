"""Random weights and inputs that are the same, bit for bit, in every process and on every machine.

torchvision's own random start will not do here. It depends on the processor (normal and truncated-normal
draws are vectorised with approximations), leaves some heads zero so that the output is constant (ViT), and
lets values die out (EfficientNet: 1e-14) or explode (ResNet-152: 1e9, past half precision). So splitnet
draws the weights itself, from the Mersenne Twister through operations that IEEE 754 rounds exactly:

1. while torchvision builds, its random fills write NaN instead, which is also much faster;
2. what carries NaN, and every matrix left all zero, is drawn uniformly, in the order of `named_parameters`:
   weights with the variance 2 / fan-in, which keeps the scale through ReLU layers, the rest small;
3. the last normalisation of a residual branch is scaled by a constant, so that depth does not add up.

What it does not know: the network's statistics. No value depends on a forward pass, because such a value
would differ from machine to machine.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SMALL_BOUND = 0.1
"""Biases, tokens and position tables are drawn from [-0.1, 0.1)."""
BRANCH_SCALE = 0.25
"""Scale of a residual branch; 50 blocks then grow the variance (1 + 1/16)^50 = 21-fold, not 2^50-fold."""
INPUT_STREAM = 1 << 62
"""Mixed into the seed for example inputs, so that they do not repeat the first weights."""

_RANDOM_FILLS = frozenset(
    [
        torch.Tensor.uniform_,
        torch.Tensor.normal_,
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
    ]
)
_ALWAYS_RESIDUAL = re.compile(r"(Quantizable)?(BasicBlock|Bottleneck)|ResBottleneckBlock|MBConv")
"""Block classes of torchvision that have a skip in every instance; others carry a flag."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the CPU generators of torch, numpy and Python start from `seed`; afterwards they are as before.

    New tensors land on the CPU. The generators of other devices are neither seeded nor touched.
    """
    python, legacy_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy_numpy)


def build_seeded(constructor: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Construct a network and give it the seeded random start described at the top of this file."""
    with seeded(seed), _MarkRandomFills():
        module = constructor()
    draw_weights(module, seed)
    return module


def example_input(shapes: tuple[tuple[int, ...], ...], batch: int, seed: int) -> tuple[Tensor, ...]:
    """One tensor [batch, *shape] a shape, uniform with mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed ^ INPUT_STREAM)
    return tuple(_uniform((batch, *shape), math.sqrt(3), generator) for shape in shapes)


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int) -> None:
    """Draw every parameter that is not a constant, and every matrix that is all zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        low, high = torch.aminmax(parameter)
        if name.rpartition(".")[2] == "layer_scale":
            parameter.fill_(BRANCH_SCALE)  # 1e-6 at first, which would hide what its block computes
        elif low != high or (parameter.dim() >= 2 and high == 0):  # NaN differs from itself
            is_weight = parameter.dim() >= 2 and name.endswith("weight")
            bound = math.sqrt(6 / parameter[0].numel()) if is_weight else SMALL_BOUND
            parameter.copy_(_uniform(parameter.shape, bound, generator))
    for block in module.modules():
        if _is_residual(block):
            norms = [
                norm
                for path, norm in block.named_modules()
                if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d) and not path.startswith("downsample")
            ]
            for norm in norms[-1:]:
                norm.weight.fill_(BRANCH_SCALE)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """Uniform in [-bound, bound). `rand` is a 24-bit integer times 2^-24; each step after it rounds once."""
    return torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32).sub_(0.5).mul_(2 * bound)


def _is_residual(block: nn.Module) -> bool:
    for flag in ("use_res_connect", "apply_residual"):
        if hasattr(block, flag):
            return bool(getattr(block, flag))
    return _ALWAYS_RESIDUAL.fullmatch(type(block).__name__) is not None


class _MarkRandomFills(TorchFunctionMode):
    """Random fills write NaN: quicker than drawing, and a mark that later arithmetic keeps."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM_FILLS:
            filled = args[0] if args else kwargs["tensor"]
            with torch.no_grad():
                return filled.fill_(math.nan)
        return func(*args, **kwargs)
