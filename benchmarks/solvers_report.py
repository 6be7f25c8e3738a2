"""What `solvers` found: its limits, tables and picture. Medians and quantiles are made here, from raw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import linregress, t

from benchmarks.command_line import WAY_OUT
from splitnet.report.drawing import new_figure, save_figure, tidy

AGREEMENT, PER_SOLVE, PER_CANDIDATE = 1e-6, 100.0, 1000.0
SAME = 1e-9
EXACT_S, EXACT_GAP = 0.5, 1e-3
ONLINE_S, ONLINE_MEAN_GAP, ONLINE_WORST_GAP = 10e-3, 1e-3, 1e-2
LARGE_S, LARGE_GAP = 100e-3, 0.02

Row = dict[str, Any]


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The exponent p of seconds ~ sizes^p by least squares on logarithms, and half its 95% interval."""
    line = linregress(np.log(sizes), np.log(seconds))
    return float(line.slope), float(line.stderr * t.ppf(0.975, len(sizes) - 2))


def show(results: dict[str, Any]) -> None:
    """Print every section that was measured, each with its limits."""
    console = Console(width=118, highlight=False)
    for name, shown in _SHOWN.items():
        if name in results:
            for part in shown(results[name]):
                console.print(part)


def draw_growth(rows: list[Row], path: Path) -> None:
    """Seconds of a slot against the number of devices, both logarithmic; SettingsError where the disk refuses."""
    figure = new_figure(7, 5)
    axes = figure.add_subplot()
    for number, (family, own) in enumerate(_grouped(rows, "family").items()):
        devices, seconds = [row["devices"] for row in own], [row["seconds"] for row in own]
        exponent, half = slope(devices, seconds)
        colour = f"C{number}"
        axes.plot(devices, seconds, "o", markersize=3, color=colour, alpha=0.6)
        medians = {row["devices"]: _of(own, row["devices"]) for row in own}
        axes.plot(
            list(medians), list(medians.values()), color=colour, label=f"{family}: slope {exponent:.2f} ± {half:.2f}"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("devices")
    axes.set_ylabel("seconds of one slot, online, cold")
    tidy(axes)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path, WAY_OUT)


def _agreement(rows: list[Row]) -> list[Any]:
    table = _errors_table("section 2a on well-scaled slots: largest relative differences", rows)
    binding = sum(row["energy_binds"] for row in rows)
    differences, ours = np.abs(_column(rows, "difference")), np.abs(_column(rows, "ours_off"))
    agree = differences <= AGREEMENT
    blamed = int((~agree & (ours <= SAME)).sum())
    return [
        table,
        f"{len(rows)} slots, C5 binds at some AP in {binding}. {(~agree).sum()} differ by more than {AGREEMENT:g}, "
        f"of which the scan calls cvxpy wrong in {blamed}; the others by at most {differences[agree].max():.1e}. "
        "Ours is " + _limit(float(ours.max()), AGREEMENT, "{:.1e} off the scan"),
    ]


def _degenerate(rows: list[Row]) -> list[Any]:
    worst = max(abs(row["ours_off"]) for row in rows)
    return [
        _errors_table("section 2a on degenerate slots: largest relative differences", rows),
        _limit(worst, AGREEMENT, "{:.1e} off the scan"),
    ]


def _errors_table(title: str, rows: list[Row]) -> Table:
    heads = ("slots", "ours to the scan", "cvxpy to the scan", "median", "ours to cvxpy", "median", "not optimal")
    table = _table(title, "kind", *heads)
    for kind, own in _grouped(rows, "kind").items():
        cells = [str(len(own))]
        for name in ("ours_off", "cvxpy_off", "difference"):
            errors = np.abs(_column(own, name))
            cells.append(f"{np.nanmax(errors):.1e}" if np.isfinite(errors).any() else "none")
            if name != "ours_off":
                cells.append(f"{np.nanmedian(errors):.1e}" if np.isfinite(errors).any() else "none")
        table.add_row(kind, *cells, str(sum(row["status"] != "optimal" for row in own)))
    return table


def _frequency_times(found: dict[str, dict[str, list[float]]]) -> list[Any]:
    names = ("best_frequencies", "kernel", "candidate", "cvxpy", "CLARABEL alone")
    title = "section 2a: median microseconds a solve, and cvxpy's over ours (CLARABEL's alone behind the comma)"
    table = _table(
        title, "kind", "one solve", "its kernel", "a candidate", "cvxpy", "CLARABEL", "one: ratio", "candidate: ratio"
    )
    ratios: dict[str, list[float]] = {"best_frequencies": [], "candidate": []}
    for kind, samples in found.items():
        medians = {name: float(np.median(samples[name])) for name in names}
        for name, seen in ratios.items():
            seen.append(medians["cvxpy"] / medians[name])
        alone = [medians["CLARABEL alone"] / medians[name] for name in ratios]
        cells = [f"{medians[name] * 1e6:,.2f}" for name in names]
        both = (f"{seen[-1]:,.0f}, {bare:,.0f}" for seen, bare in zip(ratios.values(), alone, strict=True))
        table.add_row(kind, *cells, *both)
    return [
        table,
        "one solve: "
        + _limit(min(ratios["best_frequencies"]), PER_SOLVE, "at least {:,.0f} times", least=True)
        + "; a candidate: "
        + _limit(min(ratios["candidate"]), PER_CANDIDATE, "at least {:,.0f} times", least=True),
    ]


