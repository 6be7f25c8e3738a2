"""`splitnet simulate`: what it prints, bad input, and a run that is interrupted and gone on with."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from splitnet.simulating.folder import TRACES
from tests.commands import Run
from tests.simulations import DEADLINE_S, TINY, decided, processes, until

CONTRACT = {
    "mean_latency_s",
    "ci95",
    "mean_reputation",
    "c6_violation",
    "mean_queue",
    "mean_difficulty",
    "hashes_per_block",
    "infeasible_slots",
}
TIMES = ("decision_s", "decision_p95_s")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


# --- what it prints


def test_json_is_one_object_with_the_names_of_the_contract(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = run(
        *("simulate", tiny, "--policy", "wdpo,random", "--V", "1,4", "--seeds", 2, "--devices", "2,3"),
        *("-o", out, "--json", "--jobs", 2),
    )
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out, parse_constant=pytest.fail)
    assert told == json.loads((out / "simulation.json").read_text())
    assert (told["scenario"], told["slots"], told["seeds"], told["run_dir"]) == ("tiny", 8, 2, str(out))
    assert (told["v"], told["devices"], told["c6"]) == (4.0, 3, {"u_min": 0.1, "u_max": 0.4})
    assert list(told["policies"]) == ["wdpo", "random"]
    for policy in told["policies"].values():
        assert policy.keys() >= CONTRACT
        assert len(policy["mean_reputation"]) == 2
        assert math.isclose(policy["mean_latency_s"], policy["mean_barrier_s"] + policy["mean_block_s"])
    assert [point["v"] for point in told["sweep"]] == [1.0, 4.0]
    assert [point["devices"] for point in told["device_sweep"]] == [2, 3]
    assert told["sweep"][1]["policies"] == told["device_sweep"][1]["policies"] == told["policies"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["settings"]["v"] == [1.0, 4.0]
    assert manifest["versions"]["numpy"]
    assert manifest["machine"]["python"]
    assert manifest["scenario_content"]["devices"]["count"] == 3


def test_small_with_dpra_and_wdpo(run: Run, tmp_path: Path) -> None:
    """The shipped scenario, a table for people and the figures of one V; then the same again, all of it kept."""
    out = tmp_path / "run"
    ended = run("simulate", "small", "--policy", "dpra,wdpo", "--slots", 12, "--seeds", 2, "-o", out)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].strip() == "small: 4 DTs, 12 slots, 2 seeds"
    assert [line.split()[0] for line in lines if line.startswith(("dpra", "wdpo"))] == ["dpra", "wdpo"]
    assert "traces, simulation.json and figures (policies, latency-slots, reputation; PNG and SVG)" in ended.out
    assert {path.name for path in out.glob("*.png")} == {"policies.png", "latency-slots.png", "reputation.png"}
    told = json.loads((out / "simulation.json").read_text())
    assert told["policies"]["dpra"]["relative_to_dpra"] == {"mean": 0.0, "ci95": 0.0}
    before = decided(out)
    again = run("simulate", "small", "--resume", out)
    assert (again.status, again.out.splitlines()[:-1]) == (0, lines[:-1])
    assert decided(out) == before
    assert json.loads((out / "simulation.json").read_text()) == told


def test_help_names_every_policy_and_its_defaults(run: Run) -> None:
    from splitnet.controller.policies import POLICIES
    from splitnet.scenario import shipped_names

    said = " ".join(run("simulate", "--help").out.replace("│", " ").split())
    for name in (*POLICIES, *shipped_names()):
        assert f"{name}" in said
    for part in ("dpra,wdpo,wtcm", "3 by default", "Examples:", "--resume", "--V"):
        assert part in said


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "dpra,wtmc"), "'wtmc'"),
        (("--policy", "dpra,,wdpo"), "''"),
        (("--policy", "dpra,dpra"), "--policy names dpra twice; name each once"),
        (("--V", "0"), "--V 0 must be above 0 and finite; give numbers such as 1,4,16"),
        (("--V", "4,-1"), "--V -1 must be above 0 and finite; give numbers such as 1,4,16"),
        (("--V", "nan"), "--V nan must be above 0 and finite; give numbers such as 1,4,16"),
        (("--V", "1e400"), "--V inf must be above 0 and finite; give numbers such as 1,4,16"),
        (("--V", "1e13"), "V 10000000000000.0 is out of range"),
        (("--V", "four"), "--V 'four' are no numbers; give some such as 1,4,16"),
        (("--V", ""), "--V '' are no numbers; give some such as 1,4,16"),
        (("--slots", "0"), "--slots 0 is outside 1..1000000"),
        (("--slots", "1000000000"), "--slots 1000000000 is outside 1..1000000"),
        (("--slots", "many"), "Invalid value for '--slots'"),
        (("--seeds", "0"), "--seeds 0 is outside 1..1000"),
        (("--devices", "0"), "--devices 0 is outside 1..50000"),
        (("--devices", "4.5"), "--devices '4.5' are no numbers; give some such as 1,4,16"),
        (("--jobs", "0"), "--jobs 0 is below 1"),
        (("--resume", "nowhere"), "nowhere"),
        (("-o", "a", "--resume", "b"), "-o a begins a run and --resume b goes on with one; give one of them"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tiny.parent)
    ended = run("simulate", tiny, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("splitnet: ")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert list(tiny.parent.iterdir()) == [tiny]


def test_near_names_are_offered(run: Run, tiny: Path) -> None:
    assert "wtcm" in run("simulate", tiny, "--policy", "wtmc").err
    assert "small" in run("simulate", "smal").err


def test_a_folder_that_holds_something_is_left_as_it_was(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("so far")
    ended = run("simulate", tiny, "-o", tmp_path / "thesis")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "thesis is not empty; go on with its run by --resume" in ended.err
    assert [path.read_text() for path in (tmp_path / "thesis").iterdir()] == ["so far"]


def test_a_folder_of_another_kind_or_other_settings_is_refused(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("simulate", tiny, "--policy", "wdpo", "--seeds", 1, "-o", out).status == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for arguments, message in (
        ((tiny, "--slots", 9), "was begun with --slots 8, not 9"),
        ((tiny, "--policy", "dpra"), "was begun with --policy wdpo, not dpra"),
        (("small",), "is a run of scenario tiny, not small"),
    ):
        ended = run("simulate", *arguments, "--resume", out)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert message in ended.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "manifest.json").write_text('{"kind": "bench"}')
    assert "manifest.json is not a manifest of a simulation" in run("simulate", tiny, "--resume", out).err


def test_a_run_without_a_folder_named_goes_under_runs(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("simulate", tiny, "--policy", "wdpo", "--seeds", 1, "--slots", 1).status == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-simulate-tiny")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "runs").write_text("a file")
    assert "runs: Not a directory; choose another folder with -o DIR" in run("simulate", tiny).err


# --- interrupted


def test_an_interrupted_run_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit status 130, no worker left, and in the end the same bytes as without it."""
    out, whole = tmp_path / "broken", tmp_path / "whole"
    asked = ["small", "--policy", "dpra,wdpo,random", "--slots", "60", "--seeds", "2", "--V", "1,16", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "splitnet", "simulate", *asked, "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has us ignore it
    )
    try:
        until(lambda: list((out / TRACES).glob("*.json")) or process.poll() is not None, "a finished job")
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: workers too
        said, complaints = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, said) == (130, "")
    assert complaints.splitlines() == [
        f"finished jobs are kept; go on with: splitnet simulate small --resume {out}",
        "splitnet: interrupted",
    ]
    until(lambda: process.pid not in {group for _, group in processes().values()}, "the end of all workers")
    assert 1 <= len(list((out / TRACES).glob("*.json"))) < 8
    assert run("simulate", "small", "--resume", out).status == 0
    assert run("simulate", *asked, "-o", whole).status == 0
    assert decided(out) == decided(whole)
    assert without_times(out) == without_times(whole)


def without_times(run_dir: Path) -> Any:
    """All that was told, but for how long decisions took and where it was kept."""
    told = json.loads((run_dir / "simulation.json").read_text())
    del told["run_dir"]
    for point in ({"policies": told["policies"]}, *told["sweep"]):
        for policy in point["policies"].values():
            for name in TIMES:
                assert policy.pop(name) > 0
    return told
