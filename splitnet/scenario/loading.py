"""From a name or a file to a checked scenario; whatever is wrong is one line with the key, its value and its limits.

Does not know what the keys mean: `schema.py` and `contradictions.py` do.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from splitnet.errors import SettingsError
from splitnet.scenario.contradictions import contradictions, near
from splitnet.scenario.schema import Dnn, ScenarioFile, Section
from splitnet.scenario.values import WRONG

SHIPPED = Path(__file__).parents[1] / "scenarios"
MAX_BYTES = 1_000_000
MOST_DOTS = 100
"""In one dotted key: TOML's parser takes time quadratic in them."""
MOST_LINES = 2000
MOST_CANDIDATES = 100
"""In longer texts, or with a key's name in more lines, its line is not searched for."""

WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no key",
    "model_type": "must be a section",
    "dict_type": "must be a section",
}
"""What pydantic finds by itself, in our words; all else comes from `values.py`."""

Keys = Sequence[str | int]


def shipped_names() -> list[str]:
    """Of the scenarios that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find(name_or_path: str | Path) -> Path:
    """The file of a shipped scenario by its name, or the file itself.

    Raises:
        SettingsError: neither is there.
    """
    asked = str(name_or_path)
    if asked in shipped_names():
        return SHIPPED / f"{asked}.toml"
    path = Path(asked)
    try:
        if path.exists():
            return path
    except OSError as error:
        raise SettingsError(f"{asked[:100]!r} cannot be a scenario's file: {error.strerror}") from None
    names = shipped_names()
    raise SettingsError(
        f"{asked[:200]!r} is neither a scenario's .toml file nor a shipped scenario{near(asked, names)}"
    )


def read(path: Path) -> ScenarioFile:
    """The checked content of a scenario's file.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe might never end
            raise SettingsError(
                f"{path} is no file; give a scenario's .toml file or one of {', '.join(shipped_names())}"
            )
        if found.st_size > MAX_BYTES:
            raise SettingsError(f"{path} has {found.st_size} bytes, a scenario at most {MAX_BYTES}")
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; name a scenario's .toml file") from error
    return parse(text, str(path))


def parse(text: bytes, where: str) -> ScenarioFile:
    """`read` on bytes that are there; `where` is for messages.

    Raises:
        SettingsError: something is wrong.
    """
    try:
        lines = [line + "\n" for line in text.decode().replace("\r\n", "\n").split("\n")]
        document = parse_toml(lines)
    except (ValueError, RecursionError) as error:
        told = " ".join(str(error).split())[:200]
        raise SettingsError(f"{where} is no TOML ({told}); see the shipped scenarios for how one looks") from None
    return check(document, where, lines)


def parse_toml(lines: Sequence[str]) -> dict[str, Any]:
    """Raises ValueError or RecursionError where it is no TOML."""
    for number, line in enumerate(lines, start=1):
        if max((part.count(".") for part in re.split(r"[\[\]{}=,#]", line)), default=0) > MOST_DOTS:
            raise ValueError(f"a key of more than {MOST_DOTS} parts (at line {number})")
    return tomllib.loads("".join(lines))


def check(document: Mapping[str, Any], where: str, lines: Sequence[str] = ()) -> ScenarioFile:
    """A scenario from its keys and values.

    Args:
        lines: of the text that they came from, so that a message can say which line.

    Raises:
        SettingsError: the first thing that is wrong; keys that are none come before values.
    """
    try:
        file = ScenarioFile.model_validate(document)
    except ValidationError as found:
        errors = found.errors(include_url=False, include_context=False)
        first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
        message = first["msg"] if first["type"] == WRONG else WORDS.get(first["type"], first["msg"].lower())
        keys = first["loc"]
        if first["type"] == "extra_forbidden":
            message += near(str(keys[-1]), allowed(keys))
        raise SettingsError(sentence(document, where, lines, keys, message)) from None
    for keys, message in contradictions(file):
        raise SettingsError(sentence(document, where, lines, keys, message))
    return file


def sentence(document: Mapping[str, Any], where: str, lines: Sequence[str], keys: Keys, message: str) -> str:
    """One line: the file, the line, the key as it is written, its value, and what is wrong."""
    found = value_at(document, keys)
    number = line_of(lines, keys if found is not None else keys[:-1])
    place = f"{where} line {number}" if number else where
    key = ".".join(key if re.fullmatch(r"[\w-]+", key) else repr(key)[:60] for key in map(str, keys))
    shown = "" if found is None or isinstance(found, dict) or message.startswith("is no key") else f" = {show(found)}"
    return f"{place}: {key}{shown} {message}"


def show(value: Any) -> str:
    """A value in at most 60 characters."""
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        return "…"
    return text if len(text) <= 60 else text[:57] + "…"


def value_at(document: Any, keys: Keys) -> Any:
    """What stands there; None if nothing does."""
    for key in keys:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document


def allowed(keys: Keys) -> list[str]:
    """The keys that the section of this one may have."""
    if len(keys) == 1:
        return list(ScenarioFile.model_fields)
    section = Dnn if keys[0] == "dnn" else ScenarioFile.model_fields[str(keys[0])].annotation
    assert isinstance(section, type)
    assert issubclass(section, Section)
    return list(section.model_fields)


def line_of(lines: Sequence[str], keys: Keys) -> int | None:
    """The number of the line where a key's value begins, from 1; None where that stays unknown.

    The last line with the key's name in it before which the text parses and the key is not there yet.
    """
    while keys and not isinstance(keys[-1], str):
        keys = keys[:-1]
    if not keys:
        return None
    candidates = [number for number, line in enumerate(lines) if str(keys[-1]) in line]
    if len(candidates) > MOST_CANDIDATES or len(lines) > MOST_LINES:
        return None
    best = None
    for number in candidates:
        try:
            before = tomllib.loads("".join(lines[:number]))
        except (ValueError, RecursionError):
            continue
        if value_at(before, keys) is None:
            best = number + 1
    return best
