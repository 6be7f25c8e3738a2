"""What came of `policies_measured.py`: means over seeds, paired differences from DPRA, and the regret of its cuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.simulation import half_width
from splitnet.terminal import Terminal

REFERENCE = "dpra"
BOOTSTRAPS = 2000

Row = dict[str, Any]


def show(found: dict[str, Any]) -> None:
    """Tables."""
    terminal = Terminal()
    if "policies" in found:
        terminal.table(
            ("policy", "latency (s)", "expected block", "against dpra", "C6 broken by", "hashes per block", "MAPE"),
            [_policy_row(name, one) for name, one in policy_figures(found["policies"]).items()],
            "Measured latency; the same with each plan's expected block time; its paired difference from DPRA's,\n"
            "slot by slot. +- half of a 95% interval (slots in batches, over seeds).",
        )
    if "regret" in found:
        one = regret_figures(found["regret"])
        terminal.print(
            f"regret of DPRA's cuts over {one['worlds']} slots: median {one['median']:.2%}, "
            f"mean {one['mean']:.2%}, most {one['most']:.2%}; in {one['compared']} another plan seemed best, "
            f"{one['significant']} of them above 0 by a 95% interval; resolution there {one['resolution']:.2%}"
        )


def policy_figures(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Of each policy; latencies in seconds."""
    seeds = sorted({row["seed"] for row in rows})
    figures = {}
    expected = {(row["policy"], row["seed"], row["slot"]): row["barrier_s"] + row["expected_block_s"] for row in rows}
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == policy]
        measured = np.array([row["barrier_s"] + row["block_s"] for row in own])
        smooth = np.array([expected[policy, row["seed"], row["slot"]] for row in own])
        pairs = [(row["seed"], row["slot"]) for row in own if (REFERENCE, row["seed"], row["slot"]) in expected]
        against = np.array([expected[policy, *pair] - expected[REFERENCE, *pair] for pair in pairs])
        violations = []
        for seed in seeds:
            mean = np.mean([row["reputation"] for row in own if row["seed"] == seed], axis=0)
            low, high = own[0]["c6"]
            violations.append(max(float((mean - high).max()), float((low - mean).max()), 0.0))
        figures[policy] = {
            "mean_s": float(measured.mean()),
            "mean_half_s": half_of(measured),
            "expected_s": float(smooth.mean()),
            "expected_half_s": half_of(smooth),
            "against_s": float(against.mean()) if len(against) else math.nan,
            "against_half_s": half_of(against),
            "c6_violation": float(np.mean(violations)),
            "hashes": float(np.mean([row["hashes"] for row in own])),
            "expected_hashes": float(np.mean([row["expected_hashes"] for row in own])),
            "mape": float(np.mean([abs(row["predicted_barrier_s"] / row["barrier_s"] - 1) for row in own])),
        }
    return figures


def half_of(values: NDArray[np.float64], batches: int = 10) -> float:
    """Half of a 95% interval from means of consecutive slots, since a slot depends on the one before."""
    parts = np.array_split(values, min(batches, len(values))) if len(values) else []
    half = half_width(np.array([part.mean() for part in parts]))
    return math.nan if half is None else half


def _policy_row(name: str, one: dict[str, float]) -> tuple[str, ...]:
    return (
        name,
        f"{one['mean_s']:.3f} +- {one['mean_half_s']:.3f}",
        f"{one['expected_s']:.3f} +- {one['expected_half_s']:.3f}",
        "" if name == REFERENCE else f"{one['against_s']:+.3f} +- {one['against_half_s']:.3f}",
        f"{one['c6_violation']:.3f}",
        f"{one['hashes']:,.0f} (expected {one['expected_hashes']:,.0f})",
        f"{one['mape']:.1%}",
    )


def regret_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """In units of V tau; the best plan is found on even rounds, judged on odd ones.

    Where DPRA's own plan seems best there is nothing to tell, so the resolution is that of the other slots.
    """
    worlds = sorted({row["world"] for row in rows})
    found, widths, significant = [], [], 0
    chance = np.random.default_rng(0)
    for world in worlds:
        own = [row for row in rows if row["world"] == world]
        plans, rounds = sorted({row["plan"] for row in own}), sorted({row["round"] for row in own})
        value = {(row["plan"], row["round"]): row["objective"] for row in own}
        choosing, judging = rounds[::2], rounds[1::2]
        best = min(plans, key=lambda plan: np.mean([value[plan, turn] for turn in choosing]))
        unit = next(row["v_tau"] for row in own if row["plan"] == 0)
        differences = np.array([value[0, turn] - value[best, turn] for turn in judging]) / unit
        found.append(float(differences.mean()))
        if best == 0:
            continue
        drawn = chance.choice(differences, (BOOTSTRAPS, len(differences))).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        widths.append(float(high - low) / 2)
        significant += bool(low > 0)
    return {
        "worlds": len(worlds),
        "median": float(np.median(found)),
        "mean": float(np.mean(found)),
        "most": max(found),
        "compared": len(widths),
        "significant": significant,
        "resolution": float(np.median(widths)) if widths else math.nan,
    }
