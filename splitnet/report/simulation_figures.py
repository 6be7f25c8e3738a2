"""The figures of a simulation that a paper needs, each as PNG and SVG.

Decides how they look, and which of them a run has the data for. Computes no statistics of its own: they come from
`splitnet.simulating.result`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from splitnet.controller.policies import POLICIES
from splitnet.controller.simulation import half_width
from splitnet.files import replacing
from splitnet.owned_folder import WAY_OUT
from splitnet.report.drawing import human_count, new_figure, save_figure, tidy
from splitnet.report.simulation import decimals, headline, relative_text, short
from splitnet.simulating.result import REFERENCE, Outcome, Simulation

# Okabe and Ito's palette; policies that share a colour differ in their line and marker.
STYLES = {
    "dpra": ("#0072B2", "-", "o"),
    "wdpo": ("#D55E00", "-", "s"),
    "wdpo-best": ("#D55E00", "--", "D"),
    "wtcm": ("#009E73", "-", "^"),
    "wtcm-c6": ("#009E73", "--", "v"),
    "wtcm-fair": ("#CC79A7", "-", "<"),
    "wtcm-fair-c6": ("#CC79A7", "--", ">"),
    "gateway-only": ("#999999", "-", "P"),
    "least-gateway": ("#999999", "--", "X"),
    "neurosurgeon": ("#56B4E9", "-", "p"),
    "dads": ("#56B4E9", "--", "h"),
    "ao": ("#E69F00", "-", "*"),
    "random": ("#000000", ":", "x"),
    "latency-only": ("#E69F00", "--", "d"),
    "oracle": ("#000000", "--", "+"),
}
LIMIT = "#B00020"
SEPARATOR: dict[str, Any] = {"color": "#DDDDDD", "linewidth": 0.6}
UNSETTLED = 0.05
"""Of the slots: what the running mean does before them does not choose the axis."""


def draw_simulation(found: Simulation, folder: Path) -> list[str]:
    """Every figure that the run has the data for; returns their names.

    Raises:
        SettingsError: the disk refuses.
    """
    several_v = len(found.jobs.settings.v) > 1
    figures: list[tuple[str, bool, Callable[[Simulation], Figure]]] = [
        ("policies", True, draw_policies),
        ("latency-slots", found.jobs.settings.slots > 1, draw_latency_slots),
        ("reputation", True, draw_reputation),
        ("latency-v", several_v, draw_latency_v),
        ("queue-v", several_v and bool(_queued(found)), draw_queue_v),
        ("latency-devices", len({count for _, count in found.jobs.points}) > 1, draw_latency_devices),
    ]
    drawn = []
    for name, wanted, draw in figures:
        if wanted:
            figure = draw(found)
            save_figure(figure, folder / f"{name}.png", WAY_OUT)
            with replacing(folder / f"{name}.svg", WAY_OUT) as temporary:
                figure.savefig(temporary, format="svg")
            drawn.append(name)
    return drawn


def draw_policies(found: Simulation) -> Figure:
    """Policies side by side: latency from its components, how far C6 is broken, hashes per block."""
    outcomes = found.main
    places = np.arange(len(outcomes))[::-1]
    figure = new_figure(10, 1.6 + 0.42 * len(outcomes))
    latency, broken, hashes = figure.subplots(1, 3, sharey=True, width_ratios=(5, 2, 2))
    left = np.zeros(len(outcomes))
    places_shown = decimals([one.summary.mean_latency_s for one in outcomes])
    for label, colour, values in (
        ("inference barrier", "#56B4E9", [one.barrier_s for one in outcomes]),
        ("propagation", "#BBBBBB", [found.propagation_s] * len(outcomes)),
        ("block time", "#E69F00", [one.block_s for one in outcomes]),
    ):
        if any(values):
            latency.barh(places, values, left=left, height=0.66, color=colour, label=label)
            left = left + values
    widths = [one.summary.ci95 or 0.0 for one in outcomes]
    latency.errorbar(left, places, xerr=widths, fmt="none", ecolor="black", capsize=2.5, elinewidth=1)
    for one, place, end, width in zip(outcomes, places, left, widths, strict=True):
        told = "" if one.policy == REFERENCE or one.relative is None else f" ({relative_text(one.relative)})"
        latency.annotate(
            f"{one.summary.mean_latency_s:.{places_shown}f}{told}",
            (end + width, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    latency.set_xlim(0, 1.3 * max(end + width for end, width in zip(left, widths, strict=True)))
    latency.set_yticks(places, [one.policy for one in outcomes])
    latency.set_xlabel("mean latency of a slot (s)")
    for axes, label, values, text in (
        (broken, "C6 broken by (U)", [one.summary.c6_violation for one in outcomes], short),
        (hashes, "hashes per block", [one.summary.hashes_per_block for one in outcomes], human_count),
    ):
        axes.barh(places, values, height=0.66, color="#888888")
        for value, place in zip(values, places, strict=True):
            axes.annotate(text(value), (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, 1.45 * (max(values) or 1.0))
        axes.set_xlabel(label)
    for axes in (latency, broken, hashes):
        tidy(axes)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(6 if axes is latency else 3))
    hashes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.suptitle(f"{headline(found)}, V = {found.jobs.v:g}", fontsize=11)
    handles, labels = latency.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_latency_slots(found: Simulation) -> Figure:
    """The mean latency of all slots so far, with its 95% interval over seeds."""
    figure, axes = _single(f"{headline(found)}, V = {found.jobs.v:g}")
    settled: list[float] = []
    for one in found.main:
        colour, line, _ = STYLES[one.policy]
        mean = one.curve_s.mean(axis=0)
        axes.plot(one.curve_slots, mean, color=colour, linestyle=line, label=one.policy, **_weight(one.policy))
        late = one.curve_slots >= UNSETTLED * one.curve_slots[-1]
        settled += [mean[late].min(), mean[late].max()]
        if len(one.curve_s) > 1:  # before it settles, the interval of so few slots only hides the others
            widths = np.array([half_width(column) or 0.0 for column in one.curve_s.T])
            low, high = (mean - widths)[late], (mean + widths)[late]
            axes.fill_between(one.curve_slots[late], low, high, color=colour, alpha=0.15, linewidth=0)
            settled += [low.min(), high.max()]
    margin = 0.05 * (max(settled) - min(settled)) or 0.05 * max(settled)
    axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set_xlim(1, found.main[0].curve_slots[-1])
    axes.set_xlabel("slots")
    axes.set_ylabel("mean latency so far (s)")
    return _finished(figure, axes)


def draw_latency_v(found: Simulation) -> Figure:
    """Mean latency against V; policies to which V is nothing are level lines."""
    figure, axes = _single(headline(found))
    for policy in found.jobs.settings.policies:
        _over_v(axes, found, policy, [one.summary.mean_latency_s for one in _by_v(found, policy)])
    axes.set_ylabel("mean latency of a slot (s)")
    _v_axis(axes, found)
    return _finished(figure, axes)


def draw_queue_v(found: Simulation) -> Figure:
    """Mean backlog of the virtual queues against V, of policies that heed them."""
    figure, axes = _single(headline(found))
    logarithmic = True
    for policy in _queued(found):
        queues = [one.summary.mean_queue for one in _by_v(found, policy)]
        logarithmic &= min(queues) > 0
        _over_v(axes, found, policy, queues)
    axes.set_ylabel("mean queue, sum over the APs (U)")
    _v_axis(axes, found)
    if logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    return _finished(figure, axes)


def draw_latency_devices(found: Simulation) -> Figure:
    """Mean latency against the number of DTs, at one V."""
    figure, axes = _single(f"{headline(found, devices=False)}, V = {found.jobs.v:g}")
    counts = sorted({count for _, count in found.jobs.points})
    for policy in found.jobs.settings.policies:
        ones = [one for count in counts for one in found.at(found.jobs.v, count) if one.policy == policy]
        _points(
            axes, policy, counts, [one.summary.mean_latency_s for one in ones], [one.summary.ci95 for one in ones]
        )
    axes.set_xlabel("number of DTs")
    axes.set_xticks(counts)
    axes.set_ylabel("mean latency of a slot (s)")
    axes.set_ylim(bottom=0)
    return _finished(figure, axes)


def draw_reputation(found: Simulation) -> Figure:
    """Each AP's mean reputation under each policy, with the limits of C6."""
    outcomes = found.main
    figure = new_figure(max(5.5, 1.6 + 0.75 * len(outcomes)), 4.2)
    axes = figure.add_subplot()
    axes.axhspan(found.u_min, found.u_max, color="#009E73", alpha=0.08, linewidth=0)
    for name, limit, line in (("max", found.u_max, "--"), ("min", found.u_min, ":")):
        label = f"$U^{{\\mathrm{{{name}}}}}$ = {limit:g}"
        axes.axhline(limit, color=LIMIT, linestyle=line, linewidth=1.2, label=label)
    for place, one in enumerate(outcomes):
        aps = len(one.reputation)
        at = place + np.linspace(-0.3, 0.3, aps) if aps > 1 else np.array([float(place)])
        axes.errorbar(
            at,
            [ap.mean for ap in one.reputation],
            yerr=[ap.ci95 or 0.0 for ap in one.reputation],
            fmt=STYLES[one.policy][2],
            color=STYLES[one.policy][0],
            markersize=5,
            elinewidth=1,
            capsize=2,
        )
    axes.set_xticks(
        range(len(outcomes)), [one.policy for one in outcomes], rotation=25, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(-0.5, len(outcomes) - 0.5)
    axes.vlines(np.arange(1, len(outcomes)) - 0.5, 0, 1, transform=axes.get_xaxis_transform(), **SEPARATOR)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean reputation U, AP after AP")
    axes.set_title(f"{headline(found)}, V = {found.jobs.v:g}", fontsize=11)
    tidy(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _single(title: str) -> tuple[Figure, Axes]:
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    return figure, axes


def _finished(figure: Figure, axes: Axes) -> Figure:
    tidy(axes)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = sorted(handles, key=list(STYLES).index)
    figure.legend([handles[name] for name in names], names, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _queued(found: Simulation) -> list[str]:
    return [name for name in found.jobs.settings.policies if POLICIES[name].heeds_queues]


def _by_v(found: Simulation, policy: str) -> list[Outcome]:
    values = sorted(found.jobs.settings.v)
    return [one for v in values for one in found.at(v, found.jobs.devices) if one.policy == policy]


def _over_v(axes: Axes, found: Simulation, policy: str, values: Sequence[float]) -> None:
    ones = _by_v(found, policy)
    colour, line, _ = STYLES[policy]
    if ones[0].any_v:
        axes.plot([one.v for one in ones], values, color=colour, linestyle=line, label=policy, **_weight(policy))
    else:
        _points(axes, policy, [one.v for one in ones], values, [one.summary.ci95 for one in ones])


def _points(
    axes: Axes, policy: str, at: Sequence[float], values: Sequence[float], widths: Sequence[float | None]
) -> None:
    colour, line, marker = STYLES[policy]
    axes.errorbar(
        at,
        values,
        yerr=[width or 0.0 for width in widths],
        color=colour,
        linestyle=line,
        marker=marker,
        markersize=5,
        capsize=2.5,
        elinewidth=1,
        label=policy,
        **_weight(policy),
    )


def _weight(policy: str) -> dict[str, Any]:
    """The reference lies above the others."""
    return {"linewidth": 2.2, "zorder": 3} if policy == REFERENCE else {"linewidth": 1.3, "zorder": 2}


def _v_axis(axes: Axes, found: Simulation) -> None:
    values = sorted(found.jobs.settings.v)
    axes.set_xscale("log")
    axes.set_xlabel("V, the weight of latency against the queues")
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{v:g}" for v in values])
