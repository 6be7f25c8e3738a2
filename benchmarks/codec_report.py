"""What `codec_accuracy` found: its records, and how they are shown on the terminal and in a picture.

Shares and medians are made here, from raw figures; how those come about is not known here.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import WAY_OUT
from splitnet.report.drawing import new_figure, save_figure, shorten, tidy
from splitnet.wire.codecs import CODECS

CONTROL_LEVELS = 4
CONTROL = f"{CONTROL_LEVELS} levels"
COLOURS = {"none": "black", "fp16": "#0072B2", "int8": "#E69F00", "int8+lz4": "#009E73"}
MARKS = {"none": "o", "fp16": "s", "int8": "^", "int8+lz4": "v"}


@dataclass(frozen=True, slots=True)
class Crossing:
    """A whole test set that crossed one cut in one codec.

    Attributes:
        changed: predictions that are not the unsplit model's, by the picture's place in the test set.
        max_error: largest absolute difference of any output from the unsplit model's.
        payload_bytes: of all pictures together, after the codec.
        encode_s, decode_s: of each timed batch.
    """

    cut: int
    layer: str
    codec: str
    changed: dict[int, int]
    max_error: float
    payload_bytes: int
    encode_s: tuple[float, ...]
    decode_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.encode_s or len(self.encode_s) != len(self.decode_s):
            raise ValueError(f"{len(self.encode_s)} times of encoding and {len(self.decode_s)} of decoding")


@dataclass(frozen=True, slots=True)
class NetAccuracy:
    """One net, unsplit and through every clean cut and codec.

    Attributes:
        predictions: the unsplit model's, one a picture.
        margins: by how much the unsplit model's largest output exceeds its second, one a picture. No error below
            half of it can change the prediction.
        controls: predictions changed by rounding to `CONTROL_LEVELS`, by cut and the picture's place.
    """

    net: str
    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    margins: tuple[float, ...]
    crossings: tuple[Crossing, ...]
    controls: dict[int, dict[int, int]]

    def __post_init__(self) -> None:
        if not 0 < len(self.labels) == len(self.predictions) == len(self.margins):
            raise ValueError(f"{len(self.predictions)} predictions do not fit {len(self.labels)} labels")

    @property
    def top1(self) -> float:
        """Share of pictures that the unsplit model gets right."""
        return self._top1(self.predictions)

    def split_top1(self, changed: Mapping[int, int]) -> float:
        """Share of pictures that are right with these changes."""
        return self._top1([changed.get(place, old) for place, old in enumerate(self.predictions)])

    def kept(self, changed: Mapping[int, int]) -> float:
        """Share of pictures whose prediction is the unsplit model's."""
        return 1 - len(changed) / len(self.labels)

    def point_bytes(self, crossing: Crossing) -> float:
        """Mean payload of one picture."""
        return crossing.payload_bytes / len(self.labels)

    def by_cut(self) -> list[dict[str, Crossing]]:
        """The crossings of each cut, by codec."""
        cuts: dict[int, dict[str, Crossing]] = {}
        for crossing in self.crossings:
            cuts.setdefault(crossing.cut, {})[crossing.codec] = crossing
        return list(cuts.values())

    def to_dict(self) -> dict[str, Any]:
        """Raw figures, and beside each crossing the shares that follow from them."""
        return {
            "net": self.net,
            "top1": self.top1,
            "labels": self.labels,
            "predictions": self.predictions,
            "margins": self.margins,
            "crossings": [
                {
                    "cut": crossing.cut,
                    "layer": crossing.layer,
                    "codec": crossing.codec,
                    "top1": self.split_top1(crossing.changed),
                    "kept": self.kept(crossing.changed),
                    "changed": crossing.changed,
                    "max_error": crossing.max_error,
                    "payload_bytes": crossing.payload_bytes,
                    "point_bytes": self.point_bytes(crossing),
                    "encode_s": crossing.encode_s,
                    "decode_s": crossing.decode_s,
                }
                for crossing in self.crossings
            ],
            "controls": [
                {"cut": cut, "levels": CONTROL_LEVELS, "kept": self.kept(changed), "changed": changed}
                for cut, changed in self.controls.items()
            ],
        }

    def _top1(self, predictions: Sequence[int]) -> float:
        right = sum(one == label for one, label in zip(predictions, self.labels, strict=True))
        return right / len(self.labels)


