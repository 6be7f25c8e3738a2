"""Sealed files: what was written comes back; a spoilt or foreign one is refused; a broken write spoils nothing."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.files import parse_sealed, read_sealed, replacing, sealed, write_sealed
from tests.limits import files_up_to

AGAIN = "measure again"
CONTENT = {"name": "café", "times": [1, 2.5, -3e-9], "none": None, "deep": {"yes": True}}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text().filter(lambda key: key not in ("kind", "version", "digest")), JSON, max_size=4)


def read(path: Path) -> dict[str, Any]:
    return read_sealed(path, "letter", 3, AGAIN)


def write(path: Path, content: Any = CONTENT) -> None:
    write_sealed(path, "letter", 3, content, "send it elsewhere")


def everything(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "a.json")
    assert read(tmp_path / "a.json") == CONTENT
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == sealed("letter", 3, CONTENT)
    assert "café" in text
    assert list(everything(tmp_path)) == ["a.json"]


@given(OBJECTS)
def test_any_object_comes_back_however_it_is_laid_out(content: dict[str, Any]) -> None:
    whole = sealed("letter", 3, content)
    for text in (json.dumps(whole), json.dumps(dict(reversed(whole.items())), indent=7)):
        assert parse_sealed(text.encode(), "x", "letter", 3, AGAIN) == content


def outcome(text: bytes) -> dict[str, Any] | str:
    """The content, or what is said of it."""
    try:
        return parse_sealed(text, "x", "letter", 3, AGAIN)
    except SettingsError as error:
        return str(error)


@given(OBJECTS, st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(content: dict[str, Any], data: st.DataObject) -> None:
    text = bytearray(json.dumps(sealed("letter", 3, content)).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(bytes(text))
    if isinstance(found, str):
        assert "\n" not in found
        assert AGAIN in found
    else:
        assert found == content


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    with pytest.raises(SettingsError):
        parse_sealed(text, "x", "letter", 3, AGAIN)


NESTED = b'{"kind": "letter", "version": 3, "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
EMPTY = sealed("letter", 3, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "cut short or no JSON"),
        (json.dumps(EMPTY).encode()[:-30], "cut short or no JSON"),
        (b"\xff\xfe\x00", "cut short or no JSON"),
        (b"1" * 5000, "cut short or no JSON"),
        (NESTED, "cut short or no JSON"),
        (b"[1, 2]", "is not a letter"),
        (b"null", "is not a letter"),
        (b"{}", "is not a letter"),
        (json.dumps(sealed("novel", 3, CONTENT)).encode(), "is not a letter"),
        (json.dumps(sealed("letter", 99, CONTENT)).encode(), "is of letter version 99, this is 3"),
        (json.dumps(sealed("letter", 2, CONTENT)).encode(), "is of letter version 2, this is 3"),
        (b'{"kind": "letter"}', "is of letter version None, this is 3"),
        (b'{"kind": "letter", "version": "3\\n4"}', "is of letter version '3"),
        (b'{"kind": "letter", "version": [3]}', "is of letter version a list"),
        (b'{"kind": "letter", "version": 3}', "edited or damaged"),
        (b'{"kind": "letter", "version": 3, "digest": ["x"]}', "edited or damaged"),
        (b'{"kind": "letter", "version": 3, "a": NaN}', "edited or damaged"),
        (json.dumps({**EMPTY, "a": -math.inf}).encode(), "edited or damaged"),
        (json.dumps({**EMPTY, "a": 1}).encode(), "edited or damaged"),
        (json.dumps({**EMPTY, "digest": str(EMPTY["digest"]).upper()}).encode(), "edited or damaged"),
    ],
)
def test_what_is_not_whole_is_refused_in_one_line(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "spoilt.json"
    path.write_bytes(text)
    with pytest.raises(SettingsError, match=re.escape(reason)) as caught:
        read(path)
    told = str(caught.value)
    assert told.startswith(str(path))
    assert told.endswith(f"; {AGAIN}")
    assert "\n" not in told
    assert len(told) < len(str(path)) + 250


def test_what_is_no_file_is_refused_without_reading(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*none\.json: No such file.*; measure again"):
        read(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="is no file; measure again"):
        read(tmp_path)
    with pytest.raises(SettingsError, match="File name too long"):
        read(tmp_path / ("x" * 300))
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SettingsError, match="is no file; measure again"):
            read(endless)


def test_a_huge_file_is_refused_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SettingsError, match=r"has 1099511627776 bytes, a letter at most 268435456; measure again"):
        read(path)


# --- writing: all of it or nothing


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "a.json")
    before = everything(tmp_path)
    with files_up_to(100), pytest.raises(SettingsError, match=r"cannot write .*: File too large; send it elsewhere"):
        write(tmp_path / "a.json", {"long": "x" * 1000})
    assert everything(tmp_path) == before
    with files_up_to(100), pytest.raises(SettingsError, match="File too large"):
        write(tmp_path / "b.json")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_an_interrupt_leaves_the_old_file(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.json")
    before = everything(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if when == "fsync":
        monkeypatch.setattr(os, "fsync", interrupt)
    else:
        monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.json", {"new": 1})
    assert everything(tmp_path) == before


def test_a_process_that_dies_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path)
    dying = (
        "import os, sys; from pathlib import Path; from splitnet.files import replacing\n"
        "with replacing(Path(sys.argv[1]), '') as temporary:\n"
        "    temporary.write_bytes(b'{\"half'); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", dying, str(path)], cwd=Path(__file__).parents[1], timeout=60)
    assert ended.returncode == 9
    assert read(path) == CONTENT
    write(path, {"new": 1})
    assert read(path) == {"new": 1}


def test_what_json_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    write(tmp_path / "a.json")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "a.json", {"a": math.nan})
    assert everything(tmp_path) == before


@pytest.mark.parametrize("where", [".", "/", "", "{folder}", "/dev/null", "{folder}/pipe"])
def test_folders_devices_and_pipes_are_never_replaced(tmp_path: Path, where: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = Path(where.format(folder=tmp_path))
    with (
        pytest.raises(SettingsError, match=r"cannot write .*: it is no file; elsewhere"),
        replacing(path, "elsewhere"),
    ):
        raise AssertionError("nothing may be written")
    assert [found.name for found in tmp_path.iterdir()] == ["pipe"]
    assert not path.is_file()


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="File name too long; send it elsewhere"):
        write(tmp_path / ("x" * 300))
