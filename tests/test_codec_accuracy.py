"""What codecs cost in accuracy: on nets and pictures whose answer is known by hand. scikit-learn is not needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.codec_accuracy import main, measure, run
from benchmarks.codec_report import Crossing, NetAccuracy
from benchmarks.digit_nets import (
    CLASSES,
    NETS,
    Pictures,
    load_digits,
    split_pictures,
    trained,
)
from splitnet.errors import SplitnetError
from splitnet.models.seeding import seeded
from splitnet.wire.codecs import CODECS
from splitnet.wire.decoding import decode_values


class TwoScores(nn.Module):
    """Of [B, 1, 2, 2] the first two numbers are the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.fc = nn.Linear(4, 2, bias=False)
        self.fc.weight = nn.Parameter(torch.eye(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.flat(x))
        return out


def noise(count: int, seed: int = 3) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=generator)
    return Pictures(images, torch.randint(CLASSES, (count,), generator=generator))


def found(one: NetAccuracy, codec: str) -> list[Crossing]:
    return [crossing for crossing in one.crossings if crossing.codec == codec]


def test_changed_predictions_are_those_counted_by_hand() -> None:
    # 0..255 gives int8 a step of 1: 0.9 and 1.1 become the same 1, and of equals the first is taken.
    # The last picture alone keeps its two apart, its step being 1.1 / 255; in a pair it shares the step of 1.
    rows = [[5.0, 1.0, 0.0, 255.0], [0.9, 1.1, 0.0, 255.0], [5.0, 1.0, 0.0, 255.0], [1.0, 1.1, 0.0, 0.0]]
    pictures = Pictures(torch.tensor(rows).view(4, 1, 2, 2), torch.tensor([0, 0, 0, 1]))
    alone = measure(TwoScores(), pictures, name="two scores")
    paired = measure(TwoScores(), pictures, name="two scores", batch=2)
    assert alone.predictions == paired.predictions == (0, 1, 0, 1)
    assert alone.top1 == 3 / 4
    assert alone.margins == pytest.approx((4.0, 0.2, 4.0, 0.1))
    for codec in ("none", "fp16"):
        assert not any(crossing.changed for crossing in found(alone, codec) + found(paired, codec))
    for codec in ("int8", "int8+lz4"):
        assert [crossing.changed for crossing in found(alone, codec)] == [{1: 0}, {1: 0}]
        assert [crossing.changed for crossing in found(paired, codec)] == [{1: 0, 3: 0}, {1: 0, 3: 0}]
    first = found(alone, "int8")[0]
    assert alone.kept(first.changed) == 3 / 4
    assert alone.split_top1(first.changed) == 1  # the prediction that changed was wrong before
    assert first.max_error == pytest.approx(0.1)
    # 4 levels of 0..255 are 85 apart, those of 0..1.1 are 0.37 apart, where 1.0 becomes 1.1
    assert alone.controls == paired.controls == {0: {1: 0, 3: 0}, 1: {1: 0, 3: 0}}


def test_the_errors_stay_within_the_bounds_of_the_codecs() -> None:
    with seeded(1):
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, CLASSES)).eval()
    pictures = noise(5)
    one = measure(net, pictures, name="tiny")
    with torch.no_grad():
        live = net[1](net[0](pictures.images))  # [5, 3, 6, 6]
    weight = net[3].weight
    assert isinstance(weight, Tensor)
    gain = weight.detach().abs().sum(dim=1).max().item()  # how much of an input's error can reach an output
    half_step = max((picture.max() - picture.min()).item() for picture in live) / 255 / 2
    bounds = {"none": 0.0, "fp16": live.max().item() * 2**-11 * gain, "int8": half_step * gain}
    bounds["int8+lz4"] = bounds["int8"]
    for codec, bound in bounds.items():
        (crossing,) = [crossing for crossing in found(one, codec) if crossing.cut == 2]
        assert bound / 50 <= crossing.max_error <= bound * 1.001


