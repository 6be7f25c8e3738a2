"""A plan for people: the best cut at one rate beside the others, and what it would be at every rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich.box
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from splitnet.controller.best_cut import Option, Stretch, best_option
from splitnet.report.drawing import HALO, human_bytes, new_figure, save_figure, shorten, tidy

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
ROWS = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What `splitnet plan` found.

    Attributes:
        options: every cut and codec.
        stretches: the best by rate, from slow to fast.
        last_cut: L, all on the gateway.
    """

    model: str
    last_cut: int
    rate_bps: float
    delay_s: float
    options: tuple[Option, ...]
    stretches: tuple[Stretch, ...]

    @property
    def best(self) -> Option:
        return best_option(self.options, self.rate_bps)

    def best_of(self, cut: int) -> Option:
        """The best codec of one cut at the rate."""
        return best_option([option for option in self.options if option.cut == cut], self.rate_bps)

    def to_dict(self) -> dict[str, object]:
        """The object that `splitnet plan --json` prints."""
        return {
            "model": self.model,
            "rate_bps": self.rate_bps,
            "delay_s": self.delay_s,
            "best": _described(self.best, self.rate_bps),
            "cuts": [_described(self.best_of(cut), self.rate_bps) for cut in sorted({o.cut for o in self.options})],
            "by_rate": [
                {
                    "from_bps": stretch.from_bps,
                    "to_bps": stretch.to_bps,
                    **_described(stretch.option, stretch.to_bps),
                }
                for stretch in self.stretches
            ],
        }


def _described(option: Option, rate_bps: float) -> dict[str, object]:
    return {
        "cut": option.cut,
        "layer": option.layer,
        "codec": option.codec,
        "gateway_s": option.gateway_s,
        "codec_s": option.codec_s,
        "link_s": option.fixed_s + option.bits / rate_bps,
        "ap_s": option.ap_s,
        "bits": option.bits,
        "total_s": option.total_s(rate_bps),
    }


def plan_table(plan: Plan) -> Table:
    """The best cuts at the rate, both ends among them, in the order of their totals."""
    best = [plan.best_of(cut) for cut in sorted({option.cut for option in plan.options})]
    ranked = sorted(best, key=lambda option: option.total_s(plan.rate_bps))
    ends = [option for option in best if option.cut in (0, plan.last_cut)]
    shown = ranked[:ROWS] + [option for option in ends if option not in ranked[:ROWS]]
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{plan.model} at {human_rate(plan.rate_bps)}, {plan.delay_s * 1e3:g} ms delay: predicted, in ms",
        caption=f"the best {min(ROWS, len(ranked))} of {len(ranked)} cuts, then all on the AP and all on the gateway",
        caption_justify="left",
    )
    for head in ("cut", "layer", "codec", "sent", "gateway", "codec ms", "link", "AP", "total"):
        table.add_column(head, justify="left" if head in ("layer", "codec") else "right")
    for option in shown:
        link_s = option.fixed_s + option.bits / plan.rate_bps
        times = (option.gateway_s, option.codec_s, link_s, option.ap_s, option.total_s(plan.rate_bps))
        table.add_row(
            str(option.cut),
            shorten(option.layer, 26),
            option.codec if option.bits else "-",
            human_bytes(option.bits // 8) if option.bits else "-",
            *(f"{1e3 * time:.2f}" for time in times),
            style="bold" if option == plan.best else None,
        )
    return table


def crossover_table(plan: Plan) -> Table:
    """Which cut is the best from which rate on."""
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, title="the best cut at every rate")
    for head in ("from", "to", "cut", "layer", "codec", "total at the fast end"):
        table.add_column(head, justify="left" if head in ("layer", "codec") else "right")
    for stretch in plan.stretches:
        option = stretch.option
        table.add_row(
            human_rate(stretch.from_bps),
            human_rate(stretch.to_bps),
            str(option.cut),
            shorten(option.layer, 26),
            option.codec if option.bits else "-",
            f"{1e3 * option.total_s(stretch.to_bps):.2f} ms",
        )
    return table


