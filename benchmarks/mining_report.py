"""What `mining` found: its tests, intervals, limits, tables and picture, all computed from the raw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2, chisquare, kstest

from benchmarks.command_line import WAY_OUT
from splitnet.report.drawing import new_figure, save_figure, tidy

RATE_SHARE, STOP_S, RATE_OFF, CHANCE, SLOPE_OFF = 0.95, 10e-3, 0.05, 0.01, 0.05
"""Limits: of the bare loop's rate, to silence, off the asked rate, least p, off -alpha."""
NORMAL = 1.959964
"""Standard deviations to each side that hold 95%."""
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"

Row = dict[str, Any]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through logarithms of means.

    Attributes:
        slope, half: with half its 95% interval.
        intercept: at U = 0.
        bend_p: chance of points further from the line than these, if it is straight.
    """

    slope: float
    half: float
    intercept: float
    bend_p: float


def mean_of(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half its 95% interval, by the values' own spread."""
    return float(np.mean(values)), float(NORMAL * np.std(values, ddof=1) / np.sqrt(len(values)))


def exponential_p(values: Sequence[float], mean: float) -> float:
    """Kolmogorov-Smirnov against the exponential of that mean, which is not fitted."""
    return float(kstest(values, "expon", args=(0, mean)).pvalue)


def share_p(winners: Sequence[int], shares: Sequence[float]) -> float:
    """Chi-square of wins against the shares that were expected."""
    wins = np.bincount(winners, minlength=len(shares))
    return float(chisquare(wins, len(winners) * np.array(shares)).pvalue)


def hash_shares(found: Row) -> list[float]:
    """Of wins, as the hashes that each AP has computed and its target predict them; no clock has a part in it."""
    lots = [hashes * chance for hashes, chance in zip(found["ap_hashes"], found["chances"], strict=True)]
    return [one / sum(lots) for one in lots]


def log_line(reputations: Sequence[float], samples: Sequence[Sequence[float]]) -> Line:
    """log of the mean against U by weighted least squares.

    The variance of a mean's logarithm is (deviation/mean)^2/n by that sample's own spread; the interval rests on
    these, not on how well five points fit.
    """
    means = np.array([np.mean(sample) for sample in samples])
    spread = np.array([np.std(sample, ddof=1) for sample in samples])
    weights = np.array([len(sample) for sample in samples]) * (means / spread) ** 2
    x, y = np.array(reputations), np.log(means)
    centre = np.average(x, weights=weights)
    inertia = float((weights * (x - centre) ** 2).sum())
    slope = float((weights * (x - centre) * y).sum()) / inertia
    intercept = float(np.average(y, weights=weights) - slope * centre)
    misfit = float((weights * (y - intercept - slope * x) ** 2).sum())
    return Line(slope, NORMAL / inertia**0.5, intercept, float(chi2.sf(misfit, len(x) - 2)))


def show(results: Row) -> None:
    """Print every section that was measured, each with its limits."""
    console = Console(width=118, highlight=False)
    for name, shown in _SHOWN.items():
        if name in results:
            for part in shown(results):
                console.print(part)


def draw(results: Row, path: Path) -> None:
    """Block times, win shares and the slope in one file; SettingsError where the disk refuses."""
    figure = new_figure(12, 4)
    times, shares, slope = figure.subplots(1, 3)
    _draw_times(times, results["times"])
    _draw_shares(shares, results["races"])
    _draw_slope(slope, results)
    for axes in (times, shares, slope):
        tidy(axes)
    save_figure(figure, path, WAY_OUT)


# --- tables


def _rate(results: Row) -> list[Any]:
    found = results["rate"]
    table = _table("hashes/s of one process, in turns", "", "median", "least", "most")
    for name, rates in found.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (np.median(rates), min(rates), max(rates))))
    ratios = np.array(found["mining process"]) / np.array(found["bare loop"])
    share = float(np.median(found["mining process"]) / np.median(found["bare loop"]))
    return [
        table,
        f"mining process over bare loop, of the medians: {share:.3f} (limit {RATE_SHARE}: "
        f"{_met(share >= RATE_SHARE)}); round by round {ratios.min():.3f} to {ratios.max():.3f}",
    ]


def _stops(results: Row) -> list[Any]:
    found = results["stops"]
    table = _table("ms from `stop` to silence", "", "stops", "median", "p95", "longest", "over 10 ms")
    for name, taken in found.items():
        table.add_row(name, *_milliseconds(taken))
    p95 = max(float(np.percentile(taken, 95)) for taken in found.values())
    longest = max(max(taken) for taken in found.values())
    return [
        table,
        f"p95 {p95 * 1e3:.2f} ms (limit {STOP_S * 1e3:g}: {_met(p95 <= STOP_S)}), longest {longest * 1e3:.2f} ms "
        f"(limit {STOP_S * 1e3:g}: {_met(longest <= STOP_S)})",
    ]


