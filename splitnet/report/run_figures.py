"""The figures of a run, each as PNG and SVG: predicted against measured, latency, reputation, queues, achieved.

Decides how they look. Computes no statistics of its own: those come from `splitnet.running`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from splitnet.files import replacing
from splitnet.owned_folder import WAY_OUT
from splitnet.report.drawing import new_figure, save_figure, tidy
from splitnet.running.components import SHORTEST_S
from splitnet.running.result import RunResult
from splitnet.slot_record import SlotRecord, SlotTimes

# Okabe and Ito's palette.
COLOURS = {"gateway": "#0072B2", "link": "#56B4E9", "ap": "#009E73", "rest": "#DDDDDD", "block": "#E69F00"}
NAMES = {"gateway": "gateway", "link": "link", "ap": "AP", "rest": "between", "block": "block"}
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LIMIT = "#B00020"
BAND = 0.1
"""Of the error: what lies within is near enough."""
FEW_SLOTS = 60
"""Up to this many a bar is wide enough to have an edge."""


def draw_run(found: RunResult, records: Sequence[SlotRecord], folder: Path) -> list[str]:
    """Every figure; returns their names. Raises SettingsError where the disk refuses."""
    figures: dict[str, Callable[[RunResult, Sequence[SlotRecord]], Figure]] = {
        "predicted": draw_predicted,
        "latency": draw_latency,
        "reputation": draw_reputation,
        "queues": draw_queues,
        "achieved": draw_achieved,
    }
    for name, draw in figures.items():
        figure = draw(found, records)
        save_figure(figure, folder / f"{name}.png", WAY_OUT)
        with replacing(folder / f"{name}.svg", WAY_OUT) as temporary:
            figure.savefig(temporary, format="svg")
    return list(figures)


def draw_predicted(found: RunResult, records: Sequence[SlotRecord]) -> Figure:
    """Predicted against measured, a panel for each component; the band is 10% off."""
    figure = new_figure(12, 3.3)
    panels = figure.subplots(1, 5)
    for axes, name in zip(panels, ("gateway", "link", "ap", "barrier", "block"), strict=True):
        pairs = np.array(_pairs(records, name)).reshape(-1, 2)
        pairs = pairs[(pairs > (SHORTEST_S if name in ("gateway", "link", "ap") else 0)).all(axis=1)]
        one = found.components[name]
        told = "" if one.mape is None else f", MAPE {100 * one.mape:.1f}%"
        axes.set_title(f"{NAMES.get(name, name)}{told}", fontsize=10)
        axes.set_xlabel("predicted (s)")
        tidy(axes)
        if not len(pairs):
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color="#888888")
            continue
        most = 1.05 * pairs.max()
        if name != "block":  # which is random: no single one can be right
            low, high = most / (1 + BAND), most / (1 - BAND)
            axes.fill_between([0, most], [0, low], [0, high], color="#009E73", alpha=0.15, linewidth=0)
        axes.plot([0, most], [0, most], color="#888888", linewidth=0.8)
        axes.scatter(pairs[:, 0], pairs[:, 1], s=10, color=COLOURS.get(name, "#000000"), alpha=0.7, linewidths=0)
        axes.set_xlim(0, most)
        axes.set_ylim(0, most)
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("measured (s)")
    figure.suptitle(_headline(found), fontsize=11)
    return figure


def _pairs(records: Sequence[SlotRecord], name: str) -> list[tuple[float, float]]:
    if name in ("barrier", "block"):
        return [(getattr(one.predicted, f"{name}_s"), getattr(one.measured, f"{name}_s")) for one in records]
    return [
        pair
        for one in records
        for pair in zip(getattr(one.predicted, f"{name}_s"), getattr(one.measured, f"{name}_s"), strict=True)
    ]


def draw_latency(found: RunResult, records: Sequence[SlotRecord]) -> Figure:
    """Latency of each slot from the components of its slowest gateway and the block; predicted as a mark."""
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    slots = np.array([one.slot for one in records])
    parts = np.array([_stack(one.measured) for one in records])  # [slots, parts]
    bottom = np.zeros(len(records))
    for (name, label), values in zip(NAMES.items(), parts.T, strict=True):
        edge = "white" if len(records) <= FEW_SLOTS else "none"
        axes.bar(
            slots, values, bottom=bottom, width=1.0, color=COLOURS[name], label=label, edgecolor=edge, linewidth=0.4
        )
        bottom += values
    axes.plot(
        slots,
        [one.predicted.barrier_s for one in records],
        "_",
        color="black",
        markersize=5,
        label="predicted barrier",
    )
    axes.plot(
        slots, [one.predicted.latency_s for one in records], "x", color="black", markersize=4, label="predicted"
    )
    _slot_axis(axes, found)
    axes.set_ylabel("latency of a slot (s)")
    figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return figure


def _stack(times: SlotTimes) -> list[float]:
    """Components of the gateway that was last, what else the barrier held, and the block."""
    paths = [sum(parts) for parts in zip(times.gateway_s, times.link_s, times.ap_s, strict=True)]
    last = int(np.argmax(paths))
    between_s = max(0.0, times.barrier_s - paths[last])
    return [times.gateway_s[last], times.link_s[last], times.ap_s[last], between_s, times.block_s]


def draw_reputation(found: RunResult, records: Sequence[SlotRecord]) -> Figure:
    """Each AP's reputation slot by slot, its mean so far, and the limits of C6 on that mean."""
    figure = new_figure(7.2, 4)
    axes = figure.add_subplot()
    slots = np.array([one.slot for one in records])
    earned = np.array([one.reputation for one in records])
    axes.axhspan(found.u_min, found.u_max, color="#009E73", alpha=0.08, linewidth=0)
    for name, limit, line in (("max", found.u_max, "--"), ("min", found.u_min, ":")):
        axes.axhline(
            limit, color=LIMIT, linestyle=line, linewidth=1.2, label=f"$U^{{\\mathrm{{{name}}}}}$ = {limit:g}"
        )
    for ap, values in enumerate(earned.T):
        colour = LINES[ap % len(LINES)]
        so_far = np.cumsum(values) / np.arange(1, len(values) + 1)
        axes.plot(slots, values, ".", color=colour, markersize=4, alpha=0.5)
        axes.plot(slots, so_far, color=colour, linewidth=1.8, label=f"AP {ap}, mean so far")
    _slot_axis(axes, found)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("reputation U")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_queues(found: RunResult, records: Sequence[SlotRecord]) -> Figure:
    """The virtual queues of C6, AP by AP."""
    figure = new_figure(7.2, 3.6)
    axes = figure.add_subplot()
    slots = [one.slot for one in records]
    for ap, values in enumerate(np.array([one.queue for one in records]).T):
        axes.plot(slots, values, color=LINES[ap % len(LINES)], linewidth=1.5, label=f"AP {ap}")
    _slot_axis(axes, found)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("queue Z (U)")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_achieved(found: RunResult, records: Sequence[SlotRecord]) -> Figure:
    """Achieved over asked of every link and worker; the band is what is aimed at: 3% for links, else 5%."""
    rows = [
        (one.name, one.ratio, colour, aim)
        for kind, colour, aim in (
            (found.links, COLOURS["link"], 0.03),
            (found.speeds, COLOURS["gateway"], 0.05),
            (found.hash_rates, COLOURS["block"], 0.05),
        )
        for one in kind
        if one.ratio is not None
    ]
    figure = new_figure(6.4, 1.2 + 0.26 * max(1, len(rows)))
    axes = figure.add_subplot()
    places = np.arange(len(rows))[::-1]
    for place, (_, ratio, colour, aim) in zip(places, rows, strict=True):
        axes.barh(place, 2 * aim, left=1 - aim, height=0.7, color="#009E73", alpha=0.12)
        axes.plot(ratio, place, "o", color=colour, markersize=6)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_yticks(places, [name for name, *_ in rows], fontsize=8)
    spread = max([0.06, *(abs(ratio - 1) for _, ratio, *_ in rows)])
    axes.set_xlim(1 - 1.1 * spread, 1 + 1.1 * spread)
    axes.set_xlabel("achieved / asked, weighted by time")
    axes.set_title(_headline(found), fontsize=11)
    tidy(axes)
    return figure


def _slot_axis(axes: Axes, found: RunResult) -> None:
    axes.set_xlabel("slot")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_headline(found), fontsize=11)
    tidy(axes)


def _headline(found: RunResult) -> str:
    return f"{found.scenario}: {found.policy}, {found.slots} slots on real processes"
