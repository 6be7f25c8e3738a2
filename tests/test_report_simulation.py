"""Table and figures of simulations whose every figure is known."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from rich.console import Console

from splitnet.controller.policies import POLICIES
from splitnet.controller.simulation import Summary
from splitnet.errors import SettingsError
from splitnet.report.simulation import infeasible_lines, simulation_table
from splitnet.report.simulation_figures import (
    STYLES,
    draw_latency_devices,
    draw_latency_slots,
    draw_latency_v,
    draw_policies,
    draw_queue_v,
    draw_reputation,
    draw_simulation,
)
from splitnet.simulating.jobs import Jobs, SimulateSettings
from splitnet.simulating.result import Interval, Outcome, Simulation

FACTORS = {"dpra": 1.0, "wdpo": 1.6, "wtcm-fair": 0.9}
"""Latency of each policy in units of dpra's, which is 1 + 1/V seconds, times DTs / 12."""


def outcome(policy: str, v: float, devices: int, any_v: bool = False, **changes: Any) -> Outcome:
    latency_s = FACTORS.get(policy, 2.0) * (1 + 1 / v) * devices / 12
    slots = np.arange(1.0, 101.0)
    found = Outcome(
        policy=policy,
        v=v,
        devices=devices,
        any_v=any_v,
        summary=Summary(latency_s, 0.05, (0.2, 0.31, 0.25), 0.01, 0.5 * v, 0.6, 3.4e6, 0),
        barrier_s=0.75 * latency_s,
        block_s=0.25 * latency_s,
        reputation=(Interval(0.2, 0.01), Interval(0.31, 0.02), Interval(0.25, None)),
        relative=Interval(FACTORS.get(policy, 2.0) - 1, 0.01),
        decision_s=0.0023,
        decision_p95_s=0.004,
        fair_gamma=0.42 if policy == "wtcm-fair" else None,
        infeasible=None,
        curve_slots=slots,
        curve_s=np.stack([latency_s + 1 / slots, latency_s + 2 / slots]),
    )
    return replace(found, **changes)


def simulation(
    policies: tuple[str, ...] = ("dpra", "wdpo", "wtcm-fair"),
    v: tuple[float, ...] = (16.0,),
    devices: tuple[int, ...] = (),
    **changes: Any,
) -> Simulation:
    jobs = Jobs(SimulateSettings(policies, 100, v, 2, devices), v[-1], 12, without_v=frozenset({"wdpo"}))
    outcomes = tuple(outcome(name, *point, any_v=name == "wdpo") for point in jobs.points for name in policies)
    found = Simulation("default", jobs, 0.15, 0.3, 0.0, outcomes, Path("runs/x"))
    return replace(found, **changes)


# --- the table


def printed(found: Simulation, width: int = 110) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(simulation_table(found))
    return out.getvalue().splitlines()


def rows(found: Simulation) -> list[list[str]]:
    """The cells of each row that begins with a policy."""
    return [line.split() for line in printed(found) if line.split() and line.split()[0] in POLICIES]


def test_table_shows_each_policy() -> None:
    shared = "0.20 0.31 0.25 0.010 8 3.40M 0.600 0 2.30"
    assert [" ".join(row) for row in rows(simulation())] == [
        f"dpra 16 1.062 0.050 0.797 0.266 {shared}",
        f"wdpo any 1.700 0.050 +60.0% 1.275 0.425 {shared}",
        f"wtcm-fair 16 0.956 0.050 -10.0% 0.717 0.239 {shared}",
    ]
    lines = printed(simulation())
    assert lines[0].strip() == "default: 12 DTs, 100 slots, 2 seeds"
    assert "latency = barrier + block; ±95%: half the confidence interval over seeds" in [
        line.strip() for line in lines
    ]
    assert any(
        line.startswith("fair WTCM at V 16: gamma_0 = 0.42, with which a block takes as many") for line in lines
    )


def test_nothing_is_cut_off_in_a_file() -> None:
    found = simulation(tuple(POLICIES), v=(0.5, 256.0), devices=(1000,))
    wide, narrow = printed(found, 300), printed(found)
    assert [line.strip() for line in narrow] == [line.strip() for line in wide]
    assert not [line for line in narrow if "…" in line]


def test_a_policy_to_which_v_is_nothing_has_one_row_for_each_number_of_devices() -> None:
    found = rows(simulation(v=(1.0, 4.0), devices=(24,)))
    assert [(row[0], row[1], row[2]) for row in found] == [
        ("dpra", "1", "12"),
        ("wtcm-fair", "1", "12"),
        ("dpra", "4", "12"),
        ("wdpo", "any", "12"),
        ("wtcm-fair", "4", "12"),
        ("dpra", "4", "24"),
        ("wdpo", "any", "24"),
        ("wtcm-fair", "4", "24"),
    ]


def test_many_aps_are_shown_as_the_least_and_the_most() -> None:
    many = replace(outcome("dpra", 16, 12).summary, mean_reputation=tuple(0.1 + 0.01 * ap for ap in range(10)))
    found = simulation(("dpra",))
    found = replace(found, outcomes=(replace(found.outcomes[0], summary=many),))
    assert "0.10..0.19" in rows(found)[0]


def test_what_is_not_known_is_a_dash() -> None:
    found = simulation(("wdpo",))
    alone = replace(found.outcomes[0].summary, ci95=None)
    found = replace(found, outcomes=(replace(found.outcomes[0], summary=alone, relative=None),))
    assert rows(found)[0][2:5] == ["1.700", "-", "-"]