def draw_plan(plan: Plan, path: Path) -> None:
    """The best total against the rate and, below, its cut; SettingsError where the disk refuses."""
    figure = new_figure(8, 6.5)
    totals, cuts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    _draw_totals(plan, totals)
    _draw_cuts(plan, cuts)
    for axes in (totals, cuts):
        axes.axvline(plan.rate_bps / 1e6, color="#999999", linewidth=0.8)
        tidy(axes)
    totals.set_title(f"{plan.model}: the best cut against the link's rate", fontsize=11)
    totals.legend(frameon=False, fontsize=8, loc="upper right")
    save_figure(figure, path, "choose another file with --figure FILE")


def _draw_totals(plan: Plan, axes: Axes) -> None:
    for number, stretch in enumerate(plan.stretches):
        rates = np.geomspace(stretch.from_bps, stretch.to_bps, 50)
        option = stretch.option
        where = "all on the gateway" if option.cut == plan.last_cut else f"cut {option.cut}, {option.layer}"
        label = shorten(where, 34) + (f", {option.codec}" if option.bits else "")
        axes.plot(
            rates / 1e6,
            [1e3 * option.total_s(rate) for rate in rates],
            color=COLOURS[number % len(COLOURS)],
            linewidth=3,
            label=label,
        )
    slowest, fastest = plan.stretches[0].from_bps, plan.stretches[-1].to_bps
    rates = np.geomspace(slowest, fastest, 100)
    ends = {"all on the AP": 0, "all on the gateway": plan.last_cut}
    for (text, cut), style in zip(ends.items(), (":", "--"), strict=True):
        end = next((option for option in plan.options if option.cut == cut), None)
        if end is not None:
            name = text if end.codec == "none" else f"{text}, {end.codec}"
            spent = [1e3 * end.total_s(rate) for rate in rates]
            axes.plot(rates / 1e6, spent, style, color="black", linewidth=1, label=name)
    axes.annotate(
        f"{human_rate(plan.rate_bps)}: cut {plan.best.cut}, {1e3 * plan.best.total_s(plan.rate_bps):.1f} ms",
        xy=(plan.rate_bps / 1e6, 1e3 * plan.best.total_s(plan.rate_bps)),
        xytext=(6, 12),
        textcoords="offset points",
        fontweight="bold",
        path_effects=HALO,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    top = max(1e3 * plan.stretches[0].option.total_s(slowest) * 4, 1e3 * plan.best.total_s(plan.rate_bps) * 2)
    axes.set_ylim(top=top)
    axes.set_ylabel("predicted milliseconds end to end")


def _draw_cuts(plan: Plan, axes: Axes) -> None:
    """The best cut's number as one step line, in the colours of the totals above."""
    edges = [stretch.from_bps / 1e6 for stretch in plan.stretches] + [plan.stretches[-1].to_bps / 1e6]
    numbers = [stretch.option.cut for stretch in plan.stretches]
    axes.step(edges, [*numbers, numbers[-1]], where="post", color="#999999", linewidth=1)
    for place, number in enumerate(numbers):
        axes.plot(edges[place : place + 2], [number, number], color=COLOURS[place % len(COLOURS)], linewidth=3)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(-0.05 * plan.last_cut - 0.2, 1.05 * plan.last_cut + 0.2)
    axes.set_ylabel(f"best cut, 0..{plan.last_cut}")
    axes.set_xlabel("link rate, Mbit/s")


def human_rate(rate_bps: float) -> str:
    """`20 Mbit/s`, with three digits."""
    value, unit = rate_bps / 1e3, "kbit/s"
    for unit in ("kbit/s", "Mbit/s", "Gbit/s"):  # noqa: B007 - the unit at which it stops
        if value < 999.5:
            break
        value /= 1000
    return f"{value:.3g} {unit}"
