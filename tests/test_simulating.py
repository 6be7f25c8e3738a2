"""Simulations over worker processes: jobs, folders, resuming, and what becomes of traces."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.policies import POLICIES
from splitnet.controller.policy import State
from splitnet.controller.queues import Queues
from splitnet.controller.simulation import Trace
from splitnet.controller.slot import Observation
from splitnet.controller.world import World
from splitnet.errors import SettingsError, WorkerError
from splitnet.files import sealed
from splitnet.simulating.folder import COLUMNS, FORMAT, MANIFEST, SEAL, TRACES, SimulationFolder, load, save
from splitnet.simulating.jobs import MOST_SEEDS, Job, Jobs, SimulateSettings
from splitnet.simulating.result import read_outcomes, relative
from splitnet.simulating.run import open_folder, plan_jobs
from splitnet.simulating.workers import SAMPLE_SEED, SAMPLE_SLOTS, Order, do_job, run_jobs
from tests.simulations import (
    DEADLINE_S,
    FLOPS_PER_CYCLE,
    GATEWAY_HZ,
    LAYER_FLOPS,
    asked,
    decided,
    descendants,
    processes,
    resumed,
    run,
    tiny,
    until,
)

# --- what is asked, and the jobs that follow


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "--slots 0 is outside 1..1000000"),
        ({"slots": 1_000_001}, "--slots 1000001 is outside 1..1000000"),
        ({"seeds": 0}, "--seeds 0 is outside 1..1000"),
        ({"v": (0.0,)}, "--V 0 must be above 0 and finite; give numbers such as 1,4,16"),
        ({"v": (1.0, -4.0)}, "--V -4 must be above 0 and finite; give numbers such as 1,4,16"),
        ({"v": (float("nan"),)}, "--V nan must be above 0 and finite; give numbers such as 1,4,16"),
        ({"v": (float("inf"),)}, "--V inf must be above 0 and finite; give numbers such as 1,4,16"),
        ({"v": (4.0, 4.0)}, "--V names 4 twice; name each once"),
        ({"v": ()}, "--V names none; give numbers such as 1,4,16"),
        ({"devices": (0,)}, "--devices 0 is outside 1..50000"),
        ({"policies": ("dpra", "dpra")}, "--policy names dpra twice; name each once"),
        ({"policies": ()}, "--policy names none; give some such as dpra,wdpo"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        replace(asked(), **changes)
    assert str(refused.value) == message


def test_too_many_jobs_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^12000 jobs are more than 10000; name fewer policies"):
        plan_jobs(tiny(), asked("dpra", "wtcm-c6", v=tuple(map(float, range(1, 7))), seeds=1000))


def test_an_unknown_policy_is_refused_with_near_names() -> None:
    with pytest.raises(SettingsError, match=r"'wtmc'.*wtcm"):
        plan_jobs(tiny(), asked("wtmc"))


def test_jobs_by_hand() -> None:
    """Two V with the own 3 DTs and the V of the scenario with 5; wdpo does not know V; dpra comes first, unasked."""
    jobs = plan_jobs(tiny(), asked("wdpo", "wtcm-fair", v=(1.0, 4.0), seeds=2, devices=(5, 3)))
    assert (jobs.v, jobs.devices, jobs.points) == (4.0, 3, ((1.0, 3), (4.0, 3), (4.0, 5)))
    assert [job.name for job in jobs.all()] == [
        f"{policy}-n{devices}-v{v}-seed{seed}"
        for policy, points in (
            ("dpra", ((1, 3), (4, 3), (4, 5))),
            ("wdpo", ((4, 3), (4, 5))),
            ("wtcm-fair", ((1, 3), (4, 3), (4, 5))),
        )
        for v, devices in points
        for seed in (0, 1)
    ]
    assert jobs.job("wdpo", 1.0, 3, 1) == Job("wdpo", 4.0, 1, 3)
    assert (
        plan_jobs(tiny(), asked("wdpo", v=(7.0, 9.0))).v == 7.0
    )  # the first, where the scenario's is not among them


@given(
    names=st.lists(st.sampled_from(sorted(POLICIES)), min_size=1, max_size=4, unique=True),
    v=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=4, unique=True),
    devices=st.lists(st.integers(1, 9), max_size=3, unique=True),
    seeds=st.integers(1, 3),
)
def test_every_question_has_one_job_with_a_name_of_its_own(
    names: list[str], v: list[float], devices: list[int], seeds: int
) -> None:
    settings = SimulateSettings(tuple(names), 5, tuple(v), seeds, tuple(devices))
    jobs = Jobs(settings, v[0], 3, first="dpra", without_v=frozenset({"random", "wdpo"}))
    everything = jobs.all()
    assert len({job.name for job in everything}) == len(everything) == len(set(everything))
    asked_for = {job for name in names for point in jobs.points for job in jobs.at(name, *point)}
    assert asked_for <= set(everything)
    assert {job.policy for job in everything} == {*names, "dpra"}


# --- a job's files


def a_trace(slots: int = 5, aps: int = 2, *, latency_s: float = 1.0, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    return Trace(
        latency_s=np.full(slots, latency_s),
        barrier_s=np.full(slots, 0.75 * latency_s),
        block_s=np.full(slots, 0.25 * latency_s),
        hashes_per_block=np.full(slots, 8e6),
        solve_s=np.full(slots, 0.002),
        reputation=np.tile([0.1, 0.5], (slots, 1)),
        queue=draw.random((slots, aps)),
        difficulty=draw.random((slots, aps)),
        cuts=draw.integers(1, 4, (slots, 3)),
        infeasible=(None, "gateway 1 cannot afford any cut", *[None] * (slots - 2)),
        state=State(slots, Queues(np.array([0.1, 1 / 3]), np.zeros(2)), (1, 2, 0)),
    )


JOB = Job("dpra", 4.0, 0, 3)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / TRACES).mkdir()
    save(tmp_path, JOB, a_trace(), 0.5)
    return tmp_path


def test_a_trace_comes_back_as_it_was(kept: Path) -> None:
    found = load(kept, JOB)
    assert found is not None
    trace, gamma = found
    assert gamma == 0.5
    for name in (*COLUMNS, "solve_s"):
        was = getattr(a_trace(), name)
        assert getattr(trace, name).dtype == was.dtype
        np.testing.assert_array_equal(getattr(trace, name), was)
    assert trace.infeasible == a_trace().infeasible
    assert trace.state.as_dict() == a_trace().state.as_dict()


def test_a_job_without_its_seal_has_not_finished(kept: Path) -> None:
    assert load(kept, replace(JOB, seed=1)) is None
    (kept / TRACES / f"{JOB.name}.json").unlink()
    assert load(kept, JOB) is None


def reseal(kept: Path, content: bytes, **changes: Any) -> None:
    """Files whose digests are right: made by somebody who wanted them so."""
    (kept / TRACES / f"{JOB.name}.npz").write_bytes(content)
    path = kept / TRACES / f"{JOB.name}.json"
    seal = {**json.loads(path.read_text()), "trace_sha256": hashlib.sha256(content).hexdigest(), **changes}
    for name in ("kind", "version", "digest"):
        del seal[name]
    path.write_text(json.dumps(sealed(SEAL, FORMAT, seal)))


def arrays(**columns: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **columns)
    return content.getvalue()


class Bomb:
    """An object that leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return self.mark.write_text, ("unpickled",)