def test_slots_without_a_plan_are_explained_with_the_fallback() -> None:
    assert infeasible_lines(simulation()) == []
    found = simulation()
    hit = replace(
        found.outcomes[1],
        summary=replace(found.outcomes[1].summary, infeasible_slots=7),
        infeasible="slot 3 of seed 0: gateway 3 cannot afford any cut",
    )
    assert infeasible_lines(replace(found, outcomes=(found.outcomes[0], hit, found.outcomes[2]))) == [
        "wdpo: no feasible plan in 7 of 200 slots; first in slot 3 of seed 0: gateway 3 cannot afford any cut. "
        "Fallback: the least violation of C4"
    ]


def test_propagation_is_part_of_the_latency() -> None:
    lines = printed(simulation(propagation_s=0.05))
    assert any(line.startswith("latency = barrier + block + 0.05 s to propagate;") for line in lines)


# --- figures


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (simulation(), ["policies", "latency-slots", "reputation"]),
        (simulation(v=(1.0, 16.0)), ["policies", "latency-slots", "reputation", "latency-v", "queue-v"]),
        (simulation(("wdpo",), v=(1.0, 16.0)), ["policies", "latency-slots", "reputation", "latency-v"]),
        (simulation(devices=(4, 24)), ["policies", "latency-slots", "reputation", "latency-devices"]),
        (simulation(devices=(12,)), ["policies", "latency-slots", "reputation"]),
    ],
    ids=["one V", "V", "no queue", "devices", "own devices"],
)
def test_figures_are_those_that_the_run_has_data_for(tmp_path: Path, found: Simulation, names: list[str]) -> None:
    assert draw_simulation(found, tmp_path) == names
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "svg")}
    for name in names:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 300
        assert (tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="choose another folder with -o DIR"):
        draw_simulation(simulation(), tmp_path / "gone")


def test_every_policy_has_a_style_of_its_own() -> None:
    assert STYLES.keys() == POLICIES.keys()
    assert len(set(STYLES.values())) == len(STYLES)


def lines_of(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """What is drawn under each name of the legend: x and y."""
    (axes,) = figure.axes
    handles, names = axes.get_legend_handles_labels()
    found = {}
    for handle, name in zip(handles, names, strict=True):
        line: Any = handle[0] if isinstance(handle, tuple) else handle
        found[name] = (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_latency_against_v_is_what_was_planted() -> None:
    figure = draw_latency_v(simulation(v=(4.0, 1.0, 16.0)))
    assert lines_of(figure)["dpra"] == ([1, 4, 16], [2.0, 1.25, 1.0625])
    assert lines_of(figure)["wdpo"][0] == [1, 4, 16]
    assert legend(figure) == ["dpra", "wdpo", "wtcm-fair"]
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "16"]
    assert (axes.get_xscale(), axes.get_ylabel()) == ("log", "mean latency of a slot (s)")


def test_queue_against_v_shows_those_that_heed_it() -> None:
    figure = draw_queue_v(simulation(v=(1.0, 4.0)))
    assert lines_of(figure) == {"dpra": ([1, 4], [0.5, 2.0])}
    assert figure.axes[0].get_yscale() == "log"


def test_a_queue_of_zero_is_not_lost_on_a_logarithmic_axis() -> None:
    found = simulation(("dpra",), v=(1.0, 4.0))
    empty = replace(found.outcomes[0], summary=replace(found.outcomes[0].summary, mean_queue=0.0))
    figure = draw_queue_v(replace(found, outcomes=(empty, found.outcomes[1])))
    assert lines_of(figure)["dpra"][1] == [0.0, 2.0]
    assert figure.axes[0].get_yscale() == "linear"


def test_latency_against_devices_starts_at_zero() -> None:
    figure = draw_latency_devices(simulation(devices=(24, 6)))
    assert lines_of(figure)["dpra"] == ([6, 12, 24], [0.53125, 1.0625, 2.125])
    assert figure.axes[0].get_ylim()[0] == 0


def test_latency_against_slots_is_the_mean_over_seeds_and_fits_its_axis() -> None:
    figure = draw_latency_slots(simulation())
    slots, means = lines_of(figure)["dpra"]
    assert means == pytest.approx([1.0625 + 1.5 / slot for slot in slots])
    low, high = figure.axes[0].get_ylim()
    assert low < 0.9 * 1.0625
    assert high < 1.0625 * 1.6 + 5  # the first slots, far above, do not stretch it


def test_reputation_has_the_lines_of_c6_and_every_ap() -> None:
    figure = draw_reputation(simulation())
    (axes,) = figure.axes
    drawn = [np.asarray(line.get_ydata(), dtype=float).tolist() for line in axes.lines]
    assert [0.15, 0.15] in drawn
    assert [0.3, 0.3] in drawn
    assert drawn.count([0.2, 0.31, 0.25]) == 3
    assert any(isinstance(part, LineCollection) for part in axes.collections)  # the intervals
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["dpra", "wdpo", "wtcm-fair"]


def test_bars_add_up_to_the_latency() -> None:
    figure = draw_policies(simulation(propagation_s=0.05))
    latency = figure.axes[0]
    ends: dict[float, float] = {}
    for bar in latency.patches:
        assert isinstance(bar, Rectangle)
        place = round(bar.get_y() + bar.get_height() / 2)
        ends[place] = max(ends.get(place, 0.0), bar.get_x() + bar.get_width())
    assert [ends[place] for place in (2, 1, 0)] == pytest.approx([1.1125, 1.75, 1.00625])
    texts = [text.get_text() for text in latency.texts]
    assert texts == ["1.062", "1.700 (+60.0%)", "0.956 (-10.0%)"]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "mean latency of a slot (s)",
        "C6 broken by (U)",
        "hashes per block",
    ]
