"""A guard under which no `torch.load` can unpickle an object that is not plain weights."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
FORCE_NOT = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_ONE_AT_A_TIME = threading.RLock()
"""Else one thread could restore the variables while another still loads."""


@contextmanager
def weights_only() -> Iterator[None]:
    """Within, `torch.load` is weights-only even where torch or torchvision asks for more.

    torch reads these environment variables at each load (from 2.6 on); the one that asks for the opposite is
    taken out, because torch refuses both together. Process-wide: another thread's load meanwhile is guarded
    too.
    """
    with _ONE_AT_A_TIME:
        before = {name: os.environ.pop(name, None) for name in (FORCE, FORCE_NOT)}
        os.environ[FORCE] = "1"
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
