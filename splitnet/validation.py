"""What validation found: cases, each predicted by several latency models and measured, and how wrong those were.

Follows MODEL.md section 5: cases are judged by cut, model and link, never by repeat; components and the whole; ranks;
regret on the second half of the repeats, with what of it is more than noise; the noise floor beside every error. What
is predicted and what is measured share one type, and one statistic over the repeats, the interquartile mean: on a
machine of two speeds a median jumps from one to the other. Median, p95 and coefficient of variation stand beside it.
All errors, shares and regrets are fractions. Knows nothing of workers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from splitnet.controller.accuracy import Errors, Regret, errors, noise_floor, regret, spearman, top1
from splitnet.measurement import interquartile_mean, percentile

SMALL = 0.01
"""A component is judged where it is at least this share of the whole; below, its relative error means nothing."""
COMPONENTS = ("gateway_s", "link_s", "ap_s")
SEED = 0
"""Of the intervals of regrets; each starts from it, so that one choice is judged alike in whatever company."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one split inference, measured or predicted.

    Attributes:
        gateway_s: the bottom's forward pass.
        link_s: all that is neither half: encoding, both ways, queueing, decoding.
        ap_s: the top's forward pass.
    """

    gateway_s: float
    link_s: float
    ap_s: float

    @property
    def total_s(self) -> float:
        return self.gateway_s + self.link_s + self.ap_s


@dataclass(frozen=True, slots=True)
class Case:
    """One cut of one model on one link.

    Attributes:
        samples: one of each round over all cuts, in the order in which they were measured; even and odd ones are the
            two independent halves.
        predicted: by predictor, the interquartile mean of what was said before each sample.
    """

    model: str
    batch: int
    link: str
    codec: str
    cut: int
    layer: str
    sent_bytes: int
    samples: tuple[Parts, ...]
    predicted: dict[str, Parts]

    def __post_init__(self) -> None:
        if len(self.samples) < 4:
            raise ValueError(f"a case needs at least four samples, cut {self.cut} has {len(self.samples)}")

    @property
    def group(self) -> tuple[str, int, str, str]:
        """Cases that differ in the cut alone: what a user chooses among."""
        return (self.model, self.batch, self.link, self.codec)

    def measured_s(self, component: str, half: int | None = None) -> float:
        """Interquartile mean of a component, over all samples or over one of the two halves (0, 1)."""
        chosen = self.samples if half is None else self.samples[half::2]
        return interquartile_mean([getattr(sample, component) for sample in chosen])

    def totals_s(self, half: int) -> list[float]:
        """Totals of one of the two halves (0, 1), in the order in which they were measured."""
        return [sample.total_s for sample in self.samples[half::2]]

    def to_dict(self) -> dict[str, Any]:
        """One case of the JSON, raw samples included."""
        totals = [sample.total_s for sample in self.samples]
        return {
            "model": self.model,
            "batch": self.batch,
            "link": self.link,
            "codec": self.codec,
            "cut": self.cut,
            "layer": self.layer,
            "sent_bytes": self.sent_bytes,
            "measured": {name: self.measured_s(name) for name in (*COMPONENTS, "total_s")},
            "total_median_s": statistics.median(totals),
            "total_p95_s": percentile(totals, 95),
            "total_cv": statistics.pstdev(totals) / statistics.fmean(totals),
            "predicted": {
                name: {**asdict(parts), "total_s": parts.total_s} for name, parts in self.predicted.items()
            },
            "samples": [asdict(sample) for sample in self.samples],
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one predictor did.

    Attributes:
        components: `end_to_end`, `gateway`, `link`, `ap`; None where no case is large enough to be judged.
        spearman, top1: means over groups; None where no group can be ranked.
        regrets: one of each group, at least one.
    """

    components: dict[str, Errors | None]
    spearman: float | None
    top1: float
    regrets: tuple[Regret, ...]

    @property
    def regret_figures(self) -> dict[str, float | int | None]:
        """What counts as regret, what was measured, and from where on the run could tell one from noise.

        `choices_apart` counts the choices in which another cut was predicted than the first half's best. On these
        the resolution rests, which is None where there are none.
        """
        counted, raw = [one.counted for one in self.regrets], [one.raw for one in self.regrets]
        widths = [one.resolution for one in self.regrets if one.resolution is not None]
        return {
            "choices": len(self.regrets),
            "choices_apart": len(widths),
            "regret_median": float(np.median(counted)),
            "regret_p95": percentile(counted, 95),
            "regret_raw_median": float(np.median(raw)),
            "regret_raw_p95": percentile(raw, 95),
            "regret_resolution": float(np.median(widths)) if widths else None,
            "regret_resolution_p95": percentile(widths, 95) if widths else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """One predictor of the JSON."""
        return {
            **{name: asdict(found) if found else None for name, found in self.components.items()},
            "spearman": self.spearman,
            "top1": self.top1,
            **self.regret_figures,
        }


@dataclass(frozen=True, slots=True)
class Validation:
    """All cases of one run.

    Attributes:
        settings: what was asked, and on which machines.
        drift: by model, batch and role, how much slower the last passes of the run were than the first (a ratio),
            or than the profile's where one was given.
    """

    cases: tuple[Case, ...]
    settings: dict[str, Any]
    drift: dict[str, float]

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError("a validation needs at least one case")
        for group, cases in self.groups().items():
            counts = sorted({len(case.samples) for case in cases})
            if len(counts) > 1:
                raise ValueError(f"cases of {group} are compared round by round, but have {counts} samples")

    @property
    def predictors(self) -> tuple[str, ...]:
        return tuple(self.cases[0].predicted)

    def noise_floor(self, component: str = "total_s") -> float | None:
        """How far the two halves of the repeats lie apart on average, over the cases that count; a fraction."""
        return _noise(self.cases, component)

    def groups(self) -> dict[tuple[str, int, str, str], list[Case]]:
        """Cases by model, batch, link and codec, in the order of their cuts."""
        found: dict[tuple[str, int, str, str], list[Case]] = {}
        for case in sorted(self.cases, key=lambda case: case.cut):
            found.setdefault(case.group, []).append(case)
        return found

    def judge(self, predictor: str, only: Callable[[Case], bool] = lambda case: True) -> Judgement:
        """Errors and ranks of one predictor, over the cases that `only` picks."""
        groups = [chosen for cases in self.groups().values() if (chosen := [case for case in cases if only(case)])]
        cases = [case for group in groups for case in group]
        if not cases:
            raise ValueError("no case to judge")
        ranks, hits, regrets = [], [], []
        for group in groups:
            totals = [case.predicted[predictor].total_s for case in group]
            first, second = ([case.totals_s(half) for case in group] for half in (0, 1))
            rank = spearman(totals, [case.measured_s("total_s") for case in group])
            ranks += [] if rank is None else [rank]
            hits.append(top1(totals, *([case.measured_s("total_s", half) for case in group] for half in (0, 1))))
            regrets.append(regret(totals, first, second, np.random.default_rng(SEED)))
        names = ("total_s", *COMPONENTS)
        return Judgement(
            components={
                "end_to_end" if name == "total_s" else name.removesuffix("_s"): _errors(cases, predictor, name)
                for name in names
            },
            spearman=statistics.fmean(ranks) if ranks else None,
            top1=statistics.fmean(hits),
            regrets=tuple(regrets),
        )

    def to_dict(self) -> dict[str, Any]:
        """The object that `splitnet validate --json` prints."""
        return {
            "predictors": {name: self.judge(name).to_dict() for name in self.predictors},
            "noise_floor": {
                "end_to_end": self.noise_floor(),
                **{name.removesuffix("_s"): self.noise_floor(name) for name in COMPONENTS},
            },
            "drift": self.drift,
            "settings": self.settings,
            "cases": [case.to_dict() for case in self.cases],
        }


def _counts(case: Case, component: str) -> bool:
    return case.measured_s(component) >= SMALL * case.measured_s("total_s")


def _errors(cases: Sequence[Case], predictor: str, component: str) -> Errors | None:
    judged = [case for case in cases if _counts(case, component)]
    if not judged:
        return None
    return errors(
        [getattr(case.predicted[predictor], component) for case in judged],
        [case.measured_s(component) for case in judged],
    )


def _noise(cases: Sequence[Case], component: str) -> float | None:
    judged = [case for case in cases if _counts(case, component)]
    if not judged:
        return None
    return noise_floor(*([case.measured_s(component, half) for case in judged] for half in (0, 1)))
