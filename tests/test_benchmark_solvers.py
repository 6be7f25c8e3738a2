"""The solvers' benchmark: its cases are what they claim to be, and its statistics are what is known by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import solver_cases, solvers, solvers_report
from benchmarks.solver_cases import DEGENERATE, REAL, SHAPES, WEIGHTS
from splitnet.controller.frequency import best_frequencies


@pytest.mark.parametrize("kind", [*SHAPES, REAL])
def test_servings_are_drawn_from_the_seed_alone(kind: str) -> None:
    first, again = (list(itertools.islice(solvers.well_scaled_servings(kind), 20)) for _ in range(2))
    assert [one.ready_s.tolist() for one in first] == [one.ready_s.tolist() for one in again]
    assert len({one.ready_s.tobytes() for one in first}) == 20


def test_a_real_slot_costs_what_its_plan_says() -> None:
    problem = next(solver_cases.consecutive_slots(solver_cases.default_with_places(3), 1, 1))
    options = np.arange(12) % 11
    serving, plan = solver_cases.serving_of(problem, options), problem.evaluate(options.tolist())
    assert best_frequencies(serving).latency_s == pytest.approx(plan.frequencies.latency_s)


def test_another_unit_of_time() -> None:
    chance = np.random.default_rng(0)
    serving = solver_cases.well_scaled(chance, 6, 3)
    days = DEGENERATE["days"](chance, serving)
    assert best_frequencies(days).latency_s == pytest.approx(1e5 * best_frequencies(serving).latency_s)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_of_their_kind_and_at_most_v(kind: str) -> None:
    drawn = [solver_cases.weights(np.random.default_rng(seed), kind, 4, 16.0) for seed in range(50)]
    signs = {int(sign) for weights in drawn for sign in np.sign(weights)}
    assert signs == {"mixed": {-1, 1}, "positive": {1}, "negative": {-1}, "zero": {0}, "alike": {-1, 1}}[kind]
    assert max(np.abs(weights).max() for weights in drawn) <= 16
    assert all((weights == weights[0]).all() for weights in drawn) == (kind in ("alike", "zero"))


def test_every_slot_can_be_served() -> None:
    for seed in range(60):
        solver_cases.small_problem(seed).check()
    for name, shape in solvers.GROWTHS.items():
        solver_cases.grown_problem(len(name), 200, *shape(200)).check()
    for problem in solver_cases.consecutive_slots(solver_cases.default_with_places(0), 0, 5):
        problem.check()


def test_an_exponent_by_hand() -> None:
    sizes = [100.0, 200.0, 1000.0, 5000.0]
    exponent, half = solvers_report.slope(sizes, [3e-6 * size**1.5 for size in sizes])
    assert exponent == pytest.approx(1.5)
    assert half == pytest.approx(0, abs=1e-6)
    # Three points at 0, 1, 2 with values 0, 2, 2 on log axes: slope 1, residuals -1/3, 2/3, -1/3; s^2 = 2/3, Sxx = 2.
    exponent, half = solvers_report.slope(np.exp([0.0, 1.0, 2.0]).tolist(), np.exp([0.0, 2.0, 2.0]).tolist())
    assert exponent == pytest.approx(1)
    assert half == pytest.approx(12.706 * (1 / 3) ** 0.5, rel=1e-4)


def test_a_slot_on_which_cvxpy_errs_is_blamed_on_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {"kind": "some", "latency_s": 1.0, "energy_binds": True, "status": "optimal"}
    rows = [
        row | {"difference": 2e-8, "ours_off": 1e-15, "cvxpy_off": -2e-8},
        row | {"difference": 3e-3, "ours_off": 1e-15, "cvxpy_off": -3e-3},
        row | {"difference": None, "ours_off": 0.0, "cvxpy_off": None, "status": "solver_error"},
    ]
    solvers_report.show({"agreement": rows})
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "3 slots, C5 binds at some AP in 3. 2 differ by more than 1e-06, of which the scan calls cvxpy wrong in 2"
        in text
    )
    assert "the others by at most 2.0e-08" in text
    assert "met" in text
    solvers_report.show({"degenerate": [row | {"difference": 1.0, "ours_off": 2e-3, "cvxpy_off": 0.0}]})
    assert "NOT met" in capsys.readouterr().out


def test_sections_run_and_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = solvers.Counts(1, 1, 1, 2, 1, 1, 0, (100, 200), 2)
    results = {name: solvers.SECTIONS[name](counts) for name in ("agreement", "small", "growth")}
    assert len(results["agreement"]) == len(SHAPES) + 1
    assert len(results["growth"]) == 8
    solvers_report.show(results)
    assert "20 devices a gateway" in capsys.readouterr().out
    solvers_report.draw_growth(results["growth"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
