"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from splitnet.errors import SettingsError


@contextlib.contextmanager
def replacing(path: Path, way_out: str) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes `path`'s place only if the block ends well.

    Raises SettingsError, with `way_out`, where the disk refuses; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with refusals(path, way_out):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json_atomic(path: Path, obj: Any, way_out: str) -> None:
    """Write `obj` as JSON: all of it, or nothing and SettingsError."""
    text = json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path, way_out) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def refusals(path: Path, way_out: str) -> Iterator[None]:
    """OSError inside becomes a SettingsError that names `path` and the way out."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror or error}; {way_out}") from error
