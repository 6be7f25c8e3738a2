"""The compiled loops: against scans in extended precision, bisection and differences; degenerate slots first."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.controller import kernels
from splitnet.controller.frequency import Serving, best_frequencies
from splitnet.controller.reference import dense_scan
from tests.test_frequency import GHZ, KAPPA, SHAPES, a_serving, random_serving, some_serving

TWO: dict[str, Any] = {
    "ready_s": [0.5, 0.3],
    "cycles": [0.5 * GHZ, 1 * GHZ],
    "ap_of": [0, 1],
    "max_hz": [4 * GHZ, 4 * GHZ],
    "energy_j": [2.0, 3.0],
    "cycles_per_block": [8 * GHZ, 6 * GHZ],
}
DEGENERATE: dict[str, dict[str, Any]] = {
    "a gateway with no top work": {"cycles": [0, GHZ]},
    "a gateway with no top work that comes last": {"ready_s": [1.5, 0.3], "cycles": [0, 0.1 * GHZ]},
    "no gateway has top work": {"cycles": [0, 0]},
    "nothing to wait for": {"ready_s": [0, 0], "cycles": [0, 0]},
    "no gateways": {"ready_s": [], "cycles": [], "ap_of": []},
    "an AP without gateways": {"ap_of": [1, 1]},
    "equal times": {"ready_s": [0.5, 0.5]},
    "equal times at one AP": {"ready_s": [0.5, 0.5], "ap_of": [0, 0]},
    "hardly any energy": {"energy_j": [1e-9, 1e-9]},
    "hardly any energy at one AP": {"energy_j": [1e-9, 3]},
    "some energy at one AP": {"energy_j": [1e-6, 3]},
    "hardly any energy and nothing to serve": {"cycles": [0, GHZ], "energy_j": [1e-12, 3]},
    "so much energy that nothing binds": {"energy_j": [1e9, 1e9]},
    "microseconds": {
        "ready_s": [5e-7, 3e-7],
        "cycles": [500, 1000],
        "energy_j": [2e-6, 3e-6],
        "cycles_per_block": [8e3, 6e3],
    },
    "days": {
        "ready_s": [5e5, 3e5],
        "cycles": [5e14, 1e15],
        "energy_j": [2e6, 3e6],
        "cycles_per_block": [8e15, 6e15],
    },
    "a single cycle of work": {"cycles": [1, 0.1 * GHZ]},
    "work too small to show beside the time": {"cycles": [1e-9, 0.1 * GHZ]},
    "the little work takes the little energy": {"cycles": [1e-3, 0.1 * GHZ], "energy_j": [1e-30, 3]},
    "blocks for nothing": {"cycles_per_block": [8, 6]},
    "blocks that take for ever": {"cycles_per_block": [8e18, 6e18]},
    "one AP alone can mine": {"cycles_per_block": [8e18, 6]},
    "a slow and a fast AP": {"max_hz": [4e6, 4e11]},
    "a far quantile": {"blocks": -math.log(1e-9)},
    "a near quantile": {"blocks": -math.log1p(-1e-6)},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_slots_against_a_scan_in_extended_precision(case: str) -> None:
    serving = a_serving(**(TWO | DEGENERATE[case]))
    assert best_frequencies(serving).latency_s == pytest.approx(float(dense_scan(serving)), rel=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_wide_scales_against_a_scan_in_extended_precision(seed: int) -> None:
    """Energies over 12 orders of magnitude and difficulties over 6, AP by AP; work over 9, gateway by gateway."""
    chance = np.random.default_rng(seed)
    ap_of = SHAPES[int(chance.integers(len(SHAPES)))]
    aps = max(ap_of) + 1
    plain = random_serving(chance, ap_of)
    serving = a_serving(
        **{name: getattr(plain, name) for name in ("ready_s", "ap_of", "max_hz", "kappa", "blocks")},
        cycles=plain.cycles * 10 ** np.minimum(chance.uniform(-9, 9, len(ap_of)), 0),
        energy_j=plain.energy_j * 10 ** chance.uniform(-10, 2, aps),
        cycles_per_block=plain.cycles_per_block * 10 ** chance.uniform(-3, 3, aps),
    )
    assert best_frequencies(serving).latency_s == pytest.approx(float(dense_scan(serving)), rel=1e-11)


@pytest.mark.parametrize("ap_of", SHAPES)
def test_many_candidates_at_once(ap_of: tuple[int, ...]) -> None:
    """Each is what the scan finds for it alone."""
    chance = np.random.default_rng(5)
    first, *others = (random_serving(chance, ap_of) for _ in range(12))
    ready_s, cycles, per_block = (
        np.array([getattr(serving, name) for serving in (first, *others)])
        for name in ("ready_s", "cycles", "cycles_per_block")
    )
    barriers_s, rates = kernels.best_barriers(
        ready_s, cycles, first.ap_of, first.max_hz, first.kappa, first.energy_j, per_block, 2.0
    )
    for candidate, latency_s in enumerate(barriers_s + 2 / rates):
        serving = Serving(
            ready_s[candidate], cycles[candidate], first.ap_of, first.max_hz, first.kappa, first.energy_j,
            per_block[candidate], 2.0,
        )  # fmt: skip
        assert latency_s == pytest.approx(float(dense_scan(serving)), rel=1e-12)


def rate_at(serving: Serving, barrier_s: float) -> tuple[float, float, float]:
    return kernels.rate_at(
        barrier_s, serving.ready_s, serving.cycles, serving.ap_of, serving.max_hz, serving.kappa, serving.energy_j,
        serving.cycles_per_block, np.empty((5, len(serving.max_hz))),
    )  # fmt: skip


def least_barrier(serving: Serving) -> float:
    return kernels.least_barrier(
        serving.ready_s, serving.cycles, serving.ap_of, serving.max_hz, serving.kappa, serving.energy_j
    )


SPEEDS = st.floats(1e-6, 1e6)


@given(st.lists(st.tuples(SPEEDS, st.just(0.0) | st.floats(1e-9, 1e6)), min_size=1, max_size=5))
def test_the_rate_is_the_largest_fixed_point(pairs: list[tuple[float, float]]) -> None:
    """Of MODEL.md 2a's iteration Lambda <- sum_j min(full_j, scarce_j Lambda^(1/3)), from full speed down."""
    full, scarce = (np.array(column) for column in zip(*pairs, strict=True))
    rate = float(full.sum())
    for _ in range(200):
        rate = float(np.minimum(full, scarce * np.cbrt(rate)).sum())
    assert kernels.root_of_rate(full, scarce) ** 3 == pytest.approx(rate, rel=1e-12, abs=1e-300)


