"""Files are written whole or not at all, and those that are read back are sealed: kind, version, digest.

A sealed file that was cut short, edited, or made by another version is refused and never half read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from splitnet.errors import SettingsError

MAX_SEALED_BYTES = 1 << 28


@contextlib.contextmanager
def replacing(path: Path, way_out: str) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes `path`'s place only if the block ends well.

    Raises SettingsError, with `way_out`, where the disk refuses or a folder or device stands there; `path` is then
    as it was.
    """
    with refusals(path, way_out):
        if not path.name or (path.exists() and not path.is_file()):
            raise SettingsError(f"cannot write {path}: it is no file; {way_out}")
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


def write_sealed(path: Path, kind: str, version: int, content: Mapping[str, Any], way_out: str) -> None:
    """Write `content` as JSON with its kind, version and digest: all of it, or nothing and SettingsError."""
    write_json_atomic(path, sealed(kind, version, content), way_out)


def sealed(kind: str, version: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with its kind, version and digest: what stands in a sealed file."""
    head = {"kind": kind, "version": version, **content}
    return {**head, "digest": _digest(head)}


def read_sealed(path: Path, kind: str, version: int, again: str) -> dict[str, Any]:
    """The content of a sealed file.

    Args:
        kind: what it must be, in words that fit "is not a …".
        again: how the user makes a good one.

    Raises:
        SettingsError: it cannot be read, or is not a whole, unedited file of that kind and version.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe might never end
            raise SettingsError(f"{path} is no file; {again}")
        if found.st_size > MAX_SEALED_BYTES:
            raise SettingsError(f"{path} has {found.st_size} bytes, a {kind} at most {MAX_SEALED_BYTES}; {again}")
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; {again}") from error
    return parse_sealed(text, str(path), kind, version, again)


def parse_sealed(text: bytes, path: str, kind: str, version: int, again: str) -> dict[str, Any]:
    """`read_sealed` on bytes that are there; `path` is for messages."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is cut short or no JSON ({error}); {again}") from None
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise SettingsError(f"{path} is not a {kind}; {again}")
    if content.get("version") != version:
        found = content.get("version")
        told = repr(found)[:20] if isinstance(found, int | float | str | None) else f"a {type(found).__name__}"
        raise SettingsError(f"{path} is of {kind} version {told}, this is {version}; {again}")
    digest = content.pop("digest", None)
    try:
        own = _digest(content)
    except (ValueError, RecursionError):  # numbers that JSON does not have
        own = ""
    if digest != own:
        raise SettingsError(f"{path} was edited or damaged: it does not match its digest; {again}")
    del content["kind"], content["version"]
    return content


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
