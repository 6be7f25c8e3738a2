"""What `tradeoff` found: slopes with their intervals, bounds, tables and limits, all computed from the raw runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rich.box
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from splitnet.controller.simulation import half_width

TOLERATED = 0.1
"""How far slopes may lie from -1 and 1."""
SAME = 1e-9

Values = NDArray[np.float64]
Row = dict[str, Any]


def gap(row: Row, span: str = "whole") -> float:
    """Mean tau less tau* of the same slots."""
    return float(row[span]["latency_s"] - row[span]["best_s"])


def queue(row: Row) -> float:
    """Mean over slots of sum_j Z_j^+ + Z_j^-."""
    return float(row["whole"]["queue"])


def violation(row: Row, limits: Row) -> float:
    """How far the furthest mean reputation of the whole run is outside C6."""
    mean = np.array(row["whole"]["reputation"])
    return max(0.0, float((mean - limits["u_max"]).max()), float((limits["u_min"] - mean).max()))


def last_queue(row: Row) -> float:
    """The largest Z at the end, which over T slots bounds the violation of a cold run."""
    return float(np.max(row["last_queues"]))


def by_v(rows: Sequence[Row], start: str, figure: Callable[[Row], float]) -> tuple[Values, Values]:
    """V [Vs], and the figure of each run [seeds, Vs]."""
    own = [row for row in rows if row["start"] == start]
    vs = sorted({row["v"] for row in own})
    found = [[figure(row) for row in sorted(own, key=lambda row: row["seed"]) if row["v"] == v] for v in vs]
    return np.array(vs), np.array(found).T


def exponent(vs: Values, values: Values) -> tuple[float, float] | None:
    """The p of values ~ V^p with half its 95% interval: a least-squares line a seed, Student's t over the seeds.

    None where a value is not above 0, or with a single seed.
    """
    if values.min() <= 0 or len(values) < 2:
        return None
    slopes = np.polyfit(np.log(vs), np.log(values).T, 1)[0]
    return float(slopes.mean()), half_width(slopes) or 0.0


def power_law(vs: Values, values: Values) -> Values:
    """The least-squares line on logarithms through the means over seeds, at each V."""
    slope, height = np.polyfit(np.log(vs), np.log(values.mean(axis=0)), 1)
    return np.asarray(np.exp(height + slope * np.log(vs)))


def lyapunov(world: Row, v: float, start: str) -> float:
    """L(0): of queues at V mu*, or empty."""
    return float(np.sum((v * np.array(world["prices"])) ** 2) / 2) if start == "warm" else 0.0


def gap_bound(world: Row, v: float, slots: int, start: str) -> float:
    """B/V + L(0)/(V T) (MODEL.md section 2c, C = 0)."""
    return float(world["drift_bound"] / v + lyapunov(world, v, start) / (v * slots))


def queue_bound(world: Row, v: float, slots: int, start: str) -> float:
    """(B + V (tau_S - tau_min))/delta + L(0)/(delta T), S a mixture of the most slack delta."""
    spent = world["drift_bound"] + v * (world["slack_s"] - world["least_s"]) + lyapunov(world, v, start) / slots
    return float(spent / world["slack"])


def show(results: Row) -> None:
    """Print what was found, and what the limits say."""
    console = Console(width=118, highlight=False)
    scenario, checks = results["scenario"], results["checks"]
    for world in results["worlds"]:
        above, below = world["prices"]
        left_s = max(abs(world["duality_gap_s"]), *(row["duality_gap_s"] for row in world["runs"]))
        console.print(
            f"{world['states']} states, {world['affordable_plans']:,} plans of which {world['kept_plans']:,} can be "
            f"optimal: tau* {world['best_s']:.4f} s, duality gap at most {left_s:.0e} s; mu* {_numbers(above)} at "
            f"U^max {scenario['u_max']:g}, {_numbers(below)} at U^min {scenario['u_min']:g}; without C6 "
            f"{world['least_s']:.4f} s at mean U {_numbers(world['free_reputation'])}; B {world['drift_bound']:.3f}"
        )
    console.print(
        f"the compiled loop differs from the policy in {results['checked_slots']} slots of each V and start by at "
        f"most {_limit(checks['policy'], SAME)}; the argmin from brute force and the exact solver in "
        f"{results['solved_slots']} slots by at most {_limit(checks['solvers'], SAME)} of V tau"
    )
    console.print(_gaps_table(results))
    console.print(_queues_table(results))
    for line in _verdict(results):
        console.print(line)
    console.print(f"{results['seeds']} seeds of {results['slots']:,} slots, {results['seconds']:.0f} s in all")


def _gaps_table(results: Row) -> Table:
    fine, *coarse = results["worlds"]
    columns = {
        "warm": by_v(fine["runs"], "warm", gap),
        "cold": by_v(fine["runs"], "cold", gap),
        "cold, second half": by_v(fine["runs"], "cold", lambda row: gap(row, "late")),
    }
    columns |= {f"warm, {world['states']} states": by_v(world["runs"], "warm", gap) for world in coarse}
    table = _table(
        f"gap to tau* in ms, {fine['states']} states: means over seeds, half of their 95% intervals",
        "V",
        *columns,
        "bound, warm",
    )
    for place, v in enumerate(columns["warm"][0]):
        cells = [_milliseconds(values[:, place]) for _, values in columns.values()]
        table.add_row(f"{v:g}", *cells, f"{gap_bound(fine, v, results['slots'], 'warm') * 1e3:.3g}")
    return table


def _queues_table(results: Row) -> Table:
    scenario, slots, world = results["scenario"], results["slots"], results["worlds"][0]
    table = _table(
        f"queues of all APs together, and how far C6 is broken after {slots:,} slots: means over seeds",
        *("V", "queue, warm", "cold", "V mu*", "bound, warm", "C6 broken by, cold", "Z(T)/T, cold", "C6, warm"),
    )
    vs, warm = by_v(world["runs"], "warm", queue)
    cold = by_v(world["runs"], "cold", queue)[1]
    broken, left, broken_warm = (
        by_v(world["runs"], *asked)[1]
        for asked in (
            ("cold", lambda row: violation(row, scenario)),
            ("cold", lambda row: last_queue(row) / slots),
            ("warm", lambda row: violation(row, scenario)),
        )
    )
    for place, v in enumerate(vs):
        sizes = [warm[:, place].mean(), cold[:, place].mean(), v * np.sum(world["prices"])]
        sizes.append(queue_bound(world, v, slots, "warm"))
        small = [values[:, place].mean() for values in (broken, left, broken_warm)]
        table.add_row(f"{v:g}", *(f"{size:.4g}" for size in sizes), *(f"{size:.1e}" for size in small))
    return table


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, box=rich.box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _verdict(results: Row) -> list[str]:
    """Each limit with what was found."""
    scenario, slots = results["scenario"], results["slots"]
    fine, *coarse = results["worlds"]
    asked: list[tuple[str, Row, str, Callable[[Row], float], float]] = [
        ("gap, warm", fine, "warm", gap, -1.0),
        ("gap, cold, second half", fine, "cold", lambda row: gap(row, "late"), -1.0),
        *((f"gap, warm, {world['states']} states", world, "warm", gap, -1.0) for world in coarse),
        ("queue, warm", fine, "warm", queue, 1.0),
        ("queue, cold", fine, "cold", queue, 1.0),
    ]
    lines = []
    for name, world, start, figure, target in asked:
        found = exponent(*by_v(world["runs"], start, figure))
        if found is None:
            lines.append(f"slope of the {name}: {slope_text(found)}")
            continue
        met = abs(found[0] - target) + found[1] <= TOLERATED
        lines.append(f"slope of the {name}: {slope_text(found)} (limit {target:+.1f} ± {TOLERATED:g}: {_met(met)})")
    under = all(
        values[:, place].mean() <= bound(fine, v, slots, start)
        for figure, bound in ((gap, gap_bound), (queue, queue_bound))
        for start in ("warm", "cold")
        for vs, values in [by_v(fine["runs"], start, figure)]
        for place, v in enumerate(vs)
    )
    cold = [row for row in fine["runs"] if row["start"] == "cold"]
    kept = all(violation(row, scenario) <= last_queue(row) / slots + SAME for row in cold)
    worst = max(violation(row, scenario) for row in cold)
    lines.append(f"mean gap and mean queue at or below their bounds at every V and start: {_met(under)}")
    lines.append(
        f"C6 broken by at most Z(T)/T in every cold run: {_met(kept)}; by most {worst:.2g} after {slots:,} slots, of "
        f"U^max {scenario['u_max']:g}"
    )
    return lines


def slope_text(found: tuple[float, float] | None) -> str:
    """The exponent with half its interval."""
    if found is None:
        return "none, not every run is above 0"
    return f"{found[0]:.3f} ± " + (f"{found[1]:.3f}" if found[1] >= 0.0005 else "less than 0.001")


def _milliseconds(seconds: Values) -> str:
    width = half_width(seconds)
    return f"{seconds.mean() * 1e3:.3f}" + ("" if width is None else f" ± {width * 1e3:.3f}")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _limit(value: float, limit: float) -> str:
    return f"{value:.1e} (limit {limit:.0e}: {_met(value <= limit)})"


def _met(holds: bool) -> str:
    return "met" if holds else "NOT met"
