"""`profile` and `profile show`: the layout of the JSON, the table, the picture, one line for what a user can mend."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from splitnet.cli import main
from splitnet.models.toy import TOY_NETS
from splitnet.profiling.profile import load_profile
from tests.commands import Ended, Run

QUICK = ("--repeats", 2, "--anchors", 3)


def json_of(ended: Ended) -> Any:
    assert (ended.status, ended.err) == (0, "")
    return json.loads(ended.out)


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "chain.json"
    assert run("profile", "toy_chain", "-o", path, *QUICK).status == 0
    return path


def test_the_json_has_the_layout_that_others_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    told = json_of(run("profile", "toy_residual", "-o", path, "--json", *QUICK))
    assert {"version", "model", "machine", "layers", "prefix_s", "suffix_s"} <= told.keys()
    assert told["version"] == 1
    assert told["model"]["name"] == "toy_residual"
    assert told["machine"]["cores"] > 0
    toy = TOY_NETS["toy_residual"]
    assert [(layer["name"], layer["flops"]) for layer in told["layers"]] == list(toy.flops_by_layer.items())
    for layer in told["layers"]:
        assert {"name", "kind", "flops", "params", "output_shape", "payload_bytes", "time_s"} <= layer.keys()
        assert layer["time_s"] > 0
        assert len(layer["samples_ns"]) == 2
    assert [layer["payload_bytes"] for layer in told["layers"]] == list(toy.live_bytes[1:])
    assert len(told["prefix_s"]) == len(told["suffix_s"]) == len(told["layers"]) + 1
    assert told["halves_from"].count("halves") == 3
    assert told == json.loads(path.read_text())
    assert json_of(run("profile", "show", path, "--json")) == told


def test_what_was_printed_is_a_profile_too(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "redirected.json"
    path.write_text(run("profile", "toy_tuple", "--json", *QUICK).out)
    assert load_profile(path).facts.identity.name == "toy_tuple"
    assert [found.name for found in tmp_path.iterdir()] == ["redirected.json"]


def test_options_reach_the_profile(run: Run) -> None:
    asked = ("--batch", 3, "--seed", 5, "--threads", 1, "--device", "cpu", "--repeats", 1, "--anchors", 0)
    told = json_of(run("profile", "--json", *asked, "toy_chain"))
    assert (told["model"]["batch"], told["model"]["seed"]) == (3, 5)
    assert (told["device"], told["threads"], told["anchors"]) == ("cpu", 1, [])
    assert set(told["halves_from"]) == {"pass"}
    assert [layer["flops"] for layer in told["layers"]] == [6912, 0, 0, 0, 640]
    assert told["layers"][0]["payload_bytes"] == 3 * 1024
    assert json_of(run("profile", "measure", "toy_chain", "--json", *QUICK))["threads"] == 1


def test_the_table_is_printed_and_the_profile_kept(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    told = run("profile", "toy_inplace_skip", "-o", path, *QUICK)
    assert (told.status, told.err) == (0, "")
    assert all(re.search(rf"\b{name}\b", told.out) for name in TOY_NETS["toy_inplace_skip"].flops_by_layer)
    assert all(word in told.out for word in ("6.91 k", "Conv2d", "1x4x8x8", "1.54 kB", "11.5 k FLOPs", "no"))
    assert re.search(r"^ ?x +1 +conv1", told.out, re.MULTILINE)  # the refused cut
    assert f"profile: {path}" in told.out.replace("\n", "")
    assert max(map(len, told.out.splitlines())) <= 110
    assert load_profile(path).facts.identity.name == "toy_inplace_skip"
    assert "not kept; -o FILE keeps it" in run("profile", "toy_chain", *QUICK).out


def test_show_prints_the_table_and_draws_it(run: Run, saved: Path, tmp_path: Path) -> None:
    before = saved.read_bytes()
    shown = run("profile", "show", saved)
    assert (shown.status, shown.err) == (0, "")
    assert all(word in shown.out for word in ("toy_chain, batch 1, on cpu", "conv", "6.91 k", "768 B", "650"))
    assert "7.55 k FLOPs a data point" in shown.out
    picture = saved.with_suffix(".png")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    run("profile", "show", saved, "--figure", tmp_path / "elsewhere.png")
    assert (tmp_path / "elsewhere.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert saved.read_bytes() == before


def test_the_picture_never_takes_the_place_of_the_profile(run: Run, saved: Path) -> None:
    odd = saved.rename(saved.with_suffix(".png"))
    before = odd.read_bytes()
    for command in (("profile", "show", odd), ("profile", "show", odd, "--figure", odd.parent / "." / odd.name)):
        ended = run(*command)
        assert (ended.status, ended.out) == (2, "")
        assert "would take the place of the profile" in ended.err
        assert "--figure FILE" in ended.err
    assert odd.read_bytes() == before


def test_a_new_profile_takes_the_place_of_an_old_one(run: Run, saved: Path) -> None:
    assert run("profile", "toy_tuple", "-o", saved, *QUICK).status == 0
    assert load_profile(saved).facts.identity.name == "toy_tuple"
    assert [found.name for found in saved.parent.iterdir()] == [saved.name]


def test_an_interrupted_run_leaves_the_old_profile(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = saved.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("splitnet.profiling.profiler.time_rounds", interrupt)
        assert run("profile", "toy_tuple", "-o", saved) == Ended(130, "", "splitnet: interrupted\n")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", interrupt)
        assert run("profile", "toy_tuple", "-o", saved, *QUICK).status == 130
    assert saved.read_bytes() == before
    assert [found.name for found in saved.parent.iterdir()] == [saved.name]


def test_help_names_both_ways(run: Run) -> None:
    told = run("profile", "--help")
    assert told.status == 0
    assert "profile show" in told.out
    assert "--repeats" in run("profile", "toy_chain", "--help").out
    assert "--figure" in run("profile", "show", "--help").out


BAD: list[tuple[str, Sequence[str], tuple[str, ...]]] = [
    ("no model", ["profile"], ("MODEL", "show FILE", "splitnet profile --help")),
    ("unknown model", ["profile", "resnt18"], ("'resnt18'", "near names: ", "resnet18", "`splitnet models`")),
    ("two models", ["profile", "toy_chain", "toy_tuple"], ("toy_tuple", "splitnet profile measure --help")),
    ("threads 0", ["profile", "toy_chain", "--threads", "0"], ("--threads 0",)),
    (
        "too many threads",
        ["profile", "toy_chain", "--threads", "99999999999"],
        ("99999999999", "1..1024", "--threads"),
    ),
    ("repeats 0", ["profile", "toy_chain", "--repeats", "0"], ("--repeats 0", "20")),
    ("anchors -1", ["profile", "toy_chain", "--anchors", "-1"], ("--anchors -1", "12")),
    ("no such GPU", ["profile", "toy_chain", "--device", "cuda:99"], ("'cuda:99'", "--device cpu")),
    ("no device", ["profile", "toy_chain", "--device", "tpu"], ("'tpu'", "cpu, cuda")),
    ("batch 0", ["profile", "toy_chain", "--batch", "0"], ("batch 0",)),
    ("size of a toy", ["profile", "toy_chain", "--input-size", "9"], ("--input-size",)),
    ("no such folder", ["profile", "toy_chain", "-o", "{bad}/no/p.json"], ("no/p.json", "does not exist", "make it")),
    ("a folder as file", ["profile", "toy_chain", "-o", "{bad}"], ("-o ", "is no file", "name one")),
    ("this folder", ["profile", "toy_chain", "-o", "."], ("-o .", "is no file")),
    ("a file as folder", ["profile", "toy_chain", "-o", "{bad}/empty.json/p.json"], ("empty.json", "does not exist")),
    ("a device as file", ["profile", "toy_chain", "-o", "/dev/null"], ("-o /dev/null", "is no file")),
    (
        "a long name",
        ["profile", "toy_chain", "-o", "{bad}/" + "x" * 300],
        ("File name too long", "choose another file"),
    ),
    ("unknown option", ["profile", "toy_chain", "--fast"], ("--fast", "splitnet profile measure --help")),
    ("show nothing", ["profile", "show"], ("FILE", "splitnet profile show --help")),
    (
        "show no file",
        ["profile", "show", "{bad}/none.json"],
        ("none.json", "No such file", "splitnet profile MODEL -o"),
    ),
    ("show no name", ["profile", "show", "resnt18"], ("resnt18", "splitnet profile MODEL -o FILE")),
    ("show a long name", ["profile", "show", "x" * 300], ("File name too long", "splitnet profile MODEL -o")),
    ("show a folder", ["profile", "show", "{bad}"], ("is no file", "splitnet profile MODEL -o")),
    ("show an empty file", ["profile", "show", "{bad}/empty.json"], ("empty.json", "cut short", "-o FILE")),
    ("show half a file", ["profile", "show", "{bad}/half.json"], ("half.json", "cut short", "-o FILE")),
    ("show an edited file", ["profile", "show", "{bad}/edited.json"], ("edited.json", "digest", "-o FILE")),
    ("show another version", ["profile", "show", "{bad}/new.json"], ("version 99", "this is 1", "-o FILE")),
    ("show another file", ["profile", "show", "{bad}/other.json"], ("is not a profile", "-o FILE")),
    (
        "picture in no folder",
        ["profile", "show", "{good}", "--figure", "{bad}/no/p.png"],
        ("no/p.png", "--figure FILE"),
    ),
    ("picture on a folder", ["profile", "show", "{good}", "--figure", "{bad}"], ("cannot write", "--figure FILE")),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of spoilt profiles, and a good one."""
    good, bad = tmp_path_factory.mktemp("good") / "p.json", tmp_path_factory.mktemp("bad")
    with pytest.raises(SystemExit):
        main(["profile", "toy_chain", "-o", str(good), "--repeats", "1"])
    text = good.read_text()
    for name, spoilt in {
        "empty.json": "",
        "half.json": text[: len(text) // 2],
        "edited.json": text.replace("6912", "6913", 1),
        "new.json": text.replace('"version": 1', '"version": 99', 1),
        "other.json": '{"kind": "recipe", "version": 1}',
    }.items():
        (bad / name).write_text(spoilt)
    return good, bad


@pytest.mark.parametrize(("command", "named"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_that_names_it(
    command: Sequence[str], named: tuple[str, ...], run: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = files
    before = sorted((path, path.read_bytes()) for path in (*good.parent.iterdir(), *bad.iterdir()))
    ended = run(*(part.format(good=good, bad=bad) for part in command))
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("splitnet: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1
    assert ".;" not in ended.err
    assert "Traceback" not in ended.err
    for word in named:
        assert word in ended.err
    assert sorted((path, path.read_bytes()) for path in (*good.parent.iterdir(), *bad.iterdir())) == before
    assert not Path("/dev/null").is_file()
