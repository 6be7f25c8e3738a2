"""Simulations over worker processes: what real runs leave behind, and resuming them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from splitnet.controller.simulation import Trace
from splitnet.controller.slot import Observation
from splitnet.controller.world import World
from splitnet.errors import SettingsError
from splitnet.simulating.folder import MANIFEST, TRACES, load
from splitnet.simulating.jobs import MOST_SEEDS, Job
from splitnet.simulating.run import open_folder
from splitnet.simulating.workers import SAMPLE_SEED, SAMPLE_SLOTS, Order, do_job, run_jobs
from tests.simulations import (
    DEADLINE_S,
    FLOPS_PER_CYCLE,
    GATEWAY_HZ,
    LAYER_FLOPS,
    asked,
    decided,
    resumed,
    run,
    tiny,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every kind of job, on two workers, uninterrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run(path, EVERYTHING, workers=2)
    return path


EVERYTHING = asked("wtcm-fair", "wdpo-best", "random", "dpra", v=(1.0, 4.0), devices=(2,))


def test_results_do_not_depend_on_the_number_of_workers(whole: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    run(tmp_path / "run", EVERYTHING, workers=1)
    assert dict(os.environ) == before
    assert len(decided(whole)) == 2 * (6 + 6 + 4 + 4)
    assert decided(tmp_path / "run") == decided(whole)


def test_what_has_finished_is_not_run_again(whole: Path, tmp_path: Path) -> None:
    """Half of the jobs are lost, as if never run; the others keep their files to the nanosecond."""
    path = tmp_path / "run"
    subprocess.run(["cp", "-r", str(whole), str(path)], check=True, timeout=DEADLINE_S)
    lost = sorted((path / TRACES).glob("*.json"))[::2]
    for seal in lost:
        seal.unlink()
    (path / TRACES / ".half.npz.1.tmp").write_bytes(b"of a worker that was killed")
    untouched = {one: one.stat().st_mtime_ns for one in (path / TRACES).glob("*.json")}
    steps: list[tuple[int, int]] = []
    found = resumed(path, EVERYTHING, workers=2, step=lambda done, total, text: steps.append((done, total)))
    assert decided(path) == decided(whole)
    assert {one: one.stat().st_mtime_ns for one in untouched} == untouched
    assert not list((path / TRACES).glob(".*"))
    assert steps[0] == (8 * len(untouched), 8 * 20)
    assert steps[-1] == (8 * 20, 8 * 20)
    assert steps == sorted(steps)
    assert json.loads((path / MANIFEST).read_text())["status"] == "complete"
    assert [one.policy for one in found.main] == ["wtcm-fair", "wdpo-best", "random", "dpra"]


def test_a_fair_wtcm_takes_the_hashes_of_dpra(whole: Path) -> None:
    """At equal difficulty every block takes H_0 gamma_0 hashes, whoever mines: DPRA's mean over slots and seeds."""
    for v, devices in ((1.0, 3), (4.0, 3), (4.0, 2)):
        hashes = [trace(whole, Job("dpra", v, seed, devices)).hashes_per_block.mean() for seed in (0, 1)]
        for seed in (0, 1):
            fair = trace(whole, Job("wtcm-fair", v, seed, devices)).hashes_per_block
            np.testing.assert_allclose(fair, np.mean(hashes), rtol=1e-9)


def trace(path: Path, job: Job) -> Trace:
    found = load(path, job)
    assert found is not None
    return found[0]


def test_dpra_runs_unseen_where_only_a_fair_wtcm_is_asked_for(tmp_path: Path) -> None:
    settings = asked("wtcm-fair", seeds=1, slots=3)
    found = run(tmp_path / "run", settings, workers=1)
    assert {path.name.split("-n")[0] for path in (tmp_path / "run" / TRACES).iterdir()} == {"dpra", "wtcm-fair"}
    told = found.to_dict()
    assert list(told["policies"]) == ["wtcm-fair"]
    assert told["policies"]["wtcm-fair"]["fair_gamma"] == pytest.approx(
        trace(tmp_path / "run", Job("dpra", 4.0, 0, 3)).hashes_per_block.mean() / (8e9 / 1000)
    )


def test_each_seed_is_a_world_of_its_own_and_the_same_for_all_policies(tmp_path: Path) -> None:
    """Gateway-only by hand: all layers on the gateway, and the barrier is the busiest one (row 1)."""
    path = tmp_path / "run"
    run(path, asked("gateway-only", "random"), workers=2)
    for seed in (0, 1):
        points = np.array([seen.points for seen in tiny().world.observations(seed, 8)])  # [slots, DTs]
        by_gateway = np.stack([points[:, [0, 2]].sum(axis=1), points[:, 1]])  # round robin
        expected_s = by_gateway.max(axis=0) * sum(LAYER_FLOPS) / (FLOPS_PER_CYCLE * GATEWAY_HZ)
        np.testing.assert_allclose(trace(path, Job("gateway-only", 4.0, seed, 3)).barrier_s, expected_s, rtol=1e-12)
    first, second = (trace(path, Job("random", 4.0, seed, 3)).cuts for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_static_cuts_are_chosen_on_other_slots_than_they_are_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    observations = World.observations

    def recorded(world: World, seed: int, slots: int) -> Iterator[Observation]:
        drawn.append((seed, slots))
        return observations(world, seed, slots)

    monkeypatch.setattr(World, "observations", recorded)
    trace = do_job(tiny(), 3, Order(Job("wdpo-best", 4.0, 1, 3), None), lambda done: None)
    assert trace.slots == 3
    assert drawn == [(SAMPLE_SEED, SAMPLE_SLOTS), (1, 3)]
    assert SAMPLE_SEED >= MOST_SEEDS


def test_a_job_that_cannot_be_done_is_named_in_one_line(tmp_path: Path) -> None:
    """A queue weight needs V in the scenario's range; a worker that is told otherwise says which job failed."""
    scenario = tiny()
    with open_folder(scenario, asked("dpra"), path=tmp_path / "run") as folder:
        job = Job("wtcm-fair", 4.0, 0, 3)
        with pytest.raises(SettingsError, match=r"^wtcm-fair-n3-v4-seed0: policy wtcm-fair needs the mean hashes"):
            run_jobs(
                scenario, 8, folder.path, [job], lambda one: Order(one, None), 1, lambda one: None, lambda *_: None
            )
