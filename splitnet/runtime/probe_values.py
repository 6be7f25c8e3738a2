"""What a probe of the link sends and does beside sending, so that it meets the link as an inference does.

The values look like activations: half are zeros and the rest is drawn from a normal distribution, as behind a ReLU.

Before an inference sends, a forward pass has run for milliseconds: the caches hold its weights, and whoever waits at
the other end has fallen asleep, the deeper the longer. A probe without that takes half of what the same message takes
behind a forward pass. So `fresh` passes over memory first, and its values have just been written.
"""

from __future__ import annotations

import time

import torch

from splitnet.errors import SettingsError
from splitnet.inference import synchronize

LARGEST_PROBE_BYTES = 1 << 28
"""No cut of the networks that we know sends more, and a worker is not to run out of memory for a probe."""
STIRRED_BYTES = 1 << 25
"""More than the caches of one core hold."""
STIR_S = 20e-3
"""As a forward pass; after 2 ms a virtual machine's core still wakes in half the time that it takes after 20 ms."""
_ITEM_BYTES = 4


def check_probe_bytes(nbytes: int) -> int:
    """`nbytes`, if a probe may have this size; SettingsError otherwise."""
    if not _ITEM_BYTES <= nbytes <= LARGEST_PROBE_BYTES or nbytes % _ITEM_BYTES:
        raise SettingsError(
            f"a probe of {nbytes} bytes is refused; give a multiple of {_ITEM_BYTES} "
            f"from {_ITEM_BYTES} to {LARGEST_PROBE_BYTES}"
        )
    return nbytes


class ProbeValues:
    """Seeded float32 values on one device, made once for the largest size that was asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values = torch.empty(0)
        self._stirred = torch.empty(0)

    def fresh(self, nbytes: int) -> torch.Tensor:
        """`nbytes` of them in memory of their own, written just now, after as much as a short forward pass."""
        count = check_probe_bytes(nbytes) // _ITEM_BYTES
        if count > self._values.numel():
            values = torch.randn(count, generator=torch.Generator().manual_seed(0)).relu_()
            self._values = values.to(self._device)
        self._stir()
        values = self._values[:count].clone()
        synchronize(self._device)
        return values

    def _stir(self) -> None:
        if not self._stirred.numel():
            self._stirred = torch.zeros(STIRRED_BYTES // _ITEM_BYTES, device=self._device)
        end_ns = time.monotonic_ns() + int(STIR_S * 1e9)
        while True:
            self._stirred.add_(1.0)
            synchronize(self._device)
            if time.monotonic_ns() >= end_ns:
                return
