"""What a worker can be asked, and what it answers. Headers of frames; tensors travel in the body.

A connection opens with `Hello` and `Welcome`. Then each request has one answer, in order; `Failed` is the answer
to a request that cannot be done, and the connection goes on.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from splitnet.measurement import ApInstants, Timeline
from splitnet.models.reference import ModelRef
from splitnet.wire.specs import ValueSpec


class Request(msgspec.Struct, frozen=True, tag=True):
    """Something a worker is asked."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What a worker says."""


class Hello(Request, frozen=True):
    """The first message of every connection."""

    boot: str
    """Digest of the host's boot id, empty where there is none; equal digests share one monotonic clock."""
    token: str = ""
    """What the command that launched the worker gave it, so that no other run's worker is taken for ours."""
    body_checksum: bool = False
    """Both sides add a checksum to every body, and insist on it."""
    rate_bps: float | None = None
    """The answers are paced at this rate."""
    delay_s: float = 0.0
    """Requests are held this long at their receiver."""


class Load(Request, frozen=True):
    """Build (or find) a model; it becomes the connection's model."""

    model: ModelRef
    graph: str | None = None
    """Refuse unless the graph has this digest."""
    weights: str | None = None
    """Refuse unless the weights have this digest."""


class Inputs(Request, frozen=True):
    """Values in the body replace the model's example inputs, in flat order."""

    values: list[ValueSpec]


class Local(Request, frozen=True):
    """Run the unsplit model once on the inputs, and time it."""


class Connect(Request, frozen=True):
    """To a gateway: open its link to an AP and load the connection's model there."""

    host: str
    port: int
    token: str = ""
    body_checksum: bool = False
    rate_bps: float | None = None
    delay_s: float = 0.0


class Measure(Request, frozen=True):
    """To a gateway: one split inference on the inputs."""

    cut: int
    codec: str = "none"
    want_output: bool = False


class Layers(Request, frozen=True):
    """One pass of the unsplit model with a clock reading after every layer; answered by `LayerTimes`."""


class Probe(Request, frozen=True):
    """To a gateway: send made-up values of this size to the AP and time their way, with no model in it."""

    payload_bytes: int
    """Before the codec."""
    answer_bytes: int
    codec: str = "none"


class Infer(Request, frozen=True):
    """From a gateway to an AP: run the top of the connection's model on the live values in the body."""

    cut: int
    values: list[ValueSpec]


class Echo(Request, frozen=True):
    """From a gateway to an AP: take the values in the body as an `Infer`'s, and answer so many bytes."""

    values: list[ValueSpec]
    answer_bytes: int


class Welcome(Answer, frozen=True):
    """The answer to `Hello`."""

    session: int
    """Stands in every later frame of this connection."""
    role: str
    boot: str
    device: str
    threads: int
    machine: dict[str, Any]


class CutEntry(msgspec.Struct, frozen=True, array_like=True):
    """One cut of a loaded model."""

    index: int
    layer: str
    clean: bool
    payload_bytes: int
    refused: str | None


class InputEntry(msgspec.Struct, frozen=True, array_like=True):
    """One input tensor of a loaded model, as in its example: batch included."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Loaded(Answer, frozen=True):
    """The model is resident."""

    graph: str
    weights: str
    frontend: str
    inputs: list[InputEntry]
    cuts: list[CutEntry]
    random_weights: bool


class Connected(Answer, frozen=True):
    """The gateway's link stands."""

    shared_clock: bool
    welcome: Welcome


class Done(Answer, frozen=True):
    """It is done, and there is nothing to tell."""


class LocalTime(Answer, frozen=True):
    """Seconds of one forward pass of the unsplit model."""

    seconds: float


class LayerTimes(Answer, frozen=True):
    """Nanoseconds of layers 1..L in one pass."""

    layers_ns: list[int]


class Measured(Answer, frozen=True):
    """One split inference; the output's values in the body where they were wanted."""

    timeline: Timeline
    sent_bytes: int
    bitwise_equal: bool
    max_error: float
    values: list[ValueSpec] = []


class Probed(Answer, frozen=True):
    """One probe of the link; nothing was computed, so `gateway_s` is 0."""

    timeline: Timeline
    sent_bytes: int
    """Bytes of encoded values that went up (headers and padding not counted)."""


class Result(Answer, frozen=True):
    """From an AP: the output's leaves in the body."""

    values: list[ValueSpec]
    instants: ApInstants


class Failed(Answer, frozen=True):
    """One line that says why not."""

    reason: str


ToWorker: TypeAlias = Hello | Load | Inputs | Local | Layers | Connect | Measure | Probe | Infer | Echo
FromWorker: TypeAlias = (
    Welcome | Loaded | Connected | Done | LocalTime | LayerTimes | Measured | Probed | Result | Failed
)
