"""A run's figures from made-up slots, worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitnet.chains import Agreement, Outcome
from splitnet.consensus.errors import StoreError
from splitnet.consensus.verifying import Verified
from splitnet.errors import SettingsError
from splitnet.running.components import Metered
from splitnet.running.result import RunResult, Topology, run_result
from splitnet.slot_record import Reading, SlotEnergy, SlotRecord, Twin
from tests.slot_records import AP_OF, GATEWAY_OF, manifest, record, times

CONTRACT = [
    "slots",
    "mean_latency_s",
    "predicted_latency_s",
    "mape",
    "noise_floor",
    "components",
    "mean_reputation",
    "c6_violation",
    "hashes_per_block",
    "chain_height",
    "equal_results",
    "run_dir",
]
SLOTS = [
    record(0),
    record(
        1,
        measured=times([0.25, 0.25], [0.25, 0.25], [0.5, 0.0], 0.25),
        twins=[Twin(5, 3, 0.2), Twin(0, 4, None)],
        reputation=[1.0, 0.125],
        queue=[0.5, 0.25],
        infeasible="gateway 1 cannot afford any cut",
        dropped=[("10.0.0.1:5", "it lied")],
    ),
]


def verified(height: int, slot: int) -> Verified:
    hashes = tuple(bytes([place]) * 32 for place in range(height + 1))
    return Verified(hashes[0], hashes, slot, height, 4, 0, 0, 0, 4, {"ap-0": height})


def result(slots: list[SlotRecord] = SLOTS, **changes: Any) -> RunResult:
    given: dict[str, Any] = {
        "lost": 0,
        "chains": [Outcome("ap-0", verified(2, 1), None), Outcome("ap-1", verified(3, 2), None)],
        "agreement": Agreement(1, 2, 3, False),
    }
    given |= changes
    return run_result(manifest(), Topology(GATEWAY_OF, AP_OF), slots, run_dir=Path("runs/one"), **given)


def test_the_figures_of_two_slots() -> None:
    found = result()
    assert (found.slots, found.asked_slots, found.complete) == (2, 4, False)
    assert found.mean_latency_s == (1.75 + 1.25) / 2
    assert found.predicted_latency_s == 1.25
    assert found.mape == pytest.approx((0.25 / 1.25 + 0) / 2)
    assert found.ci95 == pytest.approx(math.tan(0.475 * math.pi) * 0.25)  # of 1.75 and 1.25
    assert found.mean_reputation == [0.75, 0.125]
    assert found.c6_violation == pytest.approx(0.75 - 0.3)  # more than 0.15 - 0.125
    assert found.mean_queue == 0.75
    assert found.hashes_per_block == 1500
    assert found.predicted_hashes_per_block == 0.25 * 4000
    assert (found.results, found.equal, found.chain_height) == (4, 4, 3)
    assert found.mean_age_s == pytest.approx((0.1 + 0.3 + 0.2) / 3)
    assert (found.max_age_s, found.mean_slot_s, found.mean_exchange_s) == (0.3, 2.0, 0.0625)
    assert (found.infeasible_slots, found.dropped) == (1, [("10.0.0.1:5", "it lied")])
    assert found.verified


def test_energy_is_modelled_and_metered_each_for_itself() -> None:
    still = SlotEnergy([1.5, 0.25], [0.5, 0.5], [1.0, 3.0], [Reading("cpu", "RAPL package", None)])
    found = result([record(0), record(1), record(2, energy=still)]).energy
    assert found.modelled_gateway_j == pytest.approx([2.5 / 3, 0.25])
    assert found.modelled_inference_j == pytest.approx([3.5 / 3, 5.5 / 3])
    assert found.modelled_mining_j == pytest.approx([7 / 3, 5 / 3])
    assert found.metered == [Metered("cpu", "RAPL package", 2, 40.5)]  # a meter that stood still is no 0 J
    none = msgspec.structs.replace(still, metered=[Reading("cpu", None, None)])
    assert result([record(0, energy=none)]).energy.metered == [Metered("cpu", None, 0, None)]


def test_lost_slots_count_as_played() -> None:
    assert result(lost=2).complete
    assert not result(lost=1).complete


def test_json_begins_with_the_names_of_the_contract() -> None:
    told = json.loads(json.dumps(result().to_dict(), allow_nan=False))
    assert list(told)[: len(CONTRACT)] == CONTRACT
    assert told["components"].keys() == {"gateway", "link", "ap", "barrier", "block"}
    assert (told["equal_results"], told["run_dir"], told["noise_floor"]) == (True, "runs/one", None)


def test_results_that_differ_are_told_with_how_far() -> None:
    found = result([record(0, equal=1, max_error=math.inf)])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (told["equal_results"], told["results"]) == (False, {"count": 2, "equal": 1, "max_error": "inf"})


@pytest.mark.parametrize(
    ("chains", "agreed"),
    [
        ([], None),
        ([Outcome("ap-0", None, StoreError("damaged"))], None),
        (
            [Outcome("ap-0", verified(2, 1), None), Outcome("ap-1", None, StoreError("damaged"))],
            Agreement(1, 2, 2, False),
        ),
        ([Outcome("ap-0", verified(2, 1), None)] * 2, Agreement(1, 1, 2, True)),
        ([Outcome("ap-0", verified(2, 1), None)] * 2, Agreement(2, None, 2, False)),
    ],
    ids=["none", "damaged", "one damaged", "parted", "of two networks"],
)
def test_only_clean_chains_that_agree_are_verified(chains: list[Outcome], agreed: Agreement | None) -> None:
    found = result(chains=chains, agreement=agreed)
    assert not found.verified
    assert found.chain_height == 2


def test_a_run_without_a_slot_has_no_figures() -> None:
    with pytest.raises(
        SettingsError, match=r"^runs/one is a run of which no slot was played; go on with it by --resume"
    ):
        result([])
