"""`splitnet run` on real processes: figures, chains, and runs that are broken off and gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitnet.running.folder import MANIFEST, SLOTS, read_records
from splitnet.runtime.actuators import why_not
from splitnet.runtime.cgroups import find_hierarchy, remove_leftovers
from tests.commands import Run
from tests.running import TINY, lines, started
from tests.simulations import DEADLINE_S, descendants, processes, until
from tests.test_running_result import CONTRACT


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all runs here, so that the model is profiled once; not the user's."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITNET_CACHE", str(path))
        yield path


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    path = tmp_path / "toys.toml"
    path.write_text(TINY)
    return path


def test_a_run_ends_with_verified_chains_and_equal_results(run: Run, toys: Path, tmp_path: Path, cache: Path) -> None:
    """Also: what it prints, that it can be shown again, and that a slot without its line is lost and counted."""
    out = tmp_path / "out"
    ended = run("run", toys, "-o", out, "--json")
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out, parse_constant=pytest.fail)
    assert list(told)[: len(CONTRACT)] == CONTRACT
    assert told == json.loads((out / "run.json").read_text())
    assert (told["slots"], told["lost_slots"], told["complete"], told["run_dir"]) == (3, 0, True, str(out))
    assert (told["equal_results"], told["results"]["count"]) == (True, 9)
    assert (told["chain_height"], told["verified"]) == (3, True)
    assert told["mean_latency_s"] > told["components"]["barrier"]["measured_s"] > 0
    assert [one["count"] for one in told["achieved"]["speeds"]] == [3, 3, 3, 3]
    assert [one["count"] for one in told["achieved"]["links"]] == [3, 3]
    assert [one["receipts"] for one in told["chains"]] == [9, 9]  # each of three DTs in each of three slots
    assert min(told["mean_reputation"]) > 0
    assert len(told["mean_reputation"]) == 2
    assert len(list(cache.glob("profile-*.json"))) == 1
    pictures = {"predicted", "latency", "reputation", "queues", "achieved"}
    assert {path.stem for path in out.glob("*.png")} == {path.stem for path in out.glob("*.svg")} == pictures
    manifest = json.loads((out / MANIFEST).read_text())
    assert (manifest["status"], manifest["settings"]["policy"]) == ("complete", "dpra")

    verified = run("chain", "verify", out, "--json")
    assert (verified.status, json.loads(verified.out)["same_up_to_height"]) == (0, 3)
    assert json.loads(run("show", out, "--json").out) == told
    shown = run("show", out)
    assert (shown.status, shown.err) == (0, "")
    for part in (
        "toys: dpra, 3 slots",
        "barrier: slowest gateway",
        "achieved / asked",
        "9 of 9 have",
        "clean to height",
    ):
        assert part in shown.out
    refused = run("show", out, "--trace", tmp_path / "trace.json")
    assert (refused.status, refused.err.count("\n")) == (2, 1)

    whole = (out / SLOTS).read_bytes()
    (out / SLOTS).write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    again = json.loads(run("run", toys, "--resume", out, "--json").out)
    assert (again["slots"], again["lost_slots"], again["complete"], again["chain_height"]) == (2, 1, True, 3)

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = tmp_path / "other.toml"
    other.write_text(TINY.replace('name = "toys"', 'name = "others"'))
    changed = tmp_path / "changed.toml"
    changed.write_text(TINY.replace("count = 3", "count = 4"))
    for arguments, message in (
        ((toys, "-o", out), "is not empty; go on with its run by --resume"),
        ((other, "--resume", out), "is a run of scenario toys, not others"),
        ((changed, "--resume", out), "scenario toys has changed since the run in"),
        ((toys, "--resume", out, "--slots", 4), "was begun with --slots 3, not 4"),
        ((toys, "--resume", out, "--policy", "wdpo"), "was begun with --policy dpra, not wdpo"),
    ):
        ended = run("run", *arguments)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert message in ended.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(why_not("cgroup") is not None, reason=str(why_not("cgroup")))
def test_a_run_with_quotas_leaves_no_group(run: Run, toys: Path, tmp_path: Path) -> None:
    """A machine's quota ends with its process, which here ends because its launcher has closed the pipe to it."""
    ended = run("run", toys, "-o", tmp_path / "out", "--actuator", "cgroup", "--json")
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["equal_results"], told["verified"]) == (True, True)
    assert [one["count"] for one in told["achieved"]["speeds"]] == [3, 3, 3, 3]
    assert remove_leftovers(find_hierarchy()) == []


def test_an_interrupted_run_goes_on(run: Run, toys: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle, here without reputation in consensus: nobody is left, and the world stays the seed's."""
    out = tmp_path / "out"
    with started(toys, "--slots", 6, "--policy", "wtcm-fair", "--fair-gamma", 0.7, "-o", out) as process:
        until(lambda: lines(out) >= 2 or process.poll() is not None, "a second slot")
        machines = descendants(process.pid)
        assert len(machines) >= 5  # devices, gateways, APs
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: machines too
        said, complaints = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said) == (130, "")
    assert complaints.splitlines() == [
        f"played slots are kept; go on with: splitnet run {toys} --resume {out}",
        "splitnet: interrupted",
    ]
    until(lambda: processes().keys().isdisjoint(machines), "the end of all machines")
    broken_off = read_records(out)
    assert 2 <= len(broken_off) < 6
    shown = run("show", out)
    assert (shown.status, "broken off:" in shown.out) == (0, True)

    ended = run("run", toys, "--resume", out, "--json")
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["slots"] + told["lost_slots"] == 6
    assert told["lost_slots"] <= 1
    assert (told["complete"], told["verified"], told["equal_results"]) == (True, True, True)
    assert told["gamma"] == pytest.approx(0.7, abs=1e-6)
    records = read_records(out)
    assert records[: len(broken_off)] == broken_off
    rates = [one.asked_bps for one in records]
    assert len({tuple(rate) for rate in rates}) == len(rates)  # each slot has a world of its own
    assert [one.state["slot"] for one in records] == list(range(1, len(records) + 1))


def test_a_killed_run_leaves_nobody_and_goes_on(run: Run, toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(toys, "--slots", 5, "--audit", 0.5, "-o", out) as process:
        until(lambda: lines(out) >= 1 or process.poll() is not None, "a first slot")
        machines = descendants(process.pid)
        assert len(machines) >= 5
        beside = run("run", toys, "--resume", out)
        assert (beside.status, beside.err.count("\n")) == (2, 1)
        assert "out is in use by another run; wait until it ends" in beside.err
        process.kill()
        process.wait(DEADLINE_S)
    until(lambda: processes().keys().isdisjoint(machines), "the end of all machines")
    ended = run("run", toys, "--resume", out, "--json")
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["slots"] + told["lost_slots"], told["lost_slots"] <= 1) == (5, True)
    assert (told["complete"], told["verified"], told["equal_results"]) == (True, True, True)
