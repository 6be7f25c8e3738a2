"""Figures from planted traces: means, intervals and curves by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splitnet.simulating.folder import TRACES, save
from splitnet.simulating.jobs import Job, Jobs
from splitnet.simulating.result import read_outcomes, relative
from tests.simulations import a_trace, asked, tiny


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
