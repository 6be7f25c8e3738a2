"""Slice any PyTorch model at any layer and measure the split between two real workers.

The names below are the Python API; the command line is a thin shell over them. They are imported when they are
first used, so that `splitnet --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitnet.benching import BenchSettings, bench
    from splitnet.checking import check
    from splitnet.errors import SplitnetError
    from splitnet.graph import layer_graph
    from splitnet.inference import exact_inference
    from splitnet.measurement import BenchResult
    from splitnet.models.build import build_model
    from splitnet.models.reference import ModelRef
    from splitnet.profiling.profile import Profile, load_profile
    from splitnet.profiling.profiler import ProfileSettings, profile_model
    from splitnet.rundir import load_result
    from splitnet.runtime.address import Address
    from splitnet.runtime.link import Link
    from splitnet.session import Placement, SplitSession
    from splitnet.slicing import slice_model
    from splitnet.validating import ValidateSettings, validate
    from splitnet.validation import Validation

_HOMES = {
    "Address": "runtime.address",
    "BenchResult": "measurement",
    "BenchSettings": "benching",
    "Link": "runtime.link",
    "ModelRef": "models.reference",
    "Placement": "session",
    "Profile": "profiling.profile",
    "ProfileSettings": "profiling.profiler",
    "SplitSession": "session",
    "SplitnetError": "errors",
    "bench": "benching",
    "build_model": "models.build",
    "check": "checking",
    "exact_inference": "inference",
    "layer_graph": "graph",
    "load_profile": "profiling.profile",
    "load_result": "rundir",
    "profile_model": "profiling.profiler",
    "slice_model": "slicing",
    "validate": "validating",
    "ValidateSettings": "validating",
    "Validation": "validation",
}

__all__ = [
    "Address",
    "BenchResult",
    "BenchSettings",
    "Link",
    "ModelRef",
    "Placement",
    "Profile",
    "ProfileSettings",
    "SplitSession",
    "SplitnetError",
    "ValidateSettings",
    "Validation",
    "bench",
    "build_model",
    "check",
    "exact_inference",
    "layer_graph",
    "load_profile",
    "load_result",
    "profile_model",
    "slice_model",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"splitnet has no {name!r}")
    return getattr(import_module(f"splitnet.{_HOMES[name]}"), name)
