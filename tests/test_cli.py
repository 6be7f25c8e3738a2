"""The command line, run in this process: what it prints, and one clear line for what a user can mend."""

from __future__ import annotations

import importlib.machinery
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from splitnet.cli import main
from splitnet.errors import ModelError
from splitnet.measurement import COMPONENTS
from tests.commands import Ended, Run

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.last = nn.Linear(8, 5)
        self.last.weight.data.mul_(scale)

    def forward(self, state):
        return self.last(self.first(state).relu())


def make():
    return Net(), (torch.randn(1, 6),)


def bare():
    return Net()


def constant():
    return Net(scale=0.0), (torch.randn(1, 6),)


def raises():
    raise RuntimeError("the disk with the weights is gone\\nand so is the backup")


def none():
    return None
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "nets.py"
    path.write_text(NETS)
    return path


def json_of(ended: Ended, status: int = 0) -> Any:
    assert ended.status == status
    assert ended.err == ""
    return json.loads(ended.out)


# --- models, layers, check


def test_models(run: Run) -> None:
    every = json_of(run("models", "--json"))
    families = {entry["family"] for entry in every}
    assert families == {"classification", "segmentation", "video", "quantization", "toy"}
    assert len({entry["name"] for entry in every}) == len(every) > 50
    for family in sorted(families):
        some = json_of(run("models", "--family", family, "--json"))
        assert some == [entry for entry in every if entry["family"] == family]
    shown = run("models", "--family", "toy")
    assert shown.status == 0
    assert "toy_inplace_skip" in shown.out
    assert "resnet18" not in shown.out


def test_layers(run: Run) -> None:
    told = json_of(run("layers", "toy_inplace_skip", "--json"))
    assert (told["model"], told["layers"], told["frontend"]) == ("toy_inplace_skip", 4, "fx")
    assert [cut["layer"] for cut in told["cuts"]] == ["input", "conv1", "relu", "conv2", "add"]
    assert [cut["payload_bytes"] for cut in told["cuts"]] == [768, 1536, 1536, 1024, 512]
    assert [bool(cut["refused"]) for cut in told["cuts"]] == [False, True, False, False, False]
    shown = run("layers", "toy_inplace_skip")
    assert shown.status == 0
    assert "refused: " in shown.out
    assert "4 layers, traced by torch.fx" in shown.out


def test_check(run: Run) -> None:
    told = json_of(run("check", "toy_inplace_skip", "--json"))
    assert (told["cuts"], told["tested"], told["bitwise_equal"], told["varies"]) == (5, 4, 4, True)
    assert [refused["cut"] for refused in told["refused"]] == [1]
    assert told["different"] == []
    some = json_of(run("check", "toy_chain", "--cuts", "3", "--batch", "2", "--json"))
    assert (some["cuts"], some["tested"], some["bitwise_equal"], some["refused"]) == (6, 3, 3, [])
    shown = run("check", "toy_chain")
    assert shown.status == 0
    assert "6 of 6 cuts tested are bitwise equal" in shown.out


def test_check_fails_where_equality_proves_nothing(run: Run, nets: Path) -> None:
    told = json_of(run("check", f"{nets}:constant", "--json"), status=1)
    assert told["varies"] is False
    assert told["bitwise_equal"] == told["tested"] == told["cuts"]
    shown = run("check", f"{nets}:constant")
    assert shown.status == 1
    assert "does not depend on the input" in shown.out
    assert run("check", f"{nets}:bare", "--input-shape", "6").status == 0


def test_without_arguments_it_says_what_there_is(run: Run) -> None:
    for arguments in ([], ["--help"], ["bench", "--help"]):
        told = run(*arguments)
        assert told.status == 0
        assert "Usage: splitnet" in told.out
        assert told.err == ""


# --- bench and show, with workers that the command starts


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


BENCH_KEYS = {"model", "layers", "rows", "local_s", "best_cut", "run_dir"}
ROW_KEYS = {
    "cut",
    "layer",
    "clean",
    "payload_bytes",
    "gateway_s",
    "link_s",
    "ap_s",
    "total_s",
    "total_p95_s",
    "overhead_s",
    "bitwise_equal",
}


