"""Validation with real workers: calibrate, predict, measure, and again, until every case has its repeats.

Before every two inferences the model is run split at one anchor cut, which is not judged, or the link is probed, and
then both workers pass through the whole model once. The inferences are predicted from these passes and from all
anchors and probes so far, and only then measured. Nothing is fitted to what it is judged on.

Why so often: a shared machine changes its speed by up to a half for seconds at a time (on ours passes 0.2 s apart
are alike, those 2 s apart hardly), and a median over samples of two speeds jumps from one to the other. So prediction
and measurement must meet the same changes. A calibration was made at another time; so two models of it that are not
judged are run beside, and the per-layer model's times are scaled by how fast those are now.
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
from splitnet.calibrating import ROLES, LayerTables, LinkProbes, WorkerTimes
from splitnet.controller.latency import FlopsLatency, fit_flops
from splitnet.controller.link_model import LinkModel
from splitnet.cuts import select_cuts
from splitnet.errors import SettingsError
from splitnet.inference import exact_inference
from splitnet.measurement import interquartile_mean
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.probing import ProbeSample
from splitnet.profiling.corpus import Corpus
from splitnet.profiling.facts import ModelFacts, ModelIdentity, model_facts
from splitnet.profiling.profile import Profile
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.runtime.link import Link
from splitnet.session import Placement, SplitSession
from splitnet.validation import COMPONENTS, Case, Parts, Validation
from splitnet.wire.codecs import check_codec

ANCHORS = 8
PRELUDE = 3
"""Visits of every anchor before the first inference is predicted."""
AT_ONCE = 2
"""Inferences that are predicted and measured after each step of calibration."""


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """What to judge.

    Attributes:
        cuts: as for `bench`: a count, `all`, `at:…`.
        clean: choose among cuts where one tensor crosses.
        links: each measured in every block.
        codecs: of the activations.
        repeats: measured inferences of every case, spread over the blocks.
        blocks: how often links take turns, each time probed anew.
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
class _Running:
    """A case while it is measured."""

    link: Link
    codec: str
    cut: int
    samples: list[Parts] = field(default_factory=list)
    said: dict[str, list[Parts]] = field(default_factory=dict)
    """By predictor, what was predicted before each sample."""


@dataclass(slots=True)
class _Model:
    """One model (and batch) that was run."""

    ref: ModelRef
    facts: ModelFacts
    calibrations: dict[str, WorkerTimes]
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
    cases = tuple(case for run in runs for case in _cases(run, speeds))
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
    # Of the cheaper half to send: on a slow link anchors would else take longer than what is judged.
    cheap = statistics.median_high([cut.payload_bytes for cut in others]) if others else 0
    anchors = _spread([cut.index for cut in others if cut.payload_bytes <= cheap], ANCHORS)
    run = _Model(
        split.model,
        facts,
        {role: WorkerTimes(role) for role in ROLES},
        anchors,
        [_Running(link, codec, cut) for link in settings.links for codec in settings.codecs for cut in judged],
    )
    probes: dict[tuple[Link, str], LinkProbes] = {}
    order = random.Random(settings.seed)
    total = len(run.cases) * settings.repeats
    done = 0
    progress.step(0, total, f"{name}: warming up")
    with_layers = all(role in sources.corpora for role in ROLES)
    tables = LayerTables(split, facts, sources.corpora) if with_layers else None
    _warm_up(split, run, settings)
    for block in range(settings.blocks):
        repeats = settings.repeats * (block + 1) // settings.blocks - settings.repeats * block // settings.blocks
        for link in order.sample(settings.links, len(settings.links)):
            progress.step(done, total, f"{name}: probing {link}")
            split.relink(link)
            for codec in settings.codecs:
                if (link, codec) not in probes:
                    probes[link, codec] = LinkProbes(split, codec, facts)
            links = {codec: probes[link, codec] for codec in settings.codecs}
            cases = [case for case in run.cases if case.link == link]
            for _ in range(repeats):
                shuffled = order.sample(cases, len(cases))
                for start in range(0, len(shuffled), AT_ONCE):
                    progress.step(done, total, f"{name}: measuring, {link}")
                    chunk = shuffled[start : start + AT_ONCE]
                    _calibrate(split, run, links, tables)
                    models = {codec: found.model() for codec, found in links.items()}
                    _predict(run, chunk, models, sources, tables)
                    for case in chunk:
                        line = split.measure(case.cut, codec=case.codec).timeline
                        case.samples.append(Parts(line.gateway_s, line.overhead_s, line.ap_s))
                    done += len(chunk)
    progress.step(total, total, f"{name}: done")
    return run