def test_a_trace_is_never_unpickled(kept: Path) -> None:
    reseal(kept, arrays(**dict.fromkeys(COLUMNS, np.array([Bomb(kept / "mark")], dtype=object))))
    with pytest.raises(SettingsError, match="is no trace of this splitnet"):
        load(kept, JOB)
    assert not (kept / "mark").exists()


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (arrays(latency_s=np.ones(5)), {}, "is no trace of this splitnet"),
        (b"PK\x03\x04 no archive", {}, "is no trace of this splitnet"),
        (b"", {}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"state": None}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"solve_s": "now"}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"infeasible": 3}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"job": {"policy": "dpra"}}, "does not match its seal"),
    ],
    ids=["columns", "archive", "empty", "state", "times", "reasons", "job"],
)
def test_a_trace_made_on_purpose_is_refused(
    kept: Path, content: bytes, changes: dict[str, Any], message: str
) -> None:
    reseal(kept, content, **changes)
    with pytest.raises(SettingsError, match=message) as refused:
        load(kept, JOB)
    assert "\n" not in str(refused.value)


def test_an_edited_trace_or_seal_is_refused(kept: Path) -> None:
    path = kept / TRACES / f"{JOB.name}.npz"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(SettingsError, match=rf"^{path} was edited or damaged: .* take {JOB.name}.json out of"):
        load(kept, JOB)
    path.unlink()
    with pytest.raises(SettingsError, match=rf"^cannot read {path}: No such file"):
        load(kept, JOB)
    path.write_bytes(good)
    seal = path.with_suffix(".json")
    seal.write_text(seal.read_text().replace("cannot afford", "could not afford"))
    with pytest.raises(SettingsError, match="edited or damaged"):
        load(kept, JOB)