def show(measured: Sequence[NetAccuracy], batch: int) -> None:
    """Print what follows from raw results."""
    console = Console(width=118, highlight=False)
    for one in measured:
        console.print(_accuracy_table(one, batch))
        console.print(_cost_table(one, batch))


def _accuracy_table(one: NetAccuracy, batch: int) -> Table:
    lossy = [codec for codec in CODECS if codec != "none"]
    table = Table(
        title=f"{one.net}, batch {batch}: top-1 {one.top1:.2%} of {len(one.labels)}, unsplit and in codec none",
        caption=f"Margin between the two largest outputs: median {statistics.median(one.margins):.2f}, "
        f"least {min(one.margins):.3f}. Codec none gives the same bits.",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("cut", justify="right")
    table.add_column("layer", no_wrap=True)
    for codec in lossy:
        for head in (f"{codec}\ntop-1", "\nkept", "\nerror"):
            table.add_column(head, justify="right")
    table.add_column(f"{CONTROL}\nkept", justify="right")
    for crossings in one.by_cut():
        cells = _place(crossings)
        for codec in lossy:
            found = crossings[codec]
            shares = (one.split_top1(found.changed), one.kept(found.changed))
            cells += [*(f"{share:.1%}" for share in shares), f"{found.max_error:.2g}"]
        cells.append(f"{one.kept(one.controls[crossings['none'].cut]):.1%}")
        table.add_row(*cells)
    return table


def _cost_table(one: NetAccuracy, batch: int) -> Table:
    table = Table(
        title=f"{one.net}, batch {batch}: bytes of a picture, encode and decode of a batch in us (medians)",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("cut", justify="right")
    table.add_column("layer", no_wrap=True)
    for codec in CODECS:
        for head in (f"{codec}\nbytes", "\nenc", "\ndec"):
            table.add_column(head, justify="right")
    for crossings in one.by_cut():
        cells = _place(crossings)
        for codec in CODECS:
            found = crossings[codec]
            times = (statistics.median(taken) * 1e6 for taken in (found.encode_s, found.decode_s))
            cells += [f"{one.point_bytes(found):,.0f}", *(f"{taken:.0f}" for taken in times)]
        table.add_row(*cells)
    return table


def _place(crossings: dict[str, Crossing]) -> list[str]:
    first = crossings["none"]
    return [str(first.cut), shorten(first.layer, 24)]


def draw(measured: Sequence[NetAccuracy], path: Path) -> None:
    """Bytes of a picture against the largest error of the output, a mark per cut and codec, a panel per net."""
    figure = new_figure(5.2 * len(measured), 4.4)
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, one in zip(panels, measured, strict=True):
        for codec in CODECS:
            found = [crossings[codec] for crossings in one.by_cut()]
            axes.plot(
                [one.point_bytes(crossing) for crossing in found],
                [crossing.max_error for crossing in found],
                MARKS[codec],
                color=COLOURS[codec],
                label=codec,
                alpha=0.75,
                markeredgewidth=0,
            )
        axes.axhline(
            min(one.margins) / 2,
            color="#999999",
            linestyle="--",
            linewidth=1,
            label="half the least margin: below it\nno prediction can change",
        )
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=5e-4)
        axes.set_xlabel("bytes of a picture after the codec")
        axes.set_title(f"{one.net}: top-1 {one.top1:.2%} unsplit", fontsize=10)
        tidy(axes)
    panels[0].set_ylabel("largest error of the output")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    save_figure(figure, path, WAY_OUT)