def _warm_up(split: SplitSession, run: _Model, settings: ValidateSettings) -> None:
    """Build every half and every buffer, over the fastest link."""
    split.relink(Link())
    for cut in {*run.anchors, *(case.cut for case in run.cases)}:
        for codec in settings.codecs:
            split.measure(cut, codec=codec)
    for role in ROLES:
        split.layers_ns(role)
    for _ in range(PRELUDE * max(1, len(run.anchors))):
        _calibrate(split, run, {}, None)


def _calibrate(split: SplitSession, run: _Model, links: Mapping[str, LinkProbes], tables: LayerTables | None) -> None:
    """The anchor whose turn it is, split between both workers, or a probe of the link; then a pass of each worker."""
    turn = len(run.calibrations["gateway"].passes)
    halves_ns: dict[str, dict[int, float]] = {role: {} for role in ROLES}
    if links and turn % 2:
        for found in links.values():
            found.once_more(split)
    elif run.anchors:
        cut = run.anchors[turn // (2 if links else 1) % len(run.anchors)]
        codec = next(iter(links), "none")
        sample = split.measure(cut, codec=codec)
        line = sample.timeline
        halves_ns["gateway"][cut] = line.gateway_s * 1e9
        if line.ap is not None:
            halves_ns["ap"][cut] = line.ap_s * 1e9
            if links:
                links[codec].points.append(ProbeSample(0, run.facts.result_bytes, sample.sent_bytes, line).point())
    if tables is not None:
        tables.look()
    for role in ROLES:
        run.calibrations[role].add(split.layers_ns(role), halves_ns[role])


def _predict(
    run: _Model,
    cases: Sequence[_Running],
    links: Mapping[str, LinkModel],
    sources: Sources,
    tables: LayerTables | None,
) -> None:
    """What the measured tables, the per-layer model and the link model say now."""
    halves = {}
    for role in ROLES:
        saved = sources.profiles.get((run.ref.name, role))
        if saved is None:
            halves[role] = run.calibrations[role].half_s(last=1)
        else:
            halves[role] = np.array(saved.prefix_s if role == "gateway" else saved.suffix_s)
    last = len(run.facts.layers)
    for case in cases:
        sent_bytes = run.facts.cuts[case.cut].payload_bytes[case.codec]
        alone = case.cut == last
        link_s = 0.0 if alone else links[case.codec].round_trip_s(sent_bytes, run.facts.result_bytes)
        said = {"measured": {role: float(half_s[case.cut]) for role, half_s in halves.items()}}
        if tables is not None:
            said["per-layer"] = {role: tables.half_s(role, case.cut) for role in ROLES}
        for name, half_s in said.items():
            parts = Parts(half_s["gateway"], link_s, 0.0 if alone else half_s["ap"])
            case.said.setdefault(name, []).append(parts)


def _fit_speed(runs: Sequence[_Model], role: str) -> FlopsLatency:
    """One phi for the device, from the anchors and whole passes of all models: none of these cases is judged."""
    points: list[tuple[float, float]] = []
    for run in runs:
        calibration = run.calibrations[role]
        flops = np.append(0.0, np.cumsum([layer.flops for layer in run.facts.layers])) * run.ref.batch
        points.append((float(flops[-1]), calibration.whole_s()))
        half_s = calibration.half_s()
        for cut in run.anchors:
            own = flops[cut] if role == "gateway" else flops[-1] - flops[cut]
            points.append((float(own), float(half_s[cut])))
    return fit_flops(points)


def _cases(run: _Model, speeds: Mapping[str, FlopsLatency]) -> list[Case]:
    """Finished cases; the letter's model, which is the same all the time, among their predictors."""
    facts, last = run.facts, len(run.facts.layers)
    cases = []
    for case in run.cases:
        predicted: dict[str, Parts] = {}
        if speeds:
            ap_s = 0.0 if case.cut == last else float(speeds["ap"].top_s(facts)[case.cut])
            gateway_s = float(speeds["gateway"].bottom_s(facts)[case.cut])
            predicted["flops"] = Parts(gateway_s, _middle(case.said["measured"]).link_s, ap_s)
        predicted |= {name: _middle(case.said[name]) for name in ("per-layer", "measured") if name in case.said}
        cases.append(
            Case(
                model=run.ref.name,
                batch=run.ref.batch,
                link=str(case.link),
                codec=case.codec,
                cut=case.cut,
                layer=facts.cuts[case.cut].layer,
                sent_bytes=0 if case.cut == last else facts.cuts[case.cut].payload_bytes[case.codec],
                samples=tuple(case.samples),
                predicted=predicted,
            )
        )
    return cases


def _middle(parts: Sequence[Parts]) -> Parts:
    return Parts(*(interquartile_mean([getattr(part, name) for part in parts]) for name in COMPONENTS))


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
            few = max(1, len(calibration.passes) // 10)
            first_s = calibration.whole_s(slice(few)) if saved is None else sum(saved.layer_s)
            found[f"{run.ref.name}, batch {run.ref.batch}, {role}"] = calibration.whole_s(slice(-few, None)) / first_s
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