# --- the folder


def test_a_folder_is_one_simulations_at_a_time(tmp_path: Path) -> None:
    with open_folder(tiny(), asked(), path=tmp_path / "run") as folder:
        with pytest.raises(
            SettingsError, match=r"run is in use by another simulation; wait until it ends, or choose"
        ):
            open_folder(tiny(), asked(), resume=folder.path)
        with pytest.raises(SettingsError, match="is in use"):
            open_folder(tiny(), asked(), path=folder.path)
    open_folder(tiny(), asked(), resume=folder.path).close()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match=r"is not empty; go on with its run by --resume"):
        open_folder(tiny(), asked(), path=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(SettingsError, match=r"letter.txt: Not a directory; choose another folder with -o DIR"):
        open_folder(tiny(), asked(), path=tmp_path / "letter.txt")
    with pytest.raises(SettingsError, match=r"letter.txt: Not a directory; name a simulation's folder"):
        open_folder(tiny(), asked(), resume=tmp_path / "letter.txt")
    with pytest.raises(SettingsError, match=r"No such file or directory; name a simulation's folder"):
        open_folder(tiny(), asked(), resume=tmp_path / "none")
    with pytest.raises(SettingsError, match=r"cannot read .*manifest.json: No such file or directory"):
        open_folder(tiny(), asked(), resume=tmp_path)


def test_a_folder_that_cannot_be_begun_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SettingsError("cannot write: No space left on device")

    monkeypatch.setattr(SimulationFolder, "_write_manifest", refuse)
    with pytest.raises(SettingsError, match="No space left"):
        open_folder(tiny(), asked(), path=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 9}, "was begun with --slots 8, not 9;"),
        ({"seeds": 3}, "was begun with --seeds 2, not 3;"),
        ({"v": (4.0000000001,)}, "was begun with --V 4, not 4.0000000001;"),
        ({"v": (4.0, 16.0)}, "was begun with --V 4, not 4,16;"),
        ({"devices": (5,)}, "was begun with --devices none, not 5;"),
        ({"policies": ("wdpo", "dpra")}, "was begun with --policy dpra,wdpo, not wdpo,dpra;"),
    ],
)
def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    with pytest.raises(SettingsError) as refused:
        open_folder(tiny(), replace(asked(), **changes), resume=tmp_path)
    assert message in str(refused.value)


def test_a_run_of_another_scenario_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    more = tiny().with_devices(4)
    with pytest.raises(SettingsError, match=r"^scenario tiny has changed since the run in .* was begun; choose"):
        open_folder(more, asked(), resume=tmp_path)
    monkeypatch.setattr("splitnet.simulating.run.metadata.version", lambda name: "0.0")
    with pytest.raises(SettingsError, match=r"was begun with splitnet .*, not 0.0; choose another folder"):
        open_folder(tiny(), asked(), resume=tmp_path)


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    path = tmp_path / MANIFEST
    whole = path.read_text()
    for text in (whole[:100], whole.replace('"running"', '"complete"'), "[]", "{}"):
        path.write_text(text)
        with pytest.raises(SettingsError) as refused:
            open_folder(tiny(), asked(), resume=tmp_path)
        assert str(path) in str(refused.value)


# --- figures from traces


