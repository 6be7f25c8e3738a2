"""What all tests share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("splitnet", deadline=None, derandomize=True)
settings.load_profile("splitnet")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests need a GPU, and say so where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