def _throttle(results: Row) -> list[Any]:
    rows = results["throttle"]
    table = _table("throttled hashes/s", "asked", "achieved, median", "furthest off")
    most = float(np.median([row["achieved"] for row in rows if row["asked"] is None]))
    worst, beyond = 0.0, []
    for asked in sorted({row["asked"] for row in rows} - {None}):
        achieved = np.array([row["achieved"] for row in rows if row["asked"] == asked])
        off = float(np.abs(achieved / asked - 1).max())
        table.add_row(f"{asked:,.0f}", f"{np.median(achieved):,.0f}", f"{off:.2%}")
        if asked > most:
            beyond.append(f"{asked:,.0f}")
        else:
            worst = max(worst, off)
    table.add_row("unlimited", f"{most:,.0f}", "")
    line = f"off by at most {worst:.2%} (limit {RATE_OFF:.0%}: {_met(worst <= RATE_OFF)})"
    return [table, line + (f"; more than the process can do, and told so: {', '.join(beyond)}" if beyond else "")]


def _times(results: Row) -> list[Any]:
    found = results["times"]
    hashes, half = mean_of(found["hashes"])
    expected = found["expected_hashes"]
    return [
        _blocks_table("blocks mined alone, against 1/lambda", {"alone": found}),
        _achieved(found),
        "block times, Kolmogorov-Smirnov against the exponential with the predicted rate: "
        + _p(exponential_p(found["block_s"], found["expected_s"])),
        f"hashes of a block {hashes:,.0f} ± {half:,.0f}, expected {expected:,}; Kolmogorov-Smirnov: "
        + _p(exponential_p(found["hashes"], expected)),
    ]


def _races(results: Row) -> list[Any]:
    found = results["races"]
    table = _table("win shares", "AP", "U", "hashes/s", "expected", "by hashes", "won", "± 95%")
    count = len(found["winner"])
    by_hashes = hash_shares(found)
    for ap, share in enumerate(found["expected_shares"]):
        won = found["winner"].count(ap) / count
        rate, reputation = found["rates"][ap], found["reputations"][ap]
        half = NORMAL * (won * (1 - won) / count) ** 0.5
        shares = (f"{one:.2%}" for one in (share, by_hashes[ap], won, half))
        table.add_row(str(ap), f"{reputation:g}", f"{rate:,.0f}", *shares)
    return [
        _blocks_table("races against 1/Lambda", {"races": found}),
        _achieved(found),
        table,
        "wins, chi-square against lambda_j/Lambda: " + _p(share_p(found["winner"], found["expected_shares"])),
        "against the hashes that were computed, at each AP's target: "
        f"p = {share_p(found['winner'], by_hashes):.3f}; these shares are off lambda_j/Lambda by at most "
        f"{max(abs(a - b) for a, b in zip(by_hashes, found['expected_shares'], strict=True)):.2%} of all races",
        "race times, Kolmogorov-Smirnov against the exponential with Lambda: "
        + _p(exponential_p(found["block_s"], found["expected_s"])),
        f"stopping the others: {_stopping(found['stop_s'])}; two had a nonce at once in {sum(found['together'])} "
        f"of {count:,} races",
        f"as many questions to an idle process: {_stopping(found['idle_s'])}",
    ]


def _slope(results: Row) -> list[Any]:
    rows, alpha = results["slope"], results["alpha"]
    line = log_line([row["reputation"] for row in rows], [row["block_s"] for row in rows])
    off = abs(line.slope / -alpha - 1)
    return [
        _blocks_table("races at equal U", {f"U = {row['reputation']:g}": row for row in rows}),
        *(_achieved(row, f"U = {row['reputation']:g}, ") for row in (rows[0], rows[-1])),
        f"slope of log E tau^bloc against U: {line.slope:.4f} ± {line.half:.4f} (95%), expected {-alpha:g}: off by "
        f"{off:.2%} (limit {SLOPE_OFF:.0%}: {_met(off <= SLOPE_OFF)}); a straight line: p = {line.bend_p:.2f}",
    ]


_SHOWN: dict[str, Callable[[Row], list[Any]]] = {
    "rate": _rate,
    "stops": _stops,
    "throttle": _throttle,
    "times": _times,
    "races": _races,
    "slope": _slope,
}


