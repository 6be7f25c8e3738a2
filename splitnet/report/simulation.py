"""A simulation for people, in the terminal: a row for each policy at each V and number of DTs.

Decides how figures are rounded and named. Computes no statistics of its own: they come from
`splitnet.simulating.result`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import rich.box
from rich.table import Table

from splitnet.report.drawing import human_count
from splitnet.simulating.result import REFERENCE, Interval, Outcome, Simulation

FEW_APS = 3
"""Up to this many, each AP's mean reputation stands in the table; above, the least and the most."""


FALLBACK = "Fallback: the least violation of C4"


def simulation_table(found: Simulation) -> Table:
    """A row for each policy at each V, then for each number of DTs; fits into 110 columns."""
    shown = found.outcomes
    sweep = len({outcome.devices for outcome in shown}) > 1
    table = Table(
        title=headline(found),
        title_style="bold",
        caption=_caption(found),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    heads = ["policy", "V", *(["DTs"] if sweep else []), "latency\ns", "±95%", "vs\ndpra", "barrier\ns", "block\ns"]
    heads += [
        "mean U\nper AP",
        "C6\nbroken",
        "mean\nqueue",
        "hashes\nper\nblock",
        "gamma",
        "no\nplan",
        "ms\nper\nplan",
    ]
    for head in heads:
        table.add_column(head, justify="left" if head == "policy" else "right", no_wrap=True, vertical="bottom")
    places = decimals([outcome.summary.mean_latency_s for outcome in shown])
    for v, devices in found.jobs.points:
        rows = [one for one in found.at(v, devices) if v == found.jobs.v or not one.any_v]
        for outcome in rows:
            table.add_row(*_cells(outcome, places, sweep), style="bold" if outcome.policy == REFERENCE else None)
        if rows:
            table.add_section()
    return table


def _cells(outcome: Outcome, places: int, sweep: bool) -> list[str]:
    found = outcome.summary
    return [
        outcome.policy,
        "any" if outcome.any_v else f"{outcome.v:g}",
        *([str(outcome.devices)] if sweep else []),
        f"{found.mean_latency_s:.{places}f}",
        "-" if found.ci95 is None else f"{found.ci95:.{places}f}",
        "" if outcome.policy == REFERENCE else relative_text(outcome.relative),
        f"{outcome.barrier_s:.{places}f}",
        f"{outcome.block_s:.{places}f}",
        _reputations(found.mean_reputation),
        short(found.c6_violation),
        short(found.mean_queue),
        human_count(found.hashes_per_block).replace(" ", ""),
        short(found.mean_difficulty),
        str(found.infeasible_slots),
        f"{1e3 * outcome.decision_s:.{2 if outcome.decision_s < 0.01 else 0}f}",
    ]


def headline(found: Simulation, *, devices: bool = True) -> str:
    """What was simulated, in one line; without the number of DTs where that is what varies."""
    settings = found.jobs.settings
    counts = f"{found.jobs.devices} DTs, " if devices else ""
    return (
        f"{found.scenario}: {counts}{settings.slots} slots, {settings.seeds} seed{'s' if settings.seeds > 1 else ''}"
    )


def relative_text(relative: Interval | None) -> str:
    """The latency's distance to the reference's, in percent."""
    return "-" if relative is None else f"{100 * relative.mean:+.1f}%"


def _caption(found: Simulation) -> str:
    over = "batches of slots" if found.jobs.settings.seeds == 1 else "seeds"
    lines = [
        f"latency = barrier + block{f' + {found.propagation_s:g} s to propagate' if found.propagation_s else ''}; "
        f"±95%: half the confidence interval over {over}",
        f"C6 asks for mean U in {found.u_min:g}..{found.u_max:g}; broken: by how much at the worst AP (mean of runs)",
        "queue: sum of Z over the APs; of a policy that drops C6 it only tells how far that is broken",
    ]
    if any(outcome.any_v for outcome in found.outcomes) and len(found.jobs.settings.v) > 1:
        lines.append("any: V is nothing to the policy, its run stands at every V")
    gammas = {(one.v, one.devices, one.fair_gamma) for one in found.outcomes if one.fair_gamma is not None}
    for v, devices, gamma in sorted(gammas):
        where = f"V {v:g}" + (f", {devices} DTs" if devices != found.jobs.devices else "")
        lines.append(
            f"fair WTCM at {where}: gamma_0 = {gamma:.6g}, with which a block takes as many hashes as dpra's"
        )
    return "\n".join(lines)


def infeasible_lines(found: Simulation) -> list[str]:
    """For each policy that met slots without a feasible plan: how many, the first one's reason, what was done."""
    slots = found.jobs.settings.slots * found.jobs.settings.seeds
    return [
        f"{one.policy}: no feasible plan in {one.summary.infeasible_slots} of {slots} slots; first in "
        f"{one.infeasible}. {FALLBACK}"
        for one in found.main
        if one.infeasible is not None
    ]


def _reputations(values: Sequence[float]) -> str:
    if len(values) <= FEW_APS:
        return " ".join(f"{value:.2f}" for value in values)
    return f"{min(values):.2f}..{max(values):.2f}"


def short(value: float) -> str:
    """Three digits, one where the value is small."""
    if value == 0 or abs(value) >= 1:
        return f"{value:.3g}" if abs(value) < 1000 else human_count(value)
    return f"{value:.3f}" if abs(value) >= 0.0005 else f"{value:.0g}"


def decimals(values: Sequence[float]) -> int:
    """Digits after the point that give the largest of a column four."""
    largest = max(values)
    return min(max(3 - math.floor(math.log10(largest)), 0), 7) if largest > 0 else 3