@given(st.integers(0, 10**6), st.floats(1e-4, 2.0))
def test_the_derivatives_of_the_rate_against_differences(seed: int, beyond_s: float) -> None:
    """At a barrier where an AP reaches f^max only the slope has an answer: between those of both sides."""
    serving = some_serving(seed)
    barrier_s = least_barrier(serving) + beyond_s
    step = 1e-6 * beyond_s
    (before, slope_before, bend_before), (_, slope, bend), (after, slope_after, bend_after) = (
        rate_at(serving, barrier_s + offset) for offset in (-step, 0, step)
    )
    low, high = sorted((slope_before, slope_after))
    assert (after - before) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=1e-6) or low <= slope <= high
    if bend_before == pytest.approx(bend_after, rel=1e-3):
        assert (slope_after - slope_before) / (2 * step) == pytest.approx(bend, rel=1e-3, abs=1e-6)


@given(st.integers(0, 10**6))
def test_the_least_barrier_is_the_edge_of_what_can_be(seed: int) -> None:
    """Just beyond it C2 and the energies hold, just before something does not."""
    serving = some_serving(seed)
    barrier_s = least_barrier(serving)

    def possible(at_s: float) -> bool:
        works = serving.cycles > 0
        slack_s = at_s - serving.ready_s
        if (slack_s < 0).any() or (slack_s[works] <= 0).any():
            return False
        for ap, max_hz in enumerate(serving.max_hz):
            mine = works & (serving.ap_of == ap)
            hz = serving.cycles[mine] / slack_s[mine]
            if hz.sum() > max_hz or KAPPA * (serving.cycles[mine] * hz**2).sum() > serving.energy_j[ap]:
                return False
        return True

    assert possible(barrier_s * (1 + 1e-9))
    assert not possible(barrier_s * (1 - 1e-9))


def test_no_energy_left_is_no_rate() -> None:
    """1 Gcycle within a second takes 0.1 J, which is all: nothing is mined, and any more time is worth a lot."""
    serving = a_serving(energy_j=[0.1])
    assert least_barrier(serving) == pytest.approx(1.5)
    rate, slope, _ = rate_at(serving, 1.5 - 1e-9)
    assert rate == 0
    assert slope == math.inf


def test_what_was_compiled_before_a_change_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(kernels.__file__).parent
    for name in kernels.COMPILED_FILES:
        shutil.copy(folder / name, tmp_path)
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / "hulls.py", (2000, 2000))
    old, new = tmp_path / "__pycache__/searching.old.nbi", tmp_path / "__pycache__/searching.new.nbi"
    old.parent.mkdir()
    for index, time_s in ((old, 1500), (new, 2500)):
        index.touch()
        os.utime(index, (time_s, time_s))
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "kernels.py"))
    kernels._forget_stale()
    assert not old.exists()
    assert new.exists()


def test_the_files_with_compiled_functions_are_known() -> None:
    folder = Path(kernels.__file__).parent
    found = sorted(path.name for path in folder.glob("*.py") if "\n@compiled\n" in path.read_text())
    assert tuple(found) == kernels.COMPILED_FILES
