"""`splitnet keys new`: keys that sign, for their owner alone, and none that is overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from splitnet.consensus.identity import holds, public_bytes, read_key, sign
from tests.commands import Run


def test_keys_are_made(run: Run, tmp_path: Path) -> None:
    ended = run("keys", "new", tmp_path / "deep" / "secrets", "--name", "ap-0", "--name", "b.c", "--json")
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out)["keys"]
    assert [one["name"] for one in told] == ["ap-0", "b.c"]
    for one in told:
        key, public = read_key(Path(one["file"])), bytes.fromhex(one["public_key"])
        assert public_bytes(key) == public
        assert holds(public, b"digest", sign(key, b"digest"))
        assert stat.S_IMODE(Path(one["file"]).stat().st_mode) == 0o600
        assert Path(one["file"]).with_suffix(".pub").read_text().strip() == one["public_key"]
    assert told[0]["public_key"] != told[1]["public_key"]
    assert len(list((tmp_path / "deep" / "secrets").iterdir())) == 4


def test_one_key_by_default_in_a_table(run: Run, tmp_path: Path) -> None:
    ended = run("keys", "new", tmp_path)
    assert (ended.status, ended.err) == (0, "")
    public = (tmp_path / "member.pub").read_text().strip()
    assert public in ended.out
    assert public_bytes(read_key(tmp_path / "member.key")).hex() == public


@pytest.mark.parametrize("taken", ["b.key", "b.pub"])
def test_nothing_is_overwritten(run: Run, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    ended = run("keys", "new", tmp_path, "--name", "a", "--name", "b")
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"{taken} exists, and a key is never overwritten; choose another folder or name" in ended.err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "../up"), "--name '../up' is no name: give 1 to 64 letters"),
        (("--name", ""), "--name '' is no name"),
        (("--name", "a" * 65), "is no name"),
        (("--name", ".hidden"), "is no name"),
        (("--name", "a", "--name", "a"), "--name a is given twice; name each key once"),
    ],
)
def test_bad_names_are_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = run("keys", "new", tmp_path / "secrets", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("keys", "new", tmp_path / "file")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "choose another folder" in ended.err
    assert run("keys", "new").status == 2


def test_help_has_examples(run: Run) -> None:
    for arguments in (("keys", "--help"), ("keys", "new", "--help")):
        ended = run(*arguments)
        assert ended.status == 0
        assert "splitnet keys new" in " ".join(ended.out.split())
