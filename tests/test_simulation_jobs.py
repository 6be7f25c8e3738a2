"""What is asked of a simulation, and the jobs that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.policies import POLICIES
from splitnet.errors import SettingsError
from splitnet.simulating.jobs import Job, Jobs, SimulateSettings
from splitnet.simulating.run import plan_jobs
from tests.simulations import asked, tiny


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
