"""`splitnet bench` on workers that run already: what it prints, and what it leaves alone when it cannot go on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from splitnet.cli import main
from splitnet.rundir import load_result
from splitnet.session import Placement

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with an earlier one in it."""
    earlier = tmp_path / "runs" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "manifest.json").write_text("kept")
    return tmp_path / "runs"


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], placement: Placement, runs: Path) -> Bench:
    """Exit status, standard output and standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        where = ["--gateway", str(placement.gateway), "--ap", str(placement.ap)]
        quick = ["--repeats", "2", "--warmup", "1", "--runs", str(runs)]
        with pytest.raises(SystemExit) as ended:
            main(["bench", *where, *quick, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return command


def test_every_row_holds_what_was_asked_for(bench: Bench, runs: Path) -> None:
    status, out, err = bench("toy_chain", "--link", "8mbit+1ms", "--batch", 2, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert [row["cut"] for row in told["rows"]] == [0, 1, 2, 3, 4, 5]
    assert [row["payload_bytes"] for row in told["rows"]] == [1536, 2048, 2048, 512, 512, 0]
    for row in told["rows"][:-1]:
        assert row["link_s"] >= row["payload_bytes"] / 1e6 + 1e-3
    settings = told["settings"]
    assert (settings["link"], settings["batch"], settings["codec"]) == ("8mbit+1ms", 2, "none")
    assert load_result(Path(told["run_dir"])).to_dict() == told
    assert (runs / "earlier" / "manifest.json").read_text() == "kept"


def test_a_codec_that_loses_bits_says_so(bench: Bench) -> None:
    status, out, err = bench("toy_residual", "--cuts", "at:block.relu,8", "--codec", "int8+lz4", "--json")
    assert (status, err) == (0, "")
    row, last = json.loads(out)["rows"]
    assert row["bitwise_equal"] is False
    assert row["max_error"] > 0
    assert 0 < row["payload_bytes"] < 2048
    assert last["bitwise_equal"] is True


def test_the_table(bench: Bench, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    status, out, err = bench("toy_chain", "--cuts", "3", "--trace", trace)
    assert (status, err) == (0, "")
    for word in ("input", "fc", "total", "gateway", "bench.png", str(trace)):
        assert word in out
    assert json.loads(trace.read_text())["traceEvents"]


def refused(ended: tuple[int, str, str], runs: Path) -> str:
    status, out, err = ended
    assert (status, out) == (2, "")
    assert err.startswith("splitnet: ")
    assert err.count("\n") == 1
    assert [path.name for path in runs.iterdir()] == ["earlier"]
    assert (runs / "earlier" / "manifest.json").read_text() == "kept"
    return err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("toy_chain", "--cuts", "at:0,6"), ("cut 6", "0..5")),
        (("toy_chain", "--cuts", "layer9"), ("'layer9'", "splitnet layers")),
        (("toy_inplace_skip", "--cuts", "conv1"), ("cut 1", "conv1", "refused")),
        (("toy_chian",), ("'toy_chian'", "near names: toy_chain")),
        (("/elsewhere/net.py:make",), ("/elsewhere/net.py:make", "--model")),
        (("toy_chain", "--input", "/no/such.png"), ("/no/such.png", "no such file")),
        (("toy_multi", "--input", __file__), (__file__, "is no picture")),
    ],
)
def test_bad_input_begins_no_run(
    arguments: tuple[str, ...], named: tuple[str, ...], bench: Bench, runs: Path
) -> None:
    said = refused(bench(*arguments), runs)
    assert all(word in said for word in named)


def test_a_folder_of_runs_that_is_a_file(bench: Bench, runs: Path) -> None:
    said = refused(bench("toy_chain", "--runs", __file__), runs)
    assert __file__ in said
    assert "--runs DIR" in said


def test_no_room_on_disk(bench: Bench, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr("splitnet.rundir.os.fsync", full)
        said = refused(bench("toy_chain"), runs)
    assert "No space left on device; choose another folder with --runs DIR" in said
