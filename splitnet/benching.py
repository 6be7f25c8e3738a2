"""The main job: measure a model split at several cuts between two real workers, beside the unsplit model.

What is timed is defined in `measurement.py`. The cases (each cut, and the unsplit model on each worker) are run
in rounds, every round in a new seeded order, so that a drift of the machine meets all of them alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from splitnet.cuts import DEFAULT_COUNT, select_cuts
from splitnet.errors import SettingsError
from splitnet.measurement import BenchResult, CutRow, Sample
from splitnet.models.images import load_images
from splitnet.models.reference import ModelRef
from splitnet.rundir import RunWriter
from splitnet.session import Placement, SplitSession
from splitnet.wire.codecs import check_codec

DEFAULT_REPEATS = 20
DEFAULT_WARMUP = 3


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to measure, and how often.

    Attributes:
        cuts: see `cuts.py`: `all`, a count, `at:…`, a layer's name.
        codec: of the activations; results always go back unencoded.
        repeats: measured inferences per cut.
        warmup: inferences per cut before those.
        seed: of the order within each round.
        images: a picture, or a folder of them, as the input; None: the model's seeded example.
    """

    cuts: str = str(DEFAULT_COUNT)
    codec: str = "none"
    repeats: int = DEFAULT_REPEATS
    warmup: int = DEFAULT_WARMUP
    seed: int = 0
    images: Path | None = None

    def __post_init__(self) -> None:
        check_codec(self.codec)
        if self.repeats < 1:
            raise SettingsError(f"--repeats {self.repeats} is below 1")
        if self.warmup < 1:
            raise SettingsError(f"--warmup {self.warmup} is below 1; the first inference builds the halves")


@dataclass(slots=True)
class Progress:
    """Who is told how far the run is; the command line draws a bar from it."""

    say: Callable[[str], None] = lambda text: None
    step: Callable[[int, int, str], None] = lambda done, total, text: None


@dataclass(slots=True)
class _Case:
    """One thing that is measured every round: a cut, or the unsplit model on a worker."""

    cut: int | None
    role: str | None
    samples: list[Sample] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def bench(
    model: ModelRef | str,
    settings: BenchSettings | None = None,
    placement: Placement | None = None,
    *,
    runs: Path | None = Path("runs"),
    progress: Progress | None = None,
) -> BenchResult:
    """Measure one model at several cuts.

    Args:
        model: a name or a reference.
        runs: where the run's folder is made; None keeps nothing on disk.

    Raises:
        SplitnetError: bad settings, a model or worker that cannot be had, or no room for the run folder.
    """
    settings, progress = settings or BenchSettings(), progress or Progress()
    with SplitSession(model, placement, progress.say) as split:
        return bench_session(split, settings, runs=runs, progress=progress)


def bench_session(
    split: SplitSession,
    settings: BenchSettings,
    *,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Like `bench`, on workers that are already there."""
    progress = progress or Progress()
    indices = select_cuts(settings.cuts, split.cuts, split.model.name)
    if settings.images is not None:
        progress.say(f"reading {settings.images}")
        split.set_inputs([load_images(settings.images, split.input_shape)])
    described = _describe(split, settings)
    if runs is None:
        return _result(split, described, _measure(split, indices, settings, progress, lambda sample: None))
    with RunWriter(
        runs,
        model=split.model.name,
        layers=len(split.cuts) - 1,
        settings=described,
        machine=split.workers["gateway"]["machine"],
    ) as run:
        cases = _measure(split, indices, settings, progress, run.append)
        return run.finish(_result(split, described, cases))


def _measure(
    split: SplitSession,
    indices: list[int],
    settings: BenchSettings,
    progress: Progress,
    keep: Callable[[Sample], None],
) -> list[_Case]:
    cases = [_Case(cut, None) for cut in indices] + [_Case(None, "gateway"), _Case(None, "ap")]
    order = random.Random(settings.seed)
    rounds = settings.warmup + settings.repeats
    done = 0
    for number in range(-settings.warmup, settings.repeats):
        for case in order.sample(cases, len(cases)):
            text = "warming up" if number < 0 else f"round {number + 1} of {settings.repeats}"
            progress.step(done, rounds * len(cases), text)
            done += 1
            if case.role is not None:
                seconds = split.local(case.role)
                if number >= 0:
                    case.seconds.append(seconds)
            else:
                assert case.cut is not None
                sample = split.measure(case.cut, codec=settings.codec, repeat=max(number, 0))
                if number >= 0:
                    case.samples.append(sample)
                    keep(sample)
    progress.step(done, rounds * len(cases), "done")
    return cases


def _result(split: SplitSession, described: dict[str, Any], cases: list[_Case]) -> BenchResult:
    rows = [
        CutRow(
            cut=case.cut,
            layer=split.cuts[case.cut].layer,
            clean=split.cuts[case.cut].clean,
            payload_bytes=max(sample.sent_bytes for sample in case.samples),
            samples=tuple(case.samples),
        )
        for case in cases
        if case.cut is not None
    ]
    return BenchResult(
        model=split.model.name,
        layers=len(split.cuts) - 1,
        rows=tuple(rows),
        local_samples_s={case.role: tuple(case.seconds) for case in cases if case.role is not None},
        settings=described,
        run_dir=None,
    )


def _describe(split: SplitSession, settings: BenchSettings) -> dict[str, Any]:
    """The settings as they stand in the manifest: enough to repeat the run."""
    ref, placement, workers = split.model, split.placement, split.workers
    return {
        "weights": ref.weights,
        "random_weights": split.loaded.random_weights,
        "seed": ref.seed,
        "batch": ref.batch,
        "input_shape": list(split.input_shape),
        "input": str(settings.images) if settings.images else "seeded example",
        "cuts": settings.cuts,
        "codec": settings.codec,
        "repeats": settings.repeats,
        "warmup": settings.warmup,
        "order_seed": settings.seed,
        "link": str(placement.link),
        "checksum": split.checksum,
        "shared_clock": split.connected.shared_clock,
        "frontend": split.loaded.frontend,
        "graph": split.loaded.graph,
        "weights_digest": split.loaded.weights,
        "gateway_device": workers["gateway"]["device"],
        "gateway_threads": workers["gateway"]["threads"],
        "ap_device": workers["ap"]["device"],
        "ap_threads": workers["ap"]["threads"],
        "ap_machine": workers["ap"]["machine"],
        "versions": {"torch": str(torch.__version__)},
    }
