"""Who runs at once, on paper."""

from __future__ import annotations

import pytest

from splitnet.errors import SettingsError
from splitnet.runtime.core_plan import EmulatedMachine, Role, plan_cores


def machines(gateways: list[float], aps: list[float]) -> list[EmulatedMachine]:
    """Named g0, g1, … and a0, a1, …."""
    return [EmulatedMachine(f"g{place}", Role.GATEWAY, speed) for place, speed in enumerate(gateways)] + [
        EmulatedMachine(f"a{place}", Role.AP, speed) for place, speed in enumerate(aps)
    ]


def test_gateways_and_aps_run_together_and_aps_mine_alone() -> None:
    plan = plan_cores(machines([0.2, 0.3], [0.4, 0.5]), {0, 1})
    inference, mining = plan.phases
    assert (inference.name, inference.machines) == ("inference", ("g0", "g1", "a0", "a1"))
    assert inference.load == pytest.approx(1.4)
    assert (mining.name, mining.machines) == ("mining", ("a0", "a1"))
    assert mining.load == pytest.approx(0.9)
    assert plan.capacity == pytest.approx(1.8)
    assert plan.complaint is None


def test_a_plan_that_does_not_fit_says_so_in_one_line() -> None:
    too_many = machines([0.8, 0.8], [0.8, 0.8])
    plan = plan_cores(too_many, {0, 1})
    assert plan.complaint == (
        "inference lets 4 emulated machines run at once, which need 3.2 cores, and 1.8 of 2 are for them: they will "
        "slow each other down; multiply all speeds by 0.562, or take fewer machines"
    )
    with pytest.raises(SettingsError, match=r"^inference lets 4 emulated machines run at once"):
        plan_cores(too_many, {0, 1}, strict=True)
    advised = machines([0.8 * 0.562] * 2, [0.8 * 0.562] * 2)
    assert plan_cores(advised, {0, 1}, strict=True).complaint is None


def test_the_headroom_counts() -> None:
    full = machines([0.5, 0.5], [1.0])
    assert plan_cores(full, {0, 1}, headroom=0.0, strict=True).complaint is None
    assert plan_cores(full, {0, 1}, headroom=0.01).complaint is not None
    assert plan_cores(machines([], [0.9]), {3}, strict=True).capacity == pytest.approx(0.9)


def test_mining_that_does_not_fit_follows_from_the_aps_alone() -> None:
    plan = plan_cores(machines([], [1.0, 1.0]), {0, 1})
    assert plan.complaint is not None
    assert plan.complaint.startswith("inference lets 2")  # without gateways both phases are alike


def test_machines_are_kept_apart() -> None:
    plan = plan_cores(machines([0.3, 0.4], [0.6, 0.5]), {4, 6})
    # 0.6 on 4, 0.5 on 6, 0.4 on 6 (0.9 is full), 0.3 on 4
    assert plan.cores_of == {
        "g0": frozenset({4}),
        "g1": frozenset({6}),
        "a0": frozenset({4}),
        "a1": frozenset({6}),
    }
    assert plan.floating == ()


def test_who_fits_nowhere_floats() -> None:
    plan = plan_cores(machines([0.6, 0.6], [0.6]), {0, 1})
    assert plan.complaint is None  # 1.8 of 1.8
    assert plan.cores_of == {"g0": frozenset({0}), "g1": frozenset({1}), "a0": frozenset({0, 1})}
    assert plan.floating == ("a0",)


def test_no_core_is_over_full_in_any_phase() -> None:
    speeds = [0.05 * (1 + place % 7) for place in range(24)]
    many = machines(speeds[:16], speeds[16:])
    cores = set(range(6))
    plan = plan_cores(many, cores, strict=True)
    for phase in plan.phases:
        for core in cores:
            load = sum(
                one.speed
                for one in many
                if one.name in phase.machines and plan.cores_of[one.name] == frozenset({core})
            )
            assert load <= 0.9 + 1e-9
    assert set(plan.cores_of) == {one.name for one in many}


def test_plans_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="0 emulated machines on 1 cores"):
        plan_cores([], {0})
    with pytest.raises(SettingsError, match="1 emulated machines on 0 cores"):
        plan_cores(machines([0.5], []), set())
    with pytest.raises(SettingsError, match=r"a headroom of 1 of the cores must be at least 0 and below 1"):
        plan_cores(machines([0.5], []), {0}, headroom=1.0)
    with pytest.raises(SettingsError, match="emulated machine g0 is there twice"):
        plan_cores([*machines([0.5], []), *machines([0.1], [])], {0})
    for speed in (0.0, 1.5, float("nan")):
        with pytest.raises(SettingsError, match=r"AP a0 cannot run at .* give 1e-06 to 1"):
            EmulatedMachine("a0", Role.AP, speed)
