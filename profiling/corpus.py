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
from splitnet.models.reference import ModelRef
from splitnet.profiling.profile import Profile, profile_from_dict
from splitnet.profiling.profiler import ProfileSettings, Step, profile_model

VERSION = 1
KIND = "calibration"
MODELS = (
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "vgg11_bn",
    "vgg13",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "regnet_y_400mf",
    "regnet_x_800mf",
    "googlenet",
    "densenet121",
    "convnext_tiny",
    "swin_t",
    "vit_b_32",
)
SETTINGS = ProfileSettings(repeats=10, warmup=2, anchors=0, budget_s=10.0)


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
    settings: ProfileSettings = SETTINGS,
) -> Corpus:
    """Profile the set on one device; sets torch's thread count."""
    profiles = []
    for number, name in enumerate(models):

        def inner(done: int, total: int, text: str, number: int = number, name: str = name) -> None:
            step(number, len(models), f"{name}: {text}")

        profiles.append(profile_model(ModelRef(name), device, threads, settings, inner))
    step(len(models), len(models), "done")
    return Corpus(tuple(profiles))


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
