"""A run for people: its tables in words, what is live, and its figures, from slots worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console, RenderableType

from splitnet.report.run import FEW_WORKERS, live_view, run_lines, worst
from splitnet.report.run_figures import draw_run
from splitnet.running.components import Achieved, Metered
from splitnet.running.result import RunResult
from splitnet.slot_record import SlotRecord
from tests.slot_records import record
from tests.test_running_result import SLOTS, result


def words(*what: RenderableType) -> str:
    """As in a file, blanks made one."""
    console = Console(width=110, highlight=False)
    with console.capture() as captured:
        for one in what:
            console.print(one, markup=False)
    return " ".join(captured.get().split())


def told(found: RunResult) -> str:
    return words(*run_lines(found))


def test_every_component_stands_predicted_beside_measured() -> None:
    said = told(result([record(0)]))
    for row in (
        "gateway: bottoms 375 438 1.167",  # (0.5 + 0.25)/2 and (0.625 + 0.25)/2
        "link: upload 250 250 1.000 ±0.000 0.0% 2 gateway-slots",
        "barrier: slowest gateway 1000 1250 1.250 20.0% 1 slots",
        "block 250 500 2.000 - 1 slots",
        "latency 1250 1750 1.400 1 slots",
        "inference part: MAPE 20.0%; no half was repeated often enough for a noise floor",
        "results: 2 of 2 have the unsplit model's bits",
        "mean reputation U 0.500 0.125; C6 asks for 0.15..0.3: broken by 0.200",
        "hashes per block 1.50 k, predicted 1.00 k",
        "modelled energy of a slot, J: gateways 0.5 0.25; APs 1.5 2.5 for inference, 3 1 for mining",
        "metered energy of a slot: 40 J by RAPL package of cpu, all that the host did (1 slots)",
        "link of gateway 0 1.000 1 0.25",
        "mining of AP 0 1.000 1 0.50",
        "ap-0: clean to height 2",
        "same chain up to height 2; the longest goes on to height 3",
        "broken off: 3 of 4 slots are left",
    ):
        assert row in said


def test_what_went_wrong_is_said() -> None:
    found = replace(result(lost=1), equal=3, max_error=0.5, noise_floor=0.031, gamma=0.7)
    said = told(found)
    for part in (
        "no feasible plan in 1 of 2 slots",
        "1 slots were lost",
        "broken off: 1 of 4 slots are left",
        "3 of 4 have the unsplit model's bits; largest difference 0.5",
        "dropped 10.0.0.1:5: it lied",
        "noise floor 3.1%",
        "consensus without reputation: gamma_0 = 0.7",
    ):
        assert part in said


def test_no_meter_and_one_that_stands_still_are_told() -> None:
    energy = result().energy
    assert "cpu of this host has no meter" in told(
        replace(result(), energy=replace(energy, metered=[Metered("cpu", None, 0, None)]))
    )
    assert "RAPL of cpu did not move in any slot" in told(
        replace(result(), energy=replace(energy, metered=[Metered("cpu", "RAPL", 0, None)]))
    )


def test_of_many_workers_the_worst_are_shown() -> None:
    few = [Achieved(f"gateway {number}", 1 + number / 100, 1, 0, 1.0) for number in range(FEW_WORKERS)]
    assert worst(few) == few
    many = [*few, Achieved("slow", 0.5, 1, 0, 1.0), Achieved("unknown", None, 0, 1, 0.0)]
    assert [one.name for one in worst(many)][:2] == ["slow", "gateway 11"]
    assert len(worst(many)) == FEW_WORKERS
    said = told(replace(result(), speeds=many))
    assert "slow 0.500" in said
    assert "the 2 others lie nearer to 1" in said


def test_what_is_live_says_slot_phase_plan_reputation_and_head() -> None:
    assert words(live_view("toys, dpra", "calibrate", 4, (0.15, 0.3), [], 2)) == "toys, dpra: slot 2 of 4, calibrate"
    said = words(live_view("toys, dpra", "mine", 4, (0.15, 0.3), SLOTS, 0))
    for part in (
        "toys, dpra: slot 2 of 4, mine",
        "plan l=3,4 rho=0.50,0.50 bloc=1.00,1.00",
        "U 1.000 0.125; mean 0.750 0.125, C6 0.15..0.3",
        "chain height 2, head abababababab by AP 0",
        "0 500 / 625 250 / 250 250 / 375 1000 / 1250 250 / 500 AP 0",
    ):
        assert part in said


@pytest.mark.parametrize("slots", [SLOTS, SLOTS[:1], [record(0, uploads=[None, None], tops=[None, None])]])
def test_every_figure_is_there_twice(tmp_path: Path, slots: list[SlotRecord]) -> None:
    drawn = draw_run(result(slots), slots, tmp_path)
    assert drawn == ["predicted", "latency", "reputation", "queues", "achieved"]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in drawn for kind in ("png", "svg")
    }
    for name in drawn:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors() or []) > 10  # not blank
