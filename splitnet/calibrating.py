"""What a validation learns while it runs: of the two workers, of the link, and of how fast the workers are now.

Decides what a calibration remembers and what it makes of it. `validating.py` decides when it is taken.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from splitnet.controller.latency import Seconds
from splitnet.controller.layer_latency import fit_layers
from splitnet.controller.link_model import LinkModel, ProbePoint, fit_link
from splitnet.measurement import interquartile_mean
from splitnet.models.reference import ModelRef
from splitnet.probing import ProbeSample, probe_link
from splitnet.profiling.corpus import Corpus
from splitnet.profiling.facts import ModelFacts
from splitnet.profiling.profile import correction, pass_medians
from splitnet.runtime.client import Client
from splitnet.runtime.messages import Local, LocalTime
from splitnet.session import SplitSession

ROLES = ("gateway", "ap")
REFERENCES = ("squeezenet1_1", "mobilenet_v3_small")
"""Models of the calibration that tell how fast a worker is now, unless they are judged themselves."""
FIRST_PROBES = 2
"""Probes of each size when a link's turn first comes; then one probe with each step of calibration."""


@dataclass(slots=True)
class WorkerTimes:
    """What is known of one worker and model so far."""

    role: str
    passes: list[list[int]] = field(default_factory=list)
    """Nanoseconds of the layers in each pass."""
    off_ns: dict[int, list[float]] = field(default_factory=dict)
    """By anchor, what this worker's half took more than the pass right after it said."""

    def add(self, layers_ns: list[int], halves_ns: Mapping[int, float]) -> None:
        """One pass, and this worker's half at the anchor that was run right before it."""
        self.passes.append(layers_ns)
        said = self._half(pass_medians([layers_ns]))
        for cut, taken_ns in halves_ns.items():
            self.off_ns.setdefault(cut, []).append(taken_ns - said[cut])

    def half_s(self, last: int = 0) -> Seconds:
        """This worker's half at every cut by the last so many passes (0: all), corrected by all anchors so far."""
        said = self._half(pass_medians(self.passes[-last:]))
        if self.off_ns:
            at = np.array(list(self.off_ns))
            off = np.array([np.median(found) for found in self.off_ns.values()])
            said = said + correction(said[at], off, said)
        return np.maximum(said, 0) * 1e-9

    def _half(self, medians: tuple[Seconds, Seconds]) -> Seconds:
        return medians[0 if self.role == "gateway" else 1]

    def whole_s(self, passes: slice = slice(None)) -> float:
        """Median of the whole model over some of the passes."""
        return statistics.median(sum(layers_ns) for layers_ns in self.passes[passes]) * 1e-9


class LinkProbes:
    """What is known of one link with one codec so far: probes of several sizes in turn, and anchors' own messages."""

    def __init__(self, split: SplitSession, codec: str, facts: ModelFacts) -> None:
        self._codec = codec
        self._answer_bytes = max(4, facts.result_bytes // 4 * 4)
        first = probe_link(split, repeats=FIRST_PROBES, answer_bytes=self._answer_bytes, codec=codec)
        self.points: list[ProbePoint] = [sample.point() for sample in first.samples]
        self._sizes = itertools.cycle(sorted({sample.payload_bytes for sample in first.samples}))

    def once_more(self, split: SplitSession) -> None:
        """Probe the next size."""
        size = next(self._sizes)
        probed = split.probe(size, answer_bytes=self._answer_bytes, codec=self._codec)
        self.points.append(ProbeSample(size, self._answer_bytes, probed.sent_bytes, probed.timeline).point())

    def model(self) -> LinkModel:
        """What all points so far say."""
        return fit_link(self.points)


class LayerTables:
    """What the per-layer model says of one model, at the speed that the workers have now."""

    def __init__(self, split: SplitSession, facts: ModelFacts, corpora: Mapping[str, Corpus]) -> None:
        identity = facts.identity
        fitted = {role: fit_layers(corpora[role].without(identity.graph, identity.name)) for role in ROLES}
        self._half_s = {"gateway": fitted["gateway"].bottom_s(facts), "ap": fitted["ap"].top_s(facts)}
        self._references: dict[str, list[tuple[Client, float]]] = {role: [] for role in ROLES}
        """A connection with each reference model, and what it took when the calibration was made."""
        self._speed = dict.fromkeys(ROLES, 1.0)
        known = [{p.facts.identity.name: p for p in corpora[role].profiles} for role in ROLES]
        for name in REFERENCES:
            if name != identity.name and all(name in profiles for profiles in known):
                for role, profiles in zip(ROLES, known, strict=True):
                    then_s = interquartile_mean([sum(layers_ns) * 1e-9 for layers_ns in profiles[name].layers_ns])
                    client = split.beside(ModelRef(name), role)
                    client.ask(Local(), LocalTime)  # the first builds
                    self._references[role].append((client, then_s))

    def look(self) -> None:
        """See how fast the workers are now."""
        for role, references in self._references.items():
            if references:
                ratios = [client.ask(Local(), LocalTime).message.seconds / then_s for client, then_s in references]
                self._speed[role] = statistics.fmean(ratios)

    def half_s(self, role: str, cut: int) -> float:
        """This worker's half."""
        return float(self._half_s[role][cut]) * self._speed[role]