def test_bytes_are_those_of_the_dtype() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, CLASSES)).eval()
    one = measure(net, noise(7), name="tiny", batch=3)  # the last batch has one picture
    for number, numel in enumerate((64, 108, 108)):
        at_cut = one.by_cut()[number]
        assert [at_cut[codec].payload_bytes for codec in ("none", "fp16", "int8")] == [
            7 * numel * width for width in (4, 2, 1)
        ]
        assert one.point_bytes(at_cut["fp16"]) == 2 * numel
        assert 0 < at_cut["int8+lz4"].payload_bytes <= 7 * numel
        assert at_cut["int8+lz4"].max_error == at_cut["int8"].max_error
    assert {crossing.cut for crossing in one.crossings} == {0, 1, 2}  # nothing crosses at the last cut, 3
    assert all(len(crossing.encode_s) == 3 for crossing in one.crossings)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch", [1, 2])
def test_codec_none_keeps_every_bit_of_both_nets(name: str, batch: int) -> None:
    net = trained(NETS[name], noise(4), epochs=1, seed=0)
    one = measure(net, noise(3, seed=4), name=name, batch=batch)
    assert len(one.by_cut()) > 10
    assert all(set(at_cut) == set(CODECS) for at_cut in one.by_cut())
    assert all(crossing.max_error == 0 and not crossing.changed for crossing in found(one, "none"))
    assert all(crossing.max_error > 0 for crossing in found(one, "int8"))


def test_a_codec_none_that_loses_a_bit_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def worn(*args: Any, **kwargs: Any) -> list[Tensor]:
        (tensor,) = decode_values(*args, **kwargs)
        return [tensor * (1 + 2**-20)]

    monkeypatch.setattr("benchmarks.codec_accuracy.decode_values", worn)
    with pytest.raises(RuntimeError, match="tiny cut 0, after input, does not give the unsplit model's bits"):
        measure(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)), noise(1), name="tiny")


def test_the_split_of_the_pictures_leaves_none_out_and_repeats_none() -> None:
    images = torch.arange(30, dtype=torch.float32).view(30, 1, 1, 1)
    every = Pictures(images, torch.arange(30))
    train, test = split_pictures(every, torch.Generator().manual_seed(0))
    assert (len(train), len(test)) == (20, 10)
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == list(range(30))
    assert torch.equal(train.images.flatten().long(), train.labels)
    again, _ = split_pictures(every, torch.Generator().manual_seed(0))
    assert torch.equal(again.labels, train.labels)
    assert train.labels.tolist() != list(range(20))


@pytest.mark.parametrize("name", NETS)
def test_training_learns_and_repeats_itself(name: str) -> None:
    # class k is a bright column k: a net that learns anything learns that
    labels = torch.arange(256) % 8
    images = noise(256).images / 2
    images[torch.arange(256), 0, :, labels] += 1
    pictures = Pictures(images, labels)
    net, again = (trained(NETS[name], pictures, epochs=12, seed=5) for _ in range(2))
    assert not net.training
    with torch.no_grad():
        scores = net(images)
        assert torch.equal(scores, again(images))
    assert (scores.argmax(1) == labels).float().mean().item() > 0.9


def test_a_run_writes_raw_figures_and_a_picture_and_shows_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.codec_accuracy.load_digits", lambda: noise(9))
    run(epochs=1, batch=2, seed=0, output=tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    assert {"machine", "seed", "epochs", "batch", "train_s"} <= written.keys()
    assert [net["net"] for net in written["nets"]] == list(NETS)
    assert (written["train_pictures"], written["test_pictures"]) == (6, 3)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert shown.count("blocks.0.add") == 2
    assert "int8+lz4" in shown


def test_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SplitnetError, match=r"scikit-learn, which is not installed; .*'\.\[benchmark\]'") as caught:
        load_digits()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(sys, "argv", ["codec_accuracy", "--output", str(tmp_path / "found.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_records_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="1 predictions do not fit 2 labels"):
        NetAccuracy("net", (0, 1), (0,), (0.5, 0.5), (), {})
    with pytest.raises(ValueError, match="2 times of encoding and 1 of decoding"):
        Crossing(0, "input", "none", {}, 0.0, 4, (1e-6, 1e-6), (1e-6,))
    with pytest.raises(ValueError, match="2 images need as many int64 labels"):
        Pictures(torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="images must be float32"):
        Pictures(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
