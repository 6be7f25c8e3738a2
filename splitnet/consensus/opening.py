"""Opens what stands under a name for reading, without waiting: a pipe that nobody writes to would block for ever.

Whether it is a file is for the caller to look at, on the open descriptor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def open_at_once(path: Path) -> BinaryIO:
    """Whatever is there, open for reading. Raises OSError."""
    return open(path, "rb", opener=_at_once)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