def _small(rows: list[Row]) -> list[Any]:
    worst = max(abs(row["difference"]) for row in rows)
    above = max(row["bound"] for row in rows)
    return [
        f"exact against brute force on {len(rows)} slots of up to {max(row['choices'] for row in rows)} choices, in "
        f"units of V tau: " + _limit(worst, SAME, "{:.1e}") + "; its bound is above the optimum by at most "
        f"{max(above, 0):.1e}; {sum(row['excess_j'] > 0 for row in rows)} plans break C4"
    ]


def _slots(rows: list[Row]) -> list[Any]:
    table = _table(
        f"{len(rows)} slots of `default`: N=12, M=6, J=3, 11 cuts; gaps to exact's bound in units of V tau",
        *(
            "solver",
            "median ms",
            "p95",
            "longest",
            "mean gap",
            "worst",
            "over 0.1%",
            "over 1%",
            "above the best",
            "break C4",
        ),
    )
    for name in ("exact", "cold", "warm"):
        taken, gaps = _column(rows, f"{name}_s"), _column(rows, f"{name}_gap")
        table.add_row(
            name if name == "exact" else f"online, {name}",
            *(f"{value * 1e3:,.2f}" for value in (np.median(taken), np.percentile(taken, 95), taken.max())),
            *(f"{value:.4%}" for value in (gaps.mean(), gaps.max())),
            *(str(int((gaps > limit * (1 + 1e-9)).sum())) for limit in (EXACT_GAP, ONLINE_WORST_GAP)),
            f"{_column(rows, f'{name}_loss').mean():.4%}",
            str(sum(row[f"{name}_excess_j"] > 0 for row in rows)),
        )
    lines = [
        "exact certifies 0.1% in a median of "
        + _limit(float(np.median(_column(rows, "exact_s"))), EXACT_S, "{:.3f} s")
    ]
    for name in ("cold", "warm"):
        gaps = _column(rows, f"{name}_gap")
        lines.append(
            f"online, {name}: mean "
            + _limit(float(gaps.mean()), ONLINE_MEAN_GAP, "{:.4%}")
            + ", worst "
            + _limit(float(gaps.max()), ONLINE_WORST_GAP, "{:.3%}")
            + ", median "
            + _limit(float(np.median(_column(rows, f"{name}_s"))), ONLINE_S, "{:.4f} s")
        )
    return [table, *lines]


def _large(rows: list[Row]) -> list[Any]:
    lines = []
    for name in ("cold", "warm"):
        lines.append(
            f"large, {len(rows)} slots, online, {name}: median "
            + _limit(float(np.median(_column(rows, f"{name}_s"))), LARGE_S, "{:.4f} s")
            + ", above the Lagrangian bound at most "
            + _limit(float(_column(rows, f"{name}_gap").max()), LARGE_GAP, "{:.3%} of V tau")
        )
    return lines


def _growth(rows: list[Row]) -> list[Any]:
    table = _table("median ms of one slot, online, cold", "devices", *_grouped(rows, "family"))
    families = _grouped(rows, "family")
    for devices in sorted({row["devices"] for row in rows}):
        table.add_row(f"{devices:,}", *(f"{_of(own, devices) * 1e3:,.2f}" for own in families.values()))
    table.add_section()
    slopes = (slope([row["devices"] for row in own], [row["seconds"] for row in own]) for own in families.values())
    table.add_row("slope", *(f"{exponent:.2f} ± {half:.2f}" for exponent, half in slopes))
    return [table]


_SHOWN: dict[str, Callable[[Any], list[Any]]] = {
    "agreement": _agreement,
    "degenerate": _degenerate,
    "frequency_times": _frequency_times,
    "small": _small,
    "slots": _slots,
    "large": _large,
    "growth": _growth,
}


def _limit(value: float, limit: float, form: str, least: bool = False) -> str:
    """A figure beside its limit, and whether it is met."""
    met = value >= limit if least else value <= limit
    bound = form.removeprefix("at least ").format(limit)
    return f"{form.format(value)} (limit {bound}: {'met' if met else 'NOT met'})"


def _grouped(rows: list[Row], key: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _of(rows: list[Row], devices: int) -> float:
    return float(np.median([row["seconds"] for row in rows if row["devices"] == devices]))


def _column(rows: list[Row], name: str) -> NDArray[np.float64]:
    """nan where a row has none."""
    return np.array([row[name] for row in rows], dtype=float)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table