def test_bench_of_a_factory_on_loopback_and_show(run: Run, nets: Path, runs: Path, tmp_path: Path) -> None:
    model, trace = f"{nets}:make", tmp_path / "trace.json"
    asked = ("--cuts", "all", "--repeats", 3, "--warmup", 1, "--trace", trace, "--runs", runs)
    told = json_of(run("bench", model, *asked, "--json"))
    assert told.keys() >= BENCH_KEYS
    assert (told["model"], told["layers"], told["local_s"].keys()) == (model, 3, {"gateway", "ap"})
    assert [(row["cut"], row["layer"]) for row in told["rows"]] == list(enumerate(["input", "first", "relu", "last"]))
    for row in told["rows"]:
        assert row.keys() >= ROW_KEYS
        assert row["bitwise_equal"] is True
        assert row["total_p95_s"] >= row["total_s"] >= row["gateway_s"] > 0
        assert row["total_s"] > row["overhead_s"] >= 0
        assert all(row[name] >= 0 for name in COMPONENTS)
    assert [row["payload_bytes"] for row in told["rows"]] == [24, 32, 32, 0]
    assert told["rows"][told["best_cut"]]["total_s"] == min(row["total_s"] for row in told["rows"])

    folder = Path(told["run_dir"])
    assert folder.parent == runs
    assert sorted(path.name for path in folder.iterdir()) == ["bench.png", "manifest.json", "samples.jsonl"]
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 4 * 3
    spans = json.loads(trace.read_text())["traceEvents"]
    assert len({span["pid"] for span in spans}) >= 2

    again = json_of(run("show", folder, "--json", "--trace", tmp_path / "again.json"))
    assert again == told
    assert (tmp_path / "again.json").read_text() == trace.read_text()
    shown = run("show", folder)
    assert shown.status == 0
    assert all(word in shown.out for word in ("first", "last", "total"))


# --- what a user can mend


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "garbage.pt2").write_bytes(bytes(range(256)) * 10)
    (folder / "empty.pt2").write_bytes(b"")
    with zipfile.ZipFile(folder / "foreign.pt2", "w") as archive:
        archive.writestr("letter.txt", "this is no program")
    (folder / "syntax.py").write_text("def make(:\n")
    return folder


