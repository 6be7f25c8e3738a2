"""Run folders: what was written comes back, a spoilt one is refused, a refused write leaves no trace."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from splitnet.errors import SettingsError
from splitnet.files import replacing, write_json_atomic
from splitnet.measurement import ApInstants, BenchResult, CutRow, Sample, Timeline
from splitnet.rundir import (
    RUNS_WAY_OUT,
    RunWriter,
    SampleWriter,
    create_run_dir,
    load_result,
    load_samples,
)
from tests.limits import files_up_to

SHARED = Timeline(10, 20, 30, 90, 100, ApInstants(40, 45, 50, 70, 80), shared_clock=True)
APART = replace(SHARED, ap=ApInstants(-5, -4, -3, -2, -1), shared_clock=False)
ALONE = Timeline(10, 90, 90, 90, 100, None, shared_clock=True)

ROWS = (
    CutRow(0, "input", True, 600, (Sample(0, 0, SHARED, 600, True, 0.0), Sample(0, 1, APART, 600, True, 0.0))),
    CutRow(2, "fc", False, 0, (Sample(2, 0, ALONE, 0, False, 0.125), Sample(2, 1, ALONE, 0, False, math.inf))),
)
RESULT = BenchResult("toy", 2, ROWS, {"gateway": (0.5, 0.25), "ap": (0.125,)}, {"codec": "none", "seed": 0}, None)
MACHINE = {"cpu_model": "Fast CPU", "cuda_devices": []}


def save_result(root: Path, result: BenchResult, machine: dict[str, Any]) -> BenchResult:
    with RunWriter(root, model=result.model, layers=result.layers, settings=result.settings, machine=machine) as run:
        for row in result.rows:
            for sample in row.samples:
                run.append(sample)
        return run.finish(result)


def begin(root: Path) -> RunWriter:
    return RunWriter(root, model="toy", layers=2, settings=RESULT.settings, machine=MACHINE)


def interleaved() -> list[Sample]:
    return [row.samples[repeat] for repeat in (0, 1) for row in ROWS]


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- what was written comes back


def test_a_run_comes_back_as_it_was_measured(tmp_path: Path) -> None:
    with begin(tmp_path / "deep" / "runs") as run:
        for sample in interleaved():
            run.append(sample)
        result = run.finish(RESULT)
    assert result == replace(RESULT, run_dir=str(run.path))
    assert load_result(run.path) == result
    assert sorted(path.name for path in run.path.iterdir()) == ["manifest.json", "samples.jsonl"]
    assert list(load_samples(run.path / "samples.jsonl")) == interleaved()


def test_a_result_without_a_folder_can_be_kept(tmp_path: Path) -> None:
    kept = save_result(tmp_path, RESULT, MACHINE)
    assert kept.run_dir is not None
    assert load_result(Path(kept.run_dir)) == kept


def test_files_are_plain_json(tmp_path: Path) -> None:
    run_dir = Path(str(save_result(tmp_path, RESULT, MACHINE).run_dir))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    manifest = json.loads((run_dir / "manifest.json").read_text(), parse_constant=refuse)
    assert manifest["machine"] == MACHINE
    assert manifest["status"] == "complete"
    assert manifest["settings"] == {"codec": "none", "seed": 0}
    assert manifest["local_samples_s"] == {"gateway": [0.5, 0.25], "ap": [0.125]}
    lines = [json.loads(line, parse_constant=refuse) for line in (run_dir / "samples.jsonl").read_text().splitlines()]
    assert lines[0]["timeline"]["ap"]["received_ns"] == 40
    assert [line["max_error"] for line in lines] == [0.0, 0.0, 0.125, "inf"]


def test_a_sample_is_on_disk_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        assert json.loads((run.path / "manifest.json").read_text())["status"] == "running"
        for done, sample in enumerate(interleaved(), 1):
            run.append(sample)
            assert load_samples(run.path / "samples.jsonl") == tuple(interleaved()[:done])


def test_not_a_number_comes_back(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "samples.jsonl") as writer:
        writer.append(replace(interleaved()[0], max_error=math.nan))
    assert math.isnan(load_samples(tmp_path / "samples.jsonl")[0].max_error)


def test_folders_are_never_shared(tmp_path: Path) -> None:
    paths = [create_run_dir(tmp_path, "toy") for _ in range(5)]
    assert len({path.name for path in paths}) == 5
    stamps = {datetime.strptime(path.name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC) for path in paths}
    assert all(abs((datetime.now(UTC) - stamp).total_seconds()) < 60 for stamp in stamps)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a/b c.py:make", "Z-a-b-c.py-make"),
        ("../../etc/passwd", "Z-etc-passwd"),
        ("///", "Z-run"),
        ("x" * 300, "Z-" + "x" * 60),
    ],
)
def test_any_model_name_makes_one_tame_folder(tmp_path: Path, name: str, end: str) -> None:
    path = create_run_dir(tmp_path, name)
    assert path.parent == tmp_path
    assert path.name.endswith(end)


def test_finishing_with_other_samples_than_were_appended_is_a_defect(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append(interleaved()[0])
        with pytest.raises(ValueError, match="has 4 samples, its folder 1"):
            run.finish(RESULT)
    assert json.loads((run.path / "manifest.json").read_text())["status"] == "running"


# --- what was spoilt is refused


def edit_manifest(**changes: Any) -> Callable[[Path], None]:
    def edit(run_dir: Path) -> None:
        path = run_dir / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_samples(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(run_dir: Path) -> None:
        path = run_dir / "samples.jsonl"
        path.write_bytes(change(path.read_bytes()))

    return edit


ROW = {"cut": 0, "layer": "input", "clean": True, "payload_bytes": 600}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run_dir: (run_dir / "manifest.json").unlink(), r"cannot read .*manifest\.json: No such file"),
        (lambda run_dir: (run_dir / "samples.jsonl").unlink(), r"cannot read .*samples\.jsonl: No such file"),
        (lambda run_dir: (run_dir / "manifest.json").write_text("{"), r"manifest\.json: .*truncated"),
        (lambda run_dir: (run_dir / "manifest.json").write_text("[1]"), r"manifest\.json: Expected `object`"),
        (edit_manifest(format=2), r"layout 2; this splitnet reads layout 1"),
        (edit_manifest(status="running"), r"the run was broken off"),
        (edit_manifest(layers="2"), r"Expected `int`, got `str` - at `\$\.layers`"),
        (edit_manifest(layers=1), r"a cut outside 0\.\.1"),
        (edit_manifest(rows=[ROW]), r"the rows of manifest\.json are not the cuts of samples\.jsonl"),
        (edit_manifest(rows=[]), r"the rows of manifest\.json are not the cuts"),
        (edit_manifest(local_samples_s={"gateway": []}), r"local_samples_s has a role without samples"),
        (edit_manifest(samples=5), r"4 samples, not 5 as measured"),
        (edit_samples(lambda text: text[:-9]), r"line 4 is cut short"),
        (edit_samples(lambda text: text[: text.rindex(b"\n", 0, -1) + 1]), r"3 samples, not 4 as measured"),
        (edit_samples(lambda text: b""), r"0 samples, not 4 as measured"),
        (edit_samples(lambda text: text.replace(b'"repeat":0', b'"repeat":7')), r"edited since"),
        (edit_samples(lambda text: text.replace(b'"end_ns":100', b'"end_ns":1')), r"line 1: .*do not follow"),
        (edit_samples(lambda text: text.replace(b'"start_ns":10,', b"")), r"line 1: .*`start_ns`"),
        (edit_samples(lambda text: text.replace(b"true", b"maybe")), r"line 1: JSON is malformed"),
        (edit_samples(lambda text: b"\xff" + text), r"line 1: "),
    ],
)
def test_a_spoilt_run_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    run_dir = Path(str(save_result(tmp_path, RESULT, MACHINE).run_dir))
    spoil(run_dir)
    with pytest.raises(SettingsError, match=reason) as caught:
        load_result(run_dir)
    assert "\n" not in str(caught.value)
    assert str(run_dir) in str(caught.value)


def test_samples_of_a_run_that_was_broken_off_can_be_read(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), begin(tmp_path) as run:
        run.append(interleaved()[0])
        raise KeyboardInterrupt
    with pytest.raises(SettingsError, match="broken off"):
        load_result(run.path)
    assert load_samples(run.path / "samples.jsonl") == (interleaved()[0],)


# --- what the disk refuses


def test_a_sample_that_does_not_fit_leaves_whole_lines_only(tmp_path: Path) -> None:
    first, second, *_ = interleaved()
    with SampleWriter(tmp_path / "samples.jsonl") as writer:
        writer.append(first)
        size = (tmp_path / "samples.jsonl").stat().st_size
        with files_up_to(size + 20), pytest.raises(SettingsError, match=r"File too large; .*--runs DIR"):
            writer.append(second)
        assert load_samples(tmp_path / "samples.jsonl") == (first,)
        writer.append(second)
    assert load_samples(tmp_path / "samples.jsonl") == (first, second)


def test_a_manifest_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json_atomic(path, {"old": 1}, RUNS_WAY_OUT)
    with files_up_to(50), pytest.raises(SettingsError, match=r"manifest\.json: File too large; .*--runs DIR"):
        write_json_atomic(path, {"new": "x" * 100}, RUNS_WAY_OUT)
    assert everything(tmp_path) == {"manifest.json": b'{\n  "old": 1\n}\n'}


def test_a_run_that_cannot_begin_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    save_result(tmp_path, RESULT, MACHINE)
    before, folders = everything(tmp_path), sorted(tmp_path.iterdir())
    with files_up_to(50), pytest.raises(SettingsError, match="File too large"):
        begin(tmp_path)
    assert (everything(tmp_path), sorted(tmp_path.iterdir())) == (before, folders)


def test_a_run_that_cannot_end_stays_marked_as_running(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        for sample in interleaved():
            run.append(sample)
        size = (run.path / "manifest.json").stat().st_size
        with files_up_to(size), pytest.raises(SettingsError, match="File too large"):
            run.finish(RESULT)
    assert sorted(everything(run.path)) == ["manifest.json", "samples.jsonl"]
    with pytest.raises(SettingsError, match="broken off"):
        load_result(run.path)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(SettingsError, match=r"cannot write .*runs.*: Not a directory; .*--runs DIR") as caught:
        create_run_dir(tmp_path / "runs" / below, "toy")
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == {"runs": b"mine"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SettingsError, match=re.escape(f"cannot write {tmp_path}: Permission denied")):
            create_run_dir(tmp_path, "toy")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system without room for folders")
def test_a_file_system_that_takes_no_folders_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot write /proc/runs: .*--runs DIR"):
        create_run_dir(Path("/proc/runs"), "toy")


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.png"
    path.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), replacing(path, RUNS_WAY_OUT) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert everything(tmp_path) == {"bench.png": b"old"}


def test_the_way_out_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="choose another file with --trace FILE"):
        write_json_atomic(tmp_path / "no" / "t.json", {}, "choose another file with --trace FILE")
