"""What codecs cost in accuracy: two small nets are trained, then the test set crosses every clean cut in every codec.

    .venv/bin/python -m benchmarks.codec_accuracy        some 2 minutes; needs the extra `benchmark`

Every test picture crosses as a gateway would send it, one at a time (or `--batch` of them): bottom, `encode_values`,
the bytes into other memory, `decode_values`, top. An int8 tensor has one scale, so a batch shares it. *top-1* is
against the labels, *kept* counts predictions that equal the unsplit model's, *error* is the largest absolute
difference of any output from the unsplit model's. Codec `none` must give the unsplit model's bits, or the run fails.
The last cut is left out: nothing crosses there. As a control, that a loss would be seen, the tensor is also rounded
to 4 levels, which no codec does.

*encode* is `encode_values` alone, right after a forward pass, *decode* is `decode_values` alone, from a body just
written; a first batch in each codec is not counted, then codecs take turns in a new order for every batch.

It does not know sockets and links (`splitnet bench --codec` does), pictures larger than 8x8, nor what retraining
behind a codec would win back. Digits are an easy task with wide margins: a harder one loses more.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.codec_report import CONTROL_LEVELS, Crossing, NetAccuracy, draw, show
from benchmarks.command_line import keep, parser_of
from benchmarks.digit_nets import NETS, Pictures, load_digits, split_pictures, trained
from splitnet.errors import SplitnetError
from splitnet.graph import Cut, layer_graph
from splitnet.inference import bitwise_equal, exact_inference, max_abs_error
from splitnet.profiling.machine import machine_fingerprint
from splitnet.slicing import Bottom, Top
from splitnet.terminal import Terminal
from splitnet.wire.codecs import CODECS
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import Encoded, encode_values
from splitnet.wire.frames import allocate_body

TIMED = 20
"""Batches whose times are kept, the first ones, of each cut and codec."""
MAX_VALUE_BYTES = 1 << 28
CPU = torch.device("cpu")

Step = Callable[[int, int, str], None]


def measure(
    net: nn.Module, test: Pictures, *, name: str, batch: int = 1, seed: int = 0, step: Step = lambda *_: None
) -> NetAccuracy:
    """`test` through `net`, unsplit and through every clean cut in every codec, `batch` pictures at a time.

    `net` gives scores [B, classes]; it is put into eval mode. `seed` draws the order in which codecs take turns.

    Raises:
        RuntimeError: codec `none` did not give the unsplit model's bits: a defect of splitnet.
    """
    batches = test.images.split(batch)
    graph = layer_graph(net, batches[0], name=name)
    with exact_inference():
        outputs = [net(images.clone()) for images in batches]
    order = random.Random(seed)
    # At the last cut only the finished output is left, and no worker sends that as a payload.
    cuts = [cut for cut in graph.cuts[:-1] if cut.clean and not cut.refused]
    crossings: list[Crossing] = []
    controls: dict[int, dict[int, int]] = {}
    for done, cut in enumerate(cuts):
        step(done, len(cuts), f"{name}, cut {cut.index}")
        bottom, top = Bottom(graph, cut), Top(graph, cut)
        tallies = {codec: _Tally() for codec in CODECS}
        control: dict[int, int] = {}
        with exact_inference():
            for number in range(-1, len(batches)):
                live = bottom.run(graph.trace.flatten_inputs((batches[max(number, 0)].clone(),), {}))
                for codec in order.sample(CODECS, len(CODECS)):
                    crossed = _cross(live, codec, top)
                    if number < 0:
                        continue
                    if codec == "none" and not bitwise_equal(crossed.output, outputs[number]):
                        raise RuntimeError(
                            f"{name} cut {cut.index}, after {cut.layer}, does not give the unsplit model's bits"
                        )
                    tallies[codec].add(crossed, outputs[number], number * batch)
                if number >= 0:
                    (rounded,) = top.run(pytree.tree_map(_coarse, live))
                    control |= _changed(rounded, outputs[number], number * batch)
        crossings += [tallies[codec].crossing(cut, codec) for codec in CODECS]
        controls[cut.index] = control
    whole = torch.cat(outputs)
    best = whole.topk(2, dim=1).values
    return NetAccuracy(
        net=name,
        labels=tuple(test.labels.tolist()),
        predictions=tuple(whole.argmax(1).tolist()),
        margins=tuple((best[:, 0] - best[:, 1]).tolist()),
        crossings=tuple(crossings),
        controls=controls,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Crossed:
    """One batch on the other side."""

    output: Tensor
    payload_bytes: int
    encode_s: float
    decode_s: float


def _cross(live: Sequence[Any], codec: str, top: Top) -> _Crossed:
    start_ns = time.monotonic_ns()
    encoded = encode_values(live, codec)
    encoded_ns = time.monotonic_ns()
    body = _body(encoded)
    received_ns = time.monotonic_ns()
    arrived = decode_values(encoded.specs, body, CPU, max_bytes=MAX_VALUE_BYTES)
    decoded_ns = time.monotonic_ns()
    (output,) = top.run(arrived)
    return _Crossed(output, encoded.payload_bytes, (encoded_ns - start_ns) / 1e9, (decoded_ns - received_ns) / 1e9)


def _coarse(value: Any) -> Any:
    """A floating tensor rounded to `CONTROL_LEVELS` between its least and its largest number; others as they are."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    low, high = torch.aminmax(value)
    step = (high - low) / (CONTROL_LEVELS - 1)
    return torch.where(step > 0, ((value - low) / step).round() * step + low, value)


