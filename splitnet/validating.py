"""Validation with real workers: calibrate, predict, measure, and again, until every case has its repeats.

A run goes in blocks. Each block calibrates what it needs (passes of the whole model on both workers, halves at anchor
cuts that are not judged, probes of the link), predicts every case from what has been calibrated so far, and only then
measures them, interleaved. So a drift of the machine meets prediction and measurement alike, and nothing is fitted
to what it is judged on.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from splitnet.benching import Progress
from splitnet.controller.latency import DeviceLatency, FlopsLatency, Seconds, fit_flops
from splitnet.controller.layer_latency import fit_layers
from splitnet.controller.link_model import LinkModel, ProbePoint, fit_link
from splitnet.cuts import select_cuts
from splitnet.errors import SettingsError
from splitnet.inference import exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.probing import probe_link
from splitnet.profiling.corpus import Corpus
from splitnet.profiling.facts import ModelFacts, ModelIdentity, model_facts
from splitnet.profiling.profile import Profile, correction, pass_medians
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.runtime.link import Link
from splitnet.session import Placement, SplitSession
from splitnet.validation import Case, Parts, Validation
from splitnet.wire.codecs import check_codec

ROLES = ("gateway", "ap")
ANCHORS = 8
PASSES = 5
"""Passes of the whole model on each worker in every calibration."""
FIRST_PROBES, LATER_PROBES = 4, 2


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """What to judge.

    Attributes:
        cuts: as for `bench`: a count, `all`, `at:…`.
        clean: choose among cuts where one tensor crosses.
        links: each measured in every block.
        codecs: of the activations.
        repeats: measured inferences of every case, spread over the blocks.
        blocks: how often calibration is repeated.
        seed: of the order of cases.
        strict: refuse profiles and calibrations of other machines instead of warning.
    """

    cuts: str = "12"
    clean: bool = False
    links: tuple[Link, ...] = (Link(), Link.parse("50mbit"))
    codecs: tuple[str, ...] = ("none",)
    repeats: int = 20
    blocks: int = 4
    seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        for codec in self.codecs:
            check_codec(codec)
        if not self.links or not self.codecs:
            raise SettingsError("no link or no codec to validate; give --links loopback or --codecs none")
        for what, named in (("link", list(map(str, self.links))), ("codec", list(self.codecs))):
            twice = next((name for name in named if named.count(name) > 1), None)
            if twice is not None:
                raise SettingsError(f"{what} {twice} is named twice; name each once")
        if self.repeats < 4:
            raise SettingsError(f"--repeats {self.repeats} is below 4; two halves of two are the least to judge by")
        if not 1 <= self.blocks <= self.repeats:
            raise SettingsError(f"--blocks {self.blocks} is outside 1..{self.repeats}, the number of repeats")


@dataclass(frozen=True, slots=True)
class Sources:
    """What predictions may draw on beside the run's own calibration, by role (`gateway`, `ap`).

    Attributes:
        profiles: saved profiles, by model and role; a model without them is calibrated in the run.
        corpora: for the per-layer model; without both it is left out.
    """

    profiles: Mapping[tuple[str, str], Profile] = field(default_factory=dict)
    corpora: Mapping[str, Corpus] = field(default_factory=dict)


@dataclass(slots=True)
class _Calibration:
    """What is known of one worker and model so far."""

    passes: list[list[list[int]]] = field(default_factory=list)
    """By block, the layers of each pass in ns."""
    off_ns: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """By anchor, what bottom and top took more than the passes of the same block said."""

    def add(self, passes: list[list[int]], halves: Mapping[int, tuple[int, int]]) -> None:
        self.passes.append(passes)
        prefix, suffix = pass_medians(passes)
        for cut, (bottom, top) in halves.items():
            self.off_ns.setdefault(cut, []).append((bottom - prefix[cut], top - suffix[cut]))

    def halves_s(self) -> tuple[Seconds, Seconds]:
        """Bottoms and tops by the last block's passes, corrected by what anchors have shown in all blocks."""
        prefix, suffix = pass_medians(self.passes[-1])
        if self.off_ns:
            at = np.array(list(self.off_ns))
            off = np.array([np.median(found, axis=0) for found in self.off_ns.values()])
            prefix = prefix + correction(prefix[at], off[:, 0], prefix)
            suffix = suffix + correction(suffix[at], off[:, 1], suffix)
        return np.maximum(prefix, 0) * 1e-9, np.maximum(suffix, 0) * 1e-9

    def whole_s(self, block: int) -> float:
        return statistics.median(sum(layers) for layers in self.passes[block]) * 1e-9


