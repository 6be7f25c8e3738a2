"""A profile for people: a row for each layer, and the picture that tells where to cut."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import rich.box
from rich.table import Table

from splitnet.profiling.profile import Profile
from splitnet.report.drawing import human_bytes, human_count, new_figure, save_figure, shorten, tidy

LAYER_WIDTH = 22
CODEC_STYLES = {"none": "-", "fp16": "--", "int8": ":"}


def profile_table(profile: Profile) -> Table:
    """A row for each layer; fits into 110 columns."""
    facts, identity = profile.facts, profile.facts.identity
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption_justify="left",
        caption=_caption(profile),
    )
    table.title = f"{identity.name}, batch {identity.batch}, on {profile.device}, {profile.threads} threads"
    table.add_column("", width=1)
    for head in ("cut", "layer", "kind", "FLOPs", "params", "output", "payload", "ms", "bottom ms", "top ms"):
        right = head not in ("layer", "kind", "output")
        table.add_column(head, justify="right" if right else "left", no_wrap=True)
    sent = human_bytes(facts.cuts[0].payload_bytes["none"])
    table.add_row("c", "0", "input", "", "", "", "", sent, "", *_halves(0, profile))
    for index, (layer, cut, time_s) in enumerate(
        zip(facts.layers, facts.cuts[1:], profile.layer_s, strict=True), start=1
    ):
        table.add_row(
            "c" if cut.clean else "x" if cut.refused else "",
            str(index),
            shorten(layer.name, LAYER_WIDTH),
            shorten(layer.kind, 12),
            human_count(layer.flops) if layer.flops else "-",
            human_count(layer.params) if layer.params else "-",
            "x".join(map(str, layer.output_shape)),
            human_bytes(cut.payload_bytes["none"]),
            f"{1e3 * time_s:.3f}",
            *_halves(index, profile),
        )
    return table


def _halves(cut: int, profile: Profile) -> tuple[str, str]:
    mark = "*" if profile.halves_from[cut] == "halves" else " "
    return f"{1e3 * profile.prefix_s[cut]:.2f}{mark}", f"{1e3 * profile.suffix_s[cut]:.2f}{mark}"


def _caption(profile: Profile) -> str:
    facts = profile.facts
    uncounted = [layer for layer in facts.layers if layer.uncounted]
    share = sum(time_s for layer, time_s in zip(facts.layers, profile.layer_s, strict=True) if not layer.flops) / max(
        sum(profile.layer_s), 1e-12
    )
    kinds = sorted({name for layer in uncounted for name in layer.uncounted})
    per_run = [sum(row) for row in profile.layers_ns]
    spread = statistics.pstdev(per_run) / max(statistics.fmean(per_run), 1)
    peak = max(cut.bottom_peak_bytes for cut in facts.cuts)
    known = [value for value in profile.energy_j or () if value is not None]
    energy = f"{sum(known):.3g} J by {profile.meter}" if known else "no meter here"
    total, by_torch = human_count(facts.flops), human_count(facts.torch_flops)
    lines = [
        "c one tensor crosses; x refused; * halves timed alone, the others from whole passes, corrected between",
        f"{total} FLOPs a data point (multiply-adds, by fvcore; by torch {by_torch}); energy: {energy}",
        f"layers without FLOPs take {share:.0%} of the time; not counted: {', '.join(kinds) or 'nothing'}",
        f"{len(profile.layers_ns)} passes, whose totals vary by {spread:.1%}; "
        f"the whole model needs {human_bytes(peak)} for weights and live activations",
    ]
    return "\n".join(lines)


def draw_profile(profile: Profile, path: Path) -> None:
    """FLOPs, payload and time along the layers, as a PNG; SettingsError where the disk refuses."""
    facts = profile.facts
    depth = len(facts.layers)
    layers, cuts = np.arange(1, depth + 1), np.arange(depth + 1)
    figure = new_figure(min(max(8.0, 4 + 0.06 * depth), 18), 9)
    flops, payload, time = figure.subplots(3, 1, sharex=True)
    flops.bar(layers, [layer.flops / 1e6 for layer in facts.layers], width=1.0, color="#0072B2")
    flops.set_ylabel("million FLOPs\nof the layer")
    total = human_count(facts.flops)
    flops.set_title(f"{facts.identity.name}: {total} FLOPs, {depth} layers, on {profile.device}", fontsize=11)

    for codec, style in CODEC_STYLES.items():
        sizes = [cut.payload_bytes[codec] / 1e3 for cut in facts.cuts]
        payload.step(cuts, sizes, style, where="mid", color="#999999", linewidth=1, label=codec)
    clean = {cut.cut: cut.payload_bytes["none"] / 1e3 for cut in facts.cuts if cut.clean}
    payload.plot(list(clean), list(clean.values()), ".", color="#D55E00", label="clean cut")
    payload.axhline(facts.cuts[0].payload_bytes["none"] / 1e3, color="black", linewidth=0.8, linestyle=":")
    payload.set_yscale("log")
    payload.set_ylabel("kB that cross the cut\n(dotted: the input)")
    payload.legend(frameon=False, ncols=4, fontsize=9)

    time.bar(layers, [1e3 * value for value in profile.layer_s], width=1.0, color="#56B4E9", label="layer")
    time.set_ylabel("ms of the layer")
    whole = time.twinx()
    whole.plot(cuts, [1e3 * value for value in profile.prefix_s], color="#0072B2", label="bottom")
    whole.plot(cuts, [1e3 * value for value in profile.suffix_s], color="#009E73", label="top")
    whole.set_ylabel("ms of the half")
    whole.set_ylim(bottom=0)
    whole.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
    time.set_xlabel("cut after layer")
    for axes in (flops, payload, time):
        tidy(axes)
    save_figure(figure, path, "choose another file with --figure FILE")