def _body(encoded: Encoded) -> Tensor:
    """The encoded bytes in memory of their own, as a receiver has them."""
    body = allocate_body(sum(len(memoryview(buffer)) for buffer in encoded.buffers))
    room, filled = memoryview(body.numpy().data), 0
    for buffer in encoded.buffers:
        room[filled : filled + len(memoryview(buffer))] = buffer
        filled += len(memoryview(buffer))
    return body


def _changed(output: Tensor, unsplit: Tensor, first: int) -> dict[int, int]:
    """New predictions where they differ, by place; the batch starts at place `first`."""
    pairs = zip(output.argmax(1).tolist(), unsplit.argmax(1).tolist(), strict=True)
    return {place: new for place, (new, old) in enumerate(pairs, start=first) if new != old}


class _Tally:
    """What adds up while a test set crosses one cut in one codec."""

    def __init__(self) -> None:
        self.changed: dict[int, int] = {}
        self.max_error = 0.0
        self.payload_bytes = 0
        self.encode_s: list[float] = []
        self.decode_s: list[float] = []

    def add(self, crossed: _Crossed, unsplit: Tensor, first: int) -> None:
        self.max_error = max(self.max_error, max_abs_error(crossed.output, unsplit))
        self.changed |= _changed(crossed.output, unsplit, first)
        self.payload_bytes += crossed.payload_bytes
        if len(self.encode_s) < TIMED:
            self.encode_s.append(crossed.encode_s)
            self.decode_s.append(crossed.decode_s)

    def crossing(self, cut: Cut, codec: str) -> Crossing:
        return Crossing(
            cut=cut.index,
            layer=cut.layer,
            codec=codec,
            changed=self.changed,
            max_error=self.max_error,
            payload_bytes=self.payload_bytes,
            encode_s=tuple(self.encode_s),
            decode_s=tuple(self.decode_s),
        )


def main() -> None:
    parser = parser_of(__doc__, "codec_accuracy")
    parser.add_argument("--epochs", type=_above_zero, default=30, help="passes over the training pictures")
    parser.add_argument("--batch", type=_above_zero, default=1, help="pictures that cross together")
    parser.add_argument("--seed", type=int, default=0, help="draws the split, the weights and the order")
    options = parser.parse_args()
    try:
        run(options.epochs, options.batch, options.seed, options.output)
    except SplitnetError as error:
        parser.exit(2, f"{error}\n")


def run(epochs: int, batch: int, seed: int, output: Path) -> None:
    """Train, measure, write and show. Raises SplitnetError for what a user can mend."""
    torch.set_num_threads(1)
    train, test = split_pictures(load_digits(), torch.Generator().manual_seed(seed))
    results: dict[str, Any] = {
        "machine": machine_fingerprint(),
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "train_pictures": len(train),
        "test_pictures": len(test),
        "train_s": {},
    }
    measured = []
    with Terminal().progress("training") as step:
        for name, factory in NETS.items():
            step(0, 0, f"training the {name}")
            start_ns = time.monotonic_ns()
            net = trained(factory, train, epochs=epochs, seed=seed)
            results["train_s"][name] = (time.monotonic_ns() - start_ns) * 1e-9
            measured.append(measure(net, test, name=name, batch=batch, seed=seed, step=step))
    results["nets"] = [one.to_dict() for one in measured]
    keep(results, output)
    draw(measured, output.with_suffix(".png"))
    show(measured, batch)


def _above_zero(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    main()
