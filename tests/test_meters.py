"""Energy of a slot: by meters that count what the test says, and by the analytic model worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splitnet.controller.energy_model import modelled_energy
from splitnet.controller.frequency import Frequencies
from splitnet.controller.online import solve_online
from splitnet.controller.reputation import Reputation
from splitnet.controller.slot import Network, Observation, SlotPlan, SlotProblem, TwinTable
from splitnet.profiling.energy import Meter
from splitnet.runtime.meters import SpanMeters
from tests.slots import a_network, an_observation


class Counting(Meter):
    """A meter that is told its readings; None: it cannot be read."""

    name = "counting"
    resolution_j = update_interval_s = None

    def __init__(self, *readings_j: float | None) -> None:
        self._readings_j = list(readings_j)

    def read_j(self) -> float:
        reading_j = self._readings_j.pop(0)
        if reading_j is None:
            raise OSError("gone")
        return reading_j


def test_joules_of_a_span_by_device() -> None:
    meters = SpanMeters({"cpu": Counting(10.0, 12.5, 13.0, 17.0), "cuda:0": None})
    assert meters.names == {"cpu": "counting", "cuda:0": None}
    meters.start()
    assert meters.used_j() == {"cpu": 2.5, "cuda:0": None}
    meters.start()
    assert meters.used_j() == {"cpu": 4.0, "cuda:0": None}


def test_what_is_no_reading_is_no_number() -> None:
    for readings_j in ((10.0, 10.0), (10.0, None), (None, 12.0)):
        meters = SpanMeters({"cpu": Counting(*readings_j)})
        meters.start()
        assert meters.used_j() == {"cpu": None}, readings_j
    gone = SpanMeters({"cpu": Counting(1.0, 3.0, None, 9.0)})
    gone.start()
    assert gone.used_j() == {"cpu": 2.0}
    gone.start()
    assert gone.used_j() == {"cpu": None}  # not 9 - 1


def test_a_machine_without_meters(tmp_path: Path) -> None:
    meters = SpanMeters.find([torch.device("cpu")], tmp_path)
    meters.start()
    assert (meters.names, meters.used_j()) == ({"cpu": None}, {"cpu": None})


# --- the analytic model


def by_hand() -> tuple[SlotProblem, SlotPlan]:
    """Two DTs on two gateways of one AP; each has two cuts."""

    def table(scale: float) -> TwinTable:
        return TwinTable(
            cuts=(1, 2),
            gateway_s=np.array([0.01, 0.02]) * scale,
            gateway_j=np.array([0.03, 0.06]) * scale,
            payload_bits=np.array([1e6, 0.0]) * scale,
            ap_cycles=np.array([2e8, 0.0]) * scale,
            top_flops=np.array([1e9, 0.0]) * scale,
        )

    network = Network(
        tables=(table(1), table(2)),
        gateway_of=np.array([0, 1]),
        ap_of=np.array([0, 0]),
        send_w=np.array([0.5, 0.2]),
        max_hz=np.array([4e9]),
        kappa=np.array([1e-28]),
        cycles_per_block=8e9,
        alpha=2.0,
        beta=0.0,
        reputation=Reputation(1e10),
    )
    seen = Observation(
        points=np.array([5.0, 10.0]),
        rate_bps=np.array([1e7, 1e7]),
        gateway_energy_j=np.array([10.0, 10.0]),
        ap_energy_j=np.array([50.0]),
    )
    problem = SlotProblem(network, seen, np.zeros(1), 16.0)
    plan = SlotPlan(
        options=(0, 0),
        frequencies=Frequencies(
            barrier_s=3.0,
            block_s=9.0,  # a quantile, which is not what mining takes on average
            serving_hz=np.array([1e9, 2e9]),
            mining_hz=np.array([3e9]),
            block_rate=0.5,
        ),
        reputation=np.zeros(1),
        latency_s=12.0,
        objective=0.0,
        excess_j=np.zeros(2),
    )
    return problem, plan


def test_rows_2_and_13_by_hand() -> None:
    problem, plan = by_hand()
    energy = modelled_energy(problem, plan)
    # g0: 5 (0.03 + 0.5 W x 1e6/1e7 s); g1: 10 (0.06 + 0.2 x 2e6/1e7)
    assert energy.gateway_j == pytest.approx([0.4, 1.0])
    # kappa (5 x 2e8 x (1e9)^2 + 10 x 4e8 x (2e9)^2) = 1e-28 (1e27 + 1.6e28)
    assert energy.inference_j == pytest.approx([1.7])
    assert energy.mining_j == pytest.approx([1e-28 * 27e27 / 0.5])
    assert energy.ap_j == pytest.approx([1.7 + 5.4])
    assert modelled_energy(problem, plan, mining_s=0.25).mining_j == pytest.approx([0.675])
    assert modelled_energy(problem, plan, mining_s=0.0).ap_j == pytest.approx([1.7])


def test_the_solvers_plans_keep_to_c4_and_c5_by_this_model() -> None:
    binding = 0
    for seed in range(10):
        network = a_network(seed)
        seen = an_observation(network, np.random.default_rng(seed))
        problem = SlotProblem(network, seen, np.zeros(2), 16.0)
        energy = modelled_energy(problem, solve_online(problem).plan)
        assert (energy.gateway_j <= seen.gateway_energy_j * (1 + 1e-9)).all()
        assert (energy.ap_j <= seen.ap_energy_j * (1 + 1e-6)).all()
        binding += int((energy.ap_j > seen.ap_energy_j * (1 - 1e-6)).sum())
    assert binding > 0  # else it would say little


def test_what_does_not_fit_is_refused() -> None:
    problem, plan = by_hand()
    for mining_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mining_s must be at least 0 and finite"):
            modelled_energy(problem, plan, mining_s)
    other = SlotProblem(a_network(0), an_observation(a_network(0), np.random.default_rng(0)), np.zeros(2), 1.0)
    with pytest.raises(ValueError, match="a plan for 2 DTs does not fit a slot of 4"):
        modelled_energy(other, plan)