def _blocks_table(title: str, kinds: dict[str, Row]) -> Table:
    table = _table(
        f"{title} (ms)", "", "blocks", "expected", "mean", "± 95%", "mean/expected", "p95 / expected p95", "messages"
    )
    for name, found in kinds.items():
        blocks, expected = found["block_s"], found["expected_s"]
        mean, half = mean_of(blocks)
        tail = float(np.percentile(blocks, 95)) / (expected * np.log(20))
        added = float(np.median(np.array(blocks) - np.array(found["winner_s"])))
        cells = (f"{value * 1e3:,.2f}" for value in (expected, mean, half))
        table.add_row(name, f"{len(blocks):,}", *cells, f"{mean / expected:.4f}", f"{tail:.3f}", f"{added * 1e3:.3f}")
    return table


def _achieved(found: Row, start: str = "") -> str:
    """The hash rates that the model was given, as they were: with up to 2 ms of hashes that were not due yet.

    Where they fell short the machine was too busy, and the model cannot be judged by what was measured.
    """
    rates = [hashes / taken_s for hashes, taken_s in zip(found["ap_hashes"], found["ap_mining_s"], strict=True)]
    pairs = list(zip(rates, found["rates"], strict=True))
    told = ", ".join(f"{rate:,.0f} of {asked:,.0f} ({rate / asked - 1:+.2%})" for rate, asked in pairs)
    kept = all(rate >= (1 - RATE_OFF) * asked for rate, asked in pairs)
    return f"{start}achieved hashes/s: {told} (limit {-RATE_OFF:.0%}: {_met(kept)})"


def _milliseconds(taken: Sequence[float]) -> list[str]:
    over = sum(one > STOP_S for one in taken)
    values = (np.median(taken), np.percentile(taken, 95), max(taken))
    return [f"{len(taken):,}", *(f"{value * 1e3:.3f}" for value in values), str(over)]


def _stopping(taken: Sequence[float]) -> str:
    _, median, p95, longest, over = _milliseconds(taken)
    return f"median {median} ms, p95 {p95}, longest {longest}, {over} over {STOP_S * 1e3:g} ms"


def _p(chance: float) -> str:
    return f"p = {chance:.3f} (limit {CHANCE}: {_met(chance > CHANCE)})"


def _met(holds: bool) -> str:
    return "met" if holds else "NOT met"


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table


# --- picture


def _draw_times(axes: Axes, found: Row) -> None:
    """The share of blocks that took longer, and what the model says of it."""
    units = np.sort(found["block_s"]) / found["expected_s"]
    axes.plot(units, 1 - np.arange(len(units)) / len(units), color=BLUE, label=f"{len(units):,} blocks")
    model = np.linspace(0, units[-1], 2)
    axes.plot(model, np.exp(-model), "--", color=ORANGE, label="exponential, predicted rate")
    axes.set_yscale("log")
    axes.set_xlabel(r"block time, in units of $1/\lambda$")
    axes.set_ylabel("share of blocks that took longer")
    axes.set_title(f"Kolmogorov-Smirnov p = {exponential_p(found['block_s'], found['expected_s']):.2f}", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Axes, found: Row) -> None:
    """Each AP's wins beside what was expected."""
    count, places = len(found["winner"]), np.arange(len(found["rates"]))
    won = np.array([found["winner"].count(ap) for ap in places]) / count
    half = NORMAL * np.sqrt(won * (1 - won) / count)
    axes.bar(places - 0.2, found["expected_shares"], 0.38, color=GREY, label=r"$\lambda_j/\Lambda$")
    label = f"won of {count:,} races, 95%"
    axes.bar(places + 0.2, won, 0.38, color=BLUE, yerr=half, capsize=3, label=label)
    aps = zip(found["reputations"], found["rates"], strict=True)
    axes.set_xticks(places, [f"U = {reputation:g}\n{rate / 1e3:g} kH/s" for reputation, rate in aps])
    axes.set_ylim(top=1.25 * max(*won, *found["expected_shares"]))
    axes.set_title(f"chi-square p = {share_p(found['winner'], found['expected_shares']):.2f}", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_slope(axes: Axes, results: Row) -> None:
    """Means with their intervals, the fitted line and the predicted one."""
    rows = results["slope"]
    reputations = np.array([row["reputation"] for row in rows])
    means, halves = np.array([mean_of(row["block_s"]) for row in rows]).T
    line = log_line(reputations.tolist(), [row["block_s"] for row in rows])
    axes.errorbar(reputations, means, halves, fmt="o", markersize=4, capsize=3, color=BLUE, label="mean, 95%")
    fitted = np.exp(line.intercept + line.slope * reputations)
    axes.plot(reputations, fitted, color=BLUE, linewidth=0.8, label=f"slope {line.slope:.3f} ± {line.half:.3f}")
    label = rf"$1/\Lambda$: slope {-results['alpha']:g}"
    axes.plot(reputations, [row["expected_s"] for row in rows], "--", color=ORANGE, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("U, the same for all APs")
    axes.set_ylabel("block time (s)")
    axes.legend(frameon=False, fontsize=8)
