"""The corpus of a device: profiles of a fixed set of models, to which the per-layer regression is fitted.

The set spans the families of torchvision's zoo (plain, residual, dense, inverted residual, shuffled, grouped,
attention) in models small enough that all of them take a few minutes on one slow core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from splitnet.errors import SettingsError
from splitnet.files import read_sealed, write_sealed
from splitnet.inference import exact_inference
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import machine_fingerprint
from splitnet.profiling.profile import Profile, profile_from_dict
from splitnet.profiling.profiler import Step, prepare, set_threads

VERSION = 1
KIND = "calibration"
MODELS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "vgg11_bn",
    "vgg13",
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "efficientnet_b1",
    "regnet_y_400mf",
    "regnet_x_800mf",
    "googlenet",
    "inception_v3",
    "densenet121",
    "densenet169",
    "convnext_tiny",
    "swin_t",
    "swin_s",
    "vit_b_32",
    "vit_b_16",
)
ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Corpus:
    """Profiles of several models on one device of one machine."""

    profiles: tuple[Profile, ...]

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ValueError("a corpus needs at least one profile")
        places = {(profile.device, profile.threads) for profile in self.profiles}
        if len(places) != 1:
            raise ValueError(f"profiles of one corpus are of one device and thread count, not of {sorted(places)}")

    @property
    def device(self) -> str:
        return self.profiles[0].device

    @property
    def threads(self) -> int:
        return self.profiles[0].threads

    @property
    def machine(self) -> dict[str, Any]:
        return self.profiles[0].machine

    def without(self, graph: str, name: str) -> tuple[Profile, ...]:
        """The profiles of other models: what may be fitted to when that one is judged."""
        return tuple(
            profile
            for profile in self.profiles
            if profile.facts.identity.graph != graph and profile.facts.identity.name != name
        )

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; SettingsError where the disk refuses."""
        content = {"profiles": [profile.to_dict() for profile in self.profiles]}
        write_sealed(path, KIND, VERSION, content, "choose another file with -o FILE")


def collect(
    device: torch.device,
    threads: int,
    step: Step,
    models: tuple[str, ...] = MODELS,
    rounds: int = ROUNDS,
) -> Corpus:
    """Profile the set on one device; sets torch's thread count.

    All models are held at once and passed through in turn, so that a drift of the machine meets all of them alike:
    one after the other, two models would differ by the drift between them.
    """
    set_threads(threads)
    total = len(models) * (rounds + 2)
    prepared = []
    for number, name in enumerate(models):
        step(number, total, f"counting FLOPs and bytes of {name}")
        prepared.append(prepare(ModelRef(name), device, lambda done, total, text: None))
    passes: list[list[tuple[int, ...]]] = [[] for _ in models]
    with exact_inference():
        for turn in range(rounds + 1):
            for number, (_, inputs, _) in enumerate(prepared):
                step(len(models) * (turn + 1) + number, total, f"timing, round {turn} of {rounds}")
                taken_ns = inputs.layers_ns()
                if turn:  # the first warms up
                    passes[number].append(tuple(taken_ns))
    step(total, total, "done")
    machine = machine_fingerprint()
    return Corpus(
        tuple(
            Profile(
                facts=facts,
                machine=machine,
                device=str(device),
                threads=threads,
                layers_ns=tuple(layers_ns),
                anchors=(),
                codec_timings=(),
            )
            for (_, _, facts), layers_ns in zip(prepared, passes, strict=True)
        )
    )


def load_corpus(path: Path) -> Corpus:
    """A corpus from its file.

    Raises:
        SettingsError: it cannot be read, or is not a whole, unedited corpus of this version.
    """
    again = "make it again with `splitnet calibrate -o FILE`"
    content = read_sealed(path, KIND, VERSION, again)
    try:
        return Corpus(tuple(profile_from_dict(profile, str(path), again) for profile in content["profiles"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not a whole calibration ({error}); {again}") from error