BAD: list[tuple[str, Sequence[str], tuple[str, ...]]] = [
    ("unknown model", ["check", "resnt18"], ("'resnt18'", "near names: ", "resnet18")),
    ("unknown model in bench", ["bench", "resnt18", "--runs", "{runs}"], ("'resnt18'", "near names: ", "resnet18")),
    ("unknown model in layers", ["layers", "xyzzy"], ("'xyzzy'", "`splitnet models`")),
    ("cut out of range", ["check", "toy_chain", "--cuts", "at:99"], ("cut 99", "0..5")),
    ("no cut", ["check", "toy_chain", "--cuts", "0"], ("--cuts 0",)),
    ("misspelt layer", ["check", "toy_chain", "--cuts", "rellu"], ("'rellu'", "relu", "splitnet layers")),
    ("refused cut", ["check", "toy_inplace_skip", "--cuts", "at:1"], ("cut 1", "conv1", "refused")),
    ("wrong input shape", ["check", "{nets}:bare", "--input-shape", "7"], ("Net", "(1, 7)")),
    ("no input shape", ["check", "{nets}:bare"], ("nets.py:bare", "--input-shape")),
    ("shape that is none", ["check", "{nets}:bare", "--input-shape", "3,a"], ("'3,a'",)),
    ("shape of zero", ["check", "{nets}:bare", "--input-shape", "0"], ("input shape 0",)),
    ("shape of a toy", ["check", "toy_chain", "--input-size", "9"], ("toy_chain", "--input-size")),
    (
        "factory that raises",
        ["check", "{nets}:raises"],
        ("factory raises", "nets.py", "the disk with the weights is gone"),
    ),
    ("factory of nothing", ["check", "{nets}:none"], ("nets.py:none", "nn.Module")),
    ("no such factory", ["check", "{nets}:mak"], ("mak", "make")),
    ("no such file", ["check", "{bad}/none.py:make"], ("none.py",)),
    ("file that is no Python", ["check", "{bad}/syntax.py:make"], ("syntax.py",)),
    ("no such module", ["check", "no_such_package.nets:make"], ("no_such_package",)),
    ("no factory named", ["check", "{nets}"], ("nets.py",)),
    ("garbled program", ["check", "{bad}/garbage.pt2"], ("garbage.pt2",)),
    ("empty program", ["check", "{bad}/empty.pt2"], ("empty.pt2",)),
    ("foreign program", ["check", "{bad}/foreign.pt2"], ("foreign.pt2",)),
    ("missing program", ["check", "{bad}/missing.pt2"], ("missing.pt2",)),
    ("unknown codec", ["bench", "toy_chain", "--codec", "zip"], ("'zip'", "int8+lz4")),
    ("rate of zero", ["bench", "toy_chain", "--link", "0mbit"], ("'0mbit'", "rate of zero", "50mbit")),
    ("rate without a unit", ["bench", "toy_chain", "--link", "50"], ("'50'", "50mbit")),
    ("repeats", ["bench", "toy_chain", "--repeats", "0"], ("--repeats 0",)),
    ("warm-up", ["bench", "toy_chain", "--warmup", "0"], ("--warmup 0",)),
    ("threads", ["bench", "toy_chain", "--threads", "0"], ("--threads 0",)),
    ("batch", ["bench", "toy_chain", "--batch", "0"], ("batch 0",)),
    ("seed", ["check", "toy_chain", "--seed", "-1"], ("seed -1",)),
    ("weights of a toy", ["check", "toy_chain", "--weights", "DEFAULT"], ("toy_chain", "--weights")),
    ("unknown weights", ["check", "resnet18", "--weights", "NONE"], ("resnet18", "'NONE'", "IMAGENET1K_V1")),
    ("trace in no folder", ["bench", "toy_chain", "--trace", "{bad}/no/t.json"], ("no/t.json", "does not exist")),
    ("address", ["bench", "toy_chain", "--ap", "localhost"], ("'localhost'", "HOST:PORT")),
    (
        "two devices",
        ["bench", "toy_chain", "--ap", "127.0.0.1:1", "--ap-device", "cuda"],
        ("--ap-device cuda", "127.0.0.1:1"),
    ),
    (
        "nobody there",
        ["bench", "toy_chain", "--gateway", "127.0.0.1:1", "--ap", "127.0.0.1:1"],
        ("no gateway at 127.0.0.1:1", "splitnet worker gateway"),
    ),
    (
        "no host name",
        ["bench", "toy_chain", "--gateway", "é..b:1", "--ap", "127.0.0.1:1"],
        ("'é..b:1'", "cannot be a host's name"),
    ),
    ("family", ["models", "--family", "lstm"], ("--family lstm", "toy")),
    ("run", ["show", "{bad}/no_run"], ("no_run",)),
    ("option", ["bench", "toy_chain", "--fast"], ("--fast", "splitnet bench --help")),
    ("command", ["slice"], ("slice", "splitnet --help")),
    ("number", ["bench", "toy_chain", "--repeats", "ten"], ("--repeats", "integer")),
    ("no model", ["bench"], ("MODEL", "splitnet bench --help")),
    ("no subcommand", ["keys"], ("Missing command", "splitnet keys --help")),
    ("role", ["worker", "router"], ("'router'", "gateway or ap")),
]


@pytest.mark.parametrize(("command", "named"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_that_names_it(
    command: Sequence[str],
    named: tuple[str, ...],
    run: Run,
    nets: Path,
    bad_files: Path,
    tmp_path: Path,
) -> None:
    earlier = tmp_path / "earlier"
    (earlier / "run").mkdir(parents=True)
    (earlier / "run" / "manifest.json").write_text("kept")
    ended = run(*(part.format(nets=nets, bad=bad_files, runs=earlier) for part in command))
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("splitnet: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1
    assert ".;" not in ended.err
    for word in named:
        assert word in ended.err
    assert [path.relative_to(earlier).as_posix() for path in sorted(earlier.rglob("*"))] == [
        "run",
        "run/manifest.json",
    ]
    assert (earlier / "run" / "manifest.json").read_text() == "kept"


def test_debug_shows_where_an_error_came_from() -> None:
    """Left to the interpreter, which prints the traceback."""
    for arguments in (["--debug", "check", "resnt18"], ["check", "resnt18", "--debug"]):
        with pytest.raises(ModelError, match="resnt18") as caught:
            main(arguments)
        assert any(entry.name == "build_model" for entry in caught.traceback)


def test_ctrl_c_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splitnet.models.build.build_model", interrupt)
    assert run("layers", "toy_chain") == Ended(130, "", "splitnet: interrupted\n")


class Misfit(importlib.machinery.PathFinder):
    """What a torchvision for another torch says when it is imported."""

    @classmethod
    def find_spec(cls, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore about it")


def test_a_torchvision_that_does_not_fit_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Misfit, *sys.meta_path])
    ended = run("models")
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    for word in ("torchvision ", "(operator torchvision::nms does not exist)", "install both", "torch torchvision"):
        assert word in ended.err
