"""The pictures of `tradeoff`: gap and queue against V, the rise of the queues on one scale, running means of U."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from benchmarks.command_line import WAY_OUT
from benchmarks.tradeoff_report import by_v, exponent, gap, gap_bound, power_law, queue, queue_bound, slope_text
from splitnet.controller.simulation import half_width
from splitnet.report.drawing import new_figure, save_figure, tidy

BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#D55E00", "#009E73", "#777777", "#B00020"
SHOWN_V = (1.0, 16.0, 256.0)
"""Of the running means; all would hide each other."""
ASIDE = 1.12
"""By which the coarser world's marks stand to the right of their V."""

Values = NDArray[np.float64]
Row = dict[str, Any]


def draw(results: Row, path: Path) -> None:
    """All four in one file; SettingsError where the disk refuses."""
    figure = new_figure(11, 8.6)
    (gaps, queues), (rise, means) = figure.subplots(2, 2)
    draw_gaps(gaps, results)
    draw_queues(queues, results)
    draw_rise(rise, results["worlds"][0])
    draw_means(means, results)
    for axes in (gaps, queues, rise, means):
        tidy(axes)
    figure.suptitle(
        f"DPRA on {results['worlds'][0]['states']} states of `{results['scenario']['name']}`: "
        f"runs of {results['slots']:,} slots, means over {results['seeds']} seeds",
        fontsize=11,
    )
    save_figure(figure, path, WAY_OUT)


def draw_gaps(axes: Axes, results: Row) -> None:
    """Warm with its line, cold with what is below tau* hollow, the coarser world beside it, and the bound."""
    fine, *coarse = results["worlds"]
    for world, colour, marker, aside in ((fine, BLUE, "o", 1.0), *((other, GREY, "D", ASIDE) for other in coarse)):
        vs, found = by_v(world["runs"], "warm", gap)
        mean, widths = found.mean(axis=0), [half_width(column) or 0.0 for column in found.T]
        label = f"warm, {world['states']} states: slope {slope_text(exponent(vs, found))}"
        axes.plot(vs * aside, mean, marker, markersize=4, color=colour, label=label)
        axes.errorbar(vs * aside, mean, widths, fmt="none", color=colour)
        if mean.min() > 0:
            axes.plot(vs, power_law(vs, found), color=colour, linewidth=0.8)
    vs, found = by_v(fine["runs"], "cold", gap)
    cold = found.mean(axis=0)
    axes.plot(
        vs[cold > 0], cold[cold > 0], "^", color=ORANGE, markersize=8, fillstyle="none", label="cold, all slots"
    )
    if (cold <= 0).any():
        label = r"cold, that far below $\tau^*$: C6 is not met yet"
        axes.plot(vs[cold <= 0], -cold[cold <= 0], "v", color=ORANGE, markersize=7, label=label)
    bound = [gap_bound(fine, v, results["slots"], "warm") for v in vs]
    axes.plot(vs, bound, "--", color=RED, linewidth=1, label="bound $B/V + L(0)/(VT)$")
    _powers_of_two(axes, vs)
    axes.set_ylabel(r"mean latency above $\tau^*$ (s)")
    axes.legend(frameon=False, fontsize=8)


def draw_queues(axes: Axes, results: Row) -> None:
    """Warm with its line, cold, V mu*, and the bound."""
    world = results["worlds"][0]
    vs, warm = by_v(world["runs"], "warm", queue)
    cold = by_v(world["runs"], "cold", queue)[1]
    label = f"warm: slope {slope_text(exponent(vs, warm))}"
    axes.plot(vs, warm.mean(axis=0), "o", markersize=4, color=BLUE, label=label)
    axes.plot(vs, power_law(vs, warm), color=BLUE, linewidth=0.8)
    label = f"cold: slope {slope_text(exponent(vs, cold))}"
    axes.plot(vs, cold.mean(axis=0), "^", color=ORANGE, markersize=8, fillstyle="none", label=label)
    axes.plot(vs, vs * np.sum(world["prices"]), ":", color="black", linewidth=1, label=r"$V \mu^*$")
    bound = [queue_bound(world, v, results["slots"], "warm") for v in vs]
    label = r"bound $(B + V(\tau_S - \tau_{min}))/\delta + L(0)/(\delta T)$"
    axes.plot(vs, bound, "--", color=RED, linewidth=1, label=label)
    _powers_of_two(axes, vs)
    axes.set_ylabel("mean queue, all APs together (U)")
    axes.legend(frameon=False, fontsize=8)


def draw_rise(axes: Axes, world: Row) -> None:
    """Z/V against t/V from a cold start, one seed: one curve for all V but for the noise, which shrinks."""
    curves = world["curves"]
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1, len(curves)))
    for curve, colour in zip(curves, colours, strict=True):
        v = curve["v"]
        slots, queues = np.array(curve["rise_slots"]), np.array(curve["rise_queue"])
        axes.plot(slots / v, queues / v, color=colour, linewidth=1.1, label=f"{v:g}")
    price = np.sum(world["prices"])
    axes.axhline(price, color="black", linestyle=":", linewidth=1)
    _beside(axes, price, r"$\mu^*$", "black")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("t/V (slots)")
    axes.set_ylabel("queues / V, all APs together (s per U)")
    axes.legend(title="V (cold start, one run each)", frameon=False, fontsize=8, title_fontsize=8, ncols=3)


def draw_means(axes: Axes, results: Row) -> None:
    """Each AP's mean reputation so far, from a cold start, one seed, with the limits of C6."""
    scenario, curves = results["scenario"], results["worlds"][0]["curves"]
    shown = [curve for curve in curves if curve["v"] in SHOWN_V]
    for curve, colour in zip(shown, (ORANGE, GREEN, BLUE), strict=True):
        for ap, values in enumerate(np.array(curve["mean_reputation"]).T):
            label = f"V = {curve['v']:g}, AP {ap}"
            axes.plot(curve["mean_slots"], values, ("-", "--")[ap % 2], color=colour, linewidth=1.2, label=label)
    for name, text in (("u_max", "$U^{max}$"), ("u_min", "$U^{min}$")):
        axes.axhline(scenario[name], color=RED, linewidth=1, linestyle=":")
        _beside(axes, scenario[name], text, RED)
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("slots so far (cold start, one run each)")
    axes.set_ylabel("mean reputation so far (U)")
    axes.legend(frameon=False, fontsize=8, ncols=len(SHOWN_V))


def _beside(axes: Axes, height: float, text: str, colour: str) -> None:
    """A name to the right of a level."""
    axes.annotate(
        text,
        (1, height),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=colour,
    )


def _powers_of_two(axes: Axes, vs: Values) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(vs.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlabel("V")