def test_outcomes_of_planted_traces(tmp_path: Path) -> None:
    (tmp_path / TRACES).mkdir()
    jobs = Jobs(asked("dpra", "wdpo", slots=5), 4.0, 3)
    for policy, seed, latency_s in (("dpra", 0, 1.0), ("dpra", 1, 2.0), ("wdpo", 0, 1.5), ("wdpo", 1, 2.5)):
        save(tmp_path, Job(policy, 4.0, seed, 3), a_trace(latency_s=latency_s), None)
    dpra, wdpo = read_outcomes(tmp_path, jobs, tiny().setting(4.0))
    assert (dpra.summary.mean_latency_s, wdpo.summary.mean_latency_s) == (1.5, 2.0)
    assert (wdpo.barrier_s, wdpo.block_s) == (1.5, 0.5)
    assert wdpo.relative is not None
    assert wdpo.relative.mean == pytest.approx((1.5 / 1 + 2.5 / 2) / 2 - 1)
    # two values, Student's t with one degree of freedom: 12.7062 s / sqrt(2), s = 0.25 / sqrt(2)
    assert wdpo.relative.ci95 == pytest.approx(12.7062 * 0.25 / 2, rel=1e-5)
    assert [ap.mean for ap in wdpo.reputation] == pytest.approx([0.1, 0.5])
    assert wdpo.summary.c6_violation == pytest.approx(0.1)  # 0.5 over the 0.4 of u_max
    assert wdpo.summary.infeasible_slots == 2
    assert wdpo.infeasible == "slot 1 of seed 0: gateway 1 cannot afford any cut"
    assert (wdpo.decision_s, wdpo.decision_p95_s) == (0.002, 0.002)
    assert wdpo.curve_s.shape == (2, 5)


def test_the_curve_is_the_mean_so_far(tmp_path: Path) -> None:
    (tmp_path / TRACES).mkdir()
    jobs = Jobs(asked("dpra", slots=2000, seeds=1), 4.0, 3)
    rising = replace(a_trace(2000), latency_s=np.arange(1.0, 2001.0))
    save(tmp_path, Job("dpra", 4.0, 0, 3), rising, None)
    (outcome,) = read_outcomes(tmp_path, jobs, tiny().setting(4.0))
    assert (outcome.curve_slots[0], outcome.curve_slots[-1], len(outcome.curve_slots)) == (1, 2000, 500)
    np.testing.assert_allclose(outcome.curve_s[0], (outcome.curve_slots + 1) / 2)  # mean of 1..t


def test_one_seed_is_compared_over_batches_of_slots() -> None:
    reference = np.tile([1.0, 3.0], 20)
    found = relative([reference + 0.5], [reference])
    assert found.mean == pytest.approx(0.25)
    assert found.ci95 == pytest.approx(0.0)
    alone = relative([np.array([2.0])], [np.array([1.0])])
    assert (alone.mean, alone.ci95) == (1.0, None)


# --- real runs


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


# --- interrupted runs, in processes of their own

SLOW = """
import sys
from pathlib import Path
from tests.simulations import asked, run

if __name__ == "__main__":
    run(Path(sys.argv[1]), asked("random", "wdpo", slots=int(sys.argv[2]), seeds=3), workers=2)
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run"), "8000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def test_workers_end_when_their_owner_is_killed(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    until(lambda: list((tmp_path / "run" / TRACES).glob("*.json")), "a finished job")
    workers = descendants(slow.pid)
    assert len(workers) >= 2
    for pid in workers:
        if processes()[pid][0] != slow.pid:  # the server's children, which have its environment
            assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    slow.send_signal(signal.SIGKILL)
    slow.wait(DEADLINE_S)
    until(lambda: processes().keys().isdisjoint(workers), "the end of the workers")
    settings = asked("random", "wdpo", slots=8000, seeds=3)
    open_folder(tiny(), settings, resume=tmp_path / "run").close()  # nobody holds it


def test_a_killed_worker_ends_the_run_in_one_line(tmp_path: Path) -> None:
    settings = asked("random", "wdpo", slots=8000, seeds=3)
    killed: list[int] = []

    def kill_one(done: int, total: int, text: str) -> None:
        if done and not killed:
            own = os.getpid()
            killed.append(next(pid for pid in descendants(own) if processes()[pid][0] != own))  # the server's child
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(
        WorkerError, match=r"^the worker of \S+ ended with status -9; go on with --resume \S+run, with"
    ):
        run(tmp_path / "run", settings, workers=2, step=kill_one)
    assert multiprocessing.active_children() == []
