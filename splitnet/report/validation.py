"""A validation for people: one table for each predictor, predicted against measured, and every cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rich.box
from matplotlib.axes import Axes
from rich.table import Table

from splitnet.report.drawing import new_figure, save_figure, shorten, tidy
from splitnet.validation import Case, Judgement, Validation

COLOURS = {"flops": "#D55E00", "per-layer": "#0072B2", "measured": "#009E73"}
MARKERS = {"flops": "x", "per-layer": "+", "measured": "."}
PANELS = 12
ENOUGH = 12
"""Repeats; noise alone puts all of the six in a half above another cut's in 1 of 64 runs, and fewer more often."""
WAY_OUT = "choose another folder with --runs DIR"


def validation_tables(validation: Validation) -> list[Table]:
    """Errors by component, one table a predictor; the noise floor stands beside every error."""
    return [_table(validation, name, validation.judge(name)) for name in validation.predictors]


def _table(validation: Validation, name: str, judgement: Judgement) -> Table:
    ranks = "-" if judgement.spearman is None else f"{judgement.spearman:.3f}"
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{name}: predicted against measured",
        caption=f"best cut found in {judgement.top1:.0%} of {len(judgement.regrets)} choices; "
        f"Spearman over cuts {ranks}\n{regret_line(judgement)}",
        caption_justify="left",
    )
    for head in ("component", "cases", "MAPE", "noise floor", "RMSPE", "bias", "in 5%", "in 10%", "in 15%"):
        table.add_column(head, justify="left" if head == "component" else "right")
    for component, found in judgement.components.items():
        noise = validation.noise_floor("total_s" if component == "end_to_end" else f"{component}_s")
        if found is None or noise is None:
            table.add_row(component.replace("_", " "), "0", *["-"] * 7)
            continue
        table.add_row(
            component.replace("_", " "),
            str(found.cases),
            f"{found.mape:.1%}",
            f"{noise:.1%}",
            f"{found.rmspe:.1%}",
            f"{found.bias:+.1%}",
            *(f"{share:.0%}" for share in (found.within_5, found.within_10, found.within_15)),
            style="bold" if component == "end_to_end" else None,
        )
    return table


def regret_line(judgement: Judgement) -> str:
    """Regret as it counts, as it was measured, and what the run could have told from noise."""
    found = judgement.regret_figures
    said = (
        f"regret median {found['regret_median']:.1%}, 95% at most {found['regret_p95']:.1%} (noise included: "
        f"{found['regret_raw_median']:.1%}, {found['regret_raw_p95']:.1%}); "
    )
    if found["regret_resolution"] is None:
        return f"{said}every choice was the first half's best cut"
    return (
        f"{said}{found['choices_apart']} choices were not the first half's best cut; of these a regret below some "
        f"{found['regret_resolution']:.1%} (95%: {found['regret_resolution_p95']:.1%}) cannot be told from 0"
    )


def summary(validation: Validation) -> str:
    """What the tables rest on, in two lines; a third one where the repeats are too few to judge regrets."""
    drift = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in validation.drift.items())
    counts = sorted({len(case.samples) for case in validation.cases})
    repeats = "/".join(str(count) for count in counts)
    lines = [
        f"{len(validation.cases)} cases of {repeats} inferences; a noise floor is how far two halves of one case's "
        "repeats lie apart",
        f"speed of the last passes against the first: {drift}",
    ]
    if counts[0] < ENOUGH:
        lines.append(f"{counts[0]} inferences are too few for regrets: below {ENOUGH} noise counts as one too often")
    return "\n".join(lines)


def draw_scatter(validation: Validation, path: Path) -> None:
    """Predicted against measured, end to end, with the 10% band; SettingsError where the disk refuses."""
    figure = new_figure(7, 6.4)
    axes = figure.add_subplot()
    measured = np.array([1e3 * case.measured_s("total_s") for case in validation.cases])
    ends = np.array([measured.min() * 0.7, measured.max() * 1.4])
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color="#DDDDDD", label="within 10%", linewidth=0)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    for name in validation.predictors:
        predicted = [1e3 * case.predicted[name].total_s for case in validation.cases]
        found = validation.judge(name).components["end_to_end"]
        error = "" if found is None else f" (MAPE {found.mape:.1%})"
        axes.plot(measured, predicted, MARKERS.get(name, "o"), color=COLOURS.get(name), label=f"{name}{error}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("measured milliseconds end to end")
    axes.set_ylabel("predicted milliseconds")
    models = sorted({case.model for case in validation.cases})
    axes.set_title(shorten(", ".join(models), 70), fontsize=11)
    tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    save_figure(figure, path, WAY_OUT)


def draw_cuts(validation: Validation, path: Path) -> None:
    """Totals over the cuts, a panel for each model and link; SettingsError where the disk refuses."""
    groups = list(validation.groups().items())[:PANELS]
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(4.6 * columns + 1.5, 3.2 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    for panel, ((model, batch, link, codec), cases) in zip(panels.flat, groups, strict=False):
        _draw_group(panel, cases)
        parts = [model, *([f"batch {batch}"] if batch > 1 else []), link, *([codec] if codec != "none" else [])]
        panel.set_title(", ".join(parts), fontsize=10)
    panels[-1][0].set_xlabel("cut")
    panels[0][0].set_ylabel("milliseconds")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    save_figure(figure, path, WAY_OUT)


def _draw_group(axes: Axes, cases: list[Case]) -> None:
    cuts = [case.cut for case in cases]
    samples = [np.array([1e3 * sample.total_s for sample in case.samples]) for case in cases]
    medians = np.array([np.median(found) for found in samples])
    low, high = (np.array([np.percentile(found, percent) for found in samples]) for percent in (5, 95))
    spread = np.maximum([medians - low, high - medians], 0)
    axes.errorbar(cuts, medians, yerr=spread, fmt="o", color="black", markersize=4, linewidth=1, label="real workers")
    for name in cases[0].predicted:
        totals = [1e3 * case.predicted[name].total_s for case in cases]
        axes.plot(cuts, totals, color=COLOURS.get(name), linewidth=1.2, label=name)
    axes.set_ylim(bottom=0)
    tidy(axes)