@dataclass(slots=True)
class _Running:
    """A case while it is measured."""

    link: Link
    codec: str
    cut: int
    samples: list[Parts] = field(default_factory=list)
    said: dict[str, list[Parts]] = field(default_factory=dict)
    links_s: list[float] = field(default_factory=list)
    """What the link model said in each block."""


@dataclass(slots=True)
class _Model:
    """One model (and batch) that was run."""

    ref: ModelRef
    facts: ModelFacts
    calibrations: dict[str, _Calibration]
    anchors: list[int]
    cases: list[_Running]


def validate(
    models: Sequence[ModelRef],
    settings: ValidateSettings | None = None,
    placement: Placement | None = None,
    sources: Sources | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Predict and measure models split at several cuts over several links.

    Raises:
        SplitnetError: bad settings, a model or worker that cannot be had.
    """
    settings, placement, sources = settings or ValidateSettings(), placement or Placement(), sources or Sources()
    progress = progress or Progress()
    if not models:
        raise SettingsError("no model to validate; name at least one, such as resnet18")
    twice = next((ref for number, ref in enumerate(models) if ref in models[:number]), None)
    if twice is not None:
        raise SettingsError(f"{twice.name} with batch {twice.batch} is named twice; name each model and batch once")
    runs: list[_Model] = []
    workers: dict[str, Any] = {}
    warnings: list[str] = []
    for number, ref in enumerate(models, start=1):
        name = f"{ref.name} ({number} of {len(models)})" if len(models) > 1 else ref.name
        progress.say(f"{name}: counting FLOPs and bytes")
        facts = _facts(ref)
        with SplitSession(ref, replace(placement, link=settings.links[0]), progress.say) as split:
            warnings += [line for line in _unlike(split, facts, sources) if line not in warnings]
            if warnings and settings.strict:
                raise SettingsError(f"{warnings[0]}; make it again here, or leave --strict away")
            runs.append(_run(split, facts, settings, sources, progress, name))
            workers = split.workers
    # Models without FLOPs leave nothing to fit a speed to, and `flops` nothing to say.
    speeds = {role: _fit_speed(runs, role) for role in ROLES if any(run.facts.flops for run in runs)}
    cases = tuple(case for run in runs for case in _cases(run, speeds, sources))
    return Validation(cases, _describe(settings, workers, speeds, warnings), _drift(runs, sources))


def _unlike(split: SplitSession, facts: ModelFacts, sources: Sources) -> list[str]:
    """How saved profiles and calibrations differ from the workers.

    Raises:
        SettingsError: a profile is of another graph, batch or input size, or a calibration has no other model.
    """
    found = []
    for role in ROLES:
        worker = split.workers[role]
        profile = sources.profiles.get((split.model.name, role))
        if profile is not None:
            profile.check_model(split.model.name, split.loaded.graph, f"the {role}'s profile")
            own, asked = profile.facts.identity, facts.identity
            if (own.batch, own.input_shapes) != (asked.batch, asked.input_shapes):
                raise SettingsError(
                    f"the {role}'s profile of {own.name} is of inputs {_shapes(own)}, here they are "
                    f"{_shapes(asked)}; profile it with the same --batch and input size, or leave the profile away"
                )
        corpus = sources.corpora.get(role)
        if corpus and not corpus.without(facts.identity.graph, facts.identity.name):
            raise SettingsError(
                f"the {role}'s calibration holds {split.model.name} alone, by which it cannot be judged; "
                f"calibrate with other models too"
            )
        for what, saved in (
            (f"the {role}'s profile of {split.model.name}", profile),
            (f"the {role}'s calibration", corpus.profiles[0] if corpus else None),
        ):
            if saved is not None:
                unlike = saved.unlike(worker["machine"], worker["device"], worker["threads"])
                found += [f"{what} was made elsewhere: {'; '.join(unlike)}"] if unlike else []
    return found


def _shapes(identity: ModelIdentity) -> str:
    return ", ".join("x".join(map(str, sizes)) for sizes in identity.input_shapes)


def _facts(ref: ModelRef) -> ModelFacts:
    model = ResidentModel(build_model(ref), torch.device("cpu"))
    with exact_inference():
        return model_facts(model, ModelInputs(model))


def _run(
    split: SplitSession,
    facts: ModelFacts,
    settings: ValidateSettings,
    sources: Sources,
    progress: Progress,
    name: str,
) -> _Model:
    counted = settings.cuts == "all" or settings.cuts.isdecimal()
    choice = [cut for cut in split.cuts if cut.clean] if settings.clean and counted else split.cuts
    judged = select_cuts(settings.cuts, choice, split.model.name)
    if not judged:
        raise SettingsError(f"{split.model.name} has no cut where one tensor crosses; leave --clean away")
    others = [cut for cut in split.cuts if cut.refused is None and cut.index not in judged]
    anchors = _spread([cut.index for cut in others], ANCHORS)
    run = _Model(
        split.model,
        facts,
        {role: _Calibration() for role in ROLES},
        anchors,
        [_Running(link, codec, cut) for link in settings.links for codec in settings.codecs for cut in judged],
    )
    points: dict[tuple[str, str], list[ProbePoint]] = {}
    order = random.Random(settings.seed)
    total = len(run.cases) * settings.repeats
    done = 0
    progress.step(0, total, f"{name}: warming up")
    _warm_up(split, run, settings)
    for block in range(settings.blocks):
        repeats = settings.repeats * (block + 1) // settings.blocks - settings.repeats * block // settings.blocks
        for link in order.sample(settings.links, len(settings.links)):
            progress.step(done, total, f"{name}: calibrating, {link}")
            split.relink(link)
            _calibrate(split, run)
            for codec in settings.codecs:
                _probe(split, points.setdefault((str(link), codec), []), codec, facts)
            cases = [case for case in run.cases if case.link == link]
            _predict(run, cases, {codec: fit_link(points[str(link), codec]) for codec in settings.codecs}, sources)
            for _ in range(repeats):
                for case in order.sample(cases, len(cases)):
                    progress.step(done, total, f"{name}: measuring, {link}")
                    line = split.measure(case.cut, codec=case.codec).timeline
                    case.samples.append(Parts(line.gateway_s, line.overhead_s, line.ap_s))
                    done += 1
    progress.step(total, total, f"{name}: done")
    return run


def _warm_up(split: SplitSession, run: _Model, settings: ValidateSettings) -> None:
    """Build every half and every buffer, over the fastest link."""
    split.relink(Link())
    for cut in {case.cut for case in run.cases}:
        for codec in settings.codecs:
            split.measure(cut, codec=codec)
    for role in ROLES:
        split.layers_ns(role)
        for cut in run.anchors:
            split.halves_ns(role, cut)


def _calibrate(split: SplitSession, run: _Model) -> None:
    """Passes and halves of both workers, in turn."""
    passes: dict[str, list[list[int]]] = {role: [] for role in ROLES}
    halves: dict[str, dict[int, tuple[int, int]]] = {role: {} for role in ROLES}
    for number in range(PASSES):
        for role in ROLES:
            passes[role].append(split.layers_ns(role))
            for cut in run.anchors[number::PASSES]:
                halves[role][cut] = split.halves_ns(role, cut)
    for role in ROLES:
        run.calibrations[role].add(passes[role], halves[role])


def _probe(split: SplitSession, points: list[ProbePoint], codec: str, facts: ModelFacts) -> None:
    repeats = LATER_PROBES if points else FIRST_PROBES
    answer_bytes = max(4, facts.result_bytes // 4 * 4)
    probe = probe_link(split, repeats=repeats, answer_bytes=answer_bytes, codec=codec)
    points += [sample.point() for sample in probe.samples]


def _predict(run: _Model, cases: Sequence[_Running], links: Mapping[str, LinkModel], sources: Sources) -> None:
    """What the measured tables say now, and what the link model says to every predictor."""
    halves = {}
    for role in ROLES:
        saved = sources.profiles.get((run.ref.name, role))
        if saved is None:
            halves[role] = run.calibrations[role].halves_s()
        else:
            halves[role] = np.array(saved.prefix_s), np.array(saved.suffix_s)
    last = len(run.facts.layers)
    for case in cases:
        sent_bytes = run.facts.cuts[case.cut].payload_bytes[case.codec]
        link_s = links[case.codec].round_trip_s(sent_bytes, run.facts.result_bytes) if case.cut < last else 0.0
        case.links_s.append(link_s)
        ap_s = float(halves["ap"][1][case.cut]) if case.cut < last else 0.0
        case.said.setdefault("measured", []).append(Parts(float(halves["gateway"][0][case.cut]), link_s, ap_s))


def _fit_speed(runs: Sequence[_Model], role: str) -> FlopsLatency:
    """One phi for the device, from the anchors and whole passes of all models: none of these cases is judged."""
    points: list[tuple[float, float]] = []
    for run in runs:
        calibration = run.calibrations[role]
        flops = np.append(0.0, np.cumsum([layer.flops for layer in run.facts.layers])) * run.ref.batch
        points.append((float(flops[-1]), statistics.median(map(calibration.whole_s, range(len(calibration.passes))))))
        bottoms, tops = calibration.halves_s()
        for cut in run.anchors:
            points += [(float(flops[cut]), float(bottoms[cut])), (float(flops[-1] - flops[cut]), float(tops[cut]))]
    return fit_flops(points)


def _cases(run: _Model, speeds: Mapping[str, FlopsLatency], sources: Sources) -> list[Case]:
    """Finished cases, with the predictors that do not change from block to block."""
    facts, identity = run.facts, run.facts.identity
    models: dict[str, dict[str, DeviceLatency]] = {"flops": dict(speeds)} if speeds else {}
    if all(role in sources.corpora for role in ROLES):
        models["per-layer"] = {
            role: fit_layers(sources.corpora[role].without(identity.graph, identity.name)) for role in ROLES
        }
    tables = {
        name: (by_role["gateway"].bottom_s(facts), by_role["ap"].top_s(facts)) for name, by_role in models.items()
    }
    cases = []
    for case in run.cases:
        link_s = statistics.fmean(case.links_s)
        predicted = {
            name: Parts(float(bottoms[case.cut]), link_s, float(tops[case.cut]) if link_s else 0.0)
            for name, (bottoms, tops) in tables.items()
        }
        predicted["measured"] = _mean(case.said["measured"])
        cases.append(
            Case(
                model=run.ref.name,
                batch=run.ref.batch,
                link=str(case.link),
                codec=case.codec,
                cut=case.cut,
                layer=facts.cuts[case.cut].layer,
                sent_bytes=facts.cuts[case.cut].payload_bytes[case.codec] if link_s else 0,
                samples=tuple(case.samples),
                predicted=predicted,
            )
        )
    return cases


def _mean(parts: Sequence[Parts]) -> Parts:
    return Parts(
        statistics.fmean(part.gateway_s for part in parts),
        statistics.fmean(part.link_s for part in parts),
        statistics.fmean(part.ap_s for part in parts),
    )


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most so many of the values, evenly, both ends included."""
    if len(values) <= count:
        return list(values)
    return sorted({values[round(place)] for place in np.linspace(0, len(values) - 1, count)})


def _drift(runs: Sequence[_Model], sources: Sources) -> dict[str, float]:
    found = {}
    for run in runs:
        for role, calibration in run.calibrations.items():
            saved = sources.profiles.get((run.ref.name, role))
            first_s = calibration.whole_s(0) if saved is None else sum(saved.layer_s)
            found[f"{run.ref.name}, batch {run.ref.batch}, {role}"] = calibration.whole_s(-1) / first_s
    return found


def _describe(
    settings: ValidateSettings,
    workers: Mapping[str, Any],
    speeds: Mapping[str, FlopsLatency],
    warnings: Sequence[str],
) -> dict[str, Any]:
    return {
        "cuts": settings.cuts,
        "clean": settings.clean,
        "links": [str(link) for link in settings.links],
        "codecs": list(settings.codecs),
        "repeats": settings.repeats,
        "blocks": settings.blocks,
        "order_seed": settings.seed,
        "flops_per_s": {role: speed.flops_per_s for role, speed in speeds.items()},
        "workers": dict(workers),
        "warnings": list(warnings),
        "versions": {"torch": str(torch.__version__)},
    }
