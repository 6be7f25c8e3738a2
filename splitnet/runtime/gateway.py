"""The gateway: it runs bottoms, sends what crosses the cut to its AP, and times the whole on its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch.utils import _pytree as pytree

from splitnet.errors import ProtocolError, SettingsError
from splitnet.inference import synchronize
from splitnet.measurement import Timeline
from splitnet.runtime.address import Address
from splitnet.runtime.client import Client
from splitnet.runtime.connection import PeerGoneError, Received
from splitnet.runtime.link import Link
from splitnet.runtime.messages import (
    Connect,
    Connected,
    Echo,
    Infer,
    Load,
    Measure,
    Measured,
    Probe,
    Probed,
    Request,
    Result,
)
from splitnet.runtime.probe_values import ProbeValues, check_probe_bytes
from splitnet.runtime.worker import Answering, Session
from splitnet.wire.codecs import check_codec
from splitnet.wire.encoding import encode_values


class GatewaySession(Session):
    """One coordinator's connection to this gateway, with the gateway's own connection to an AP."""

    _ap: Client | None = None
    _shared_clock = False
    _probe_values: ProbeValues | None = None

    def handle_role(self, received: Received[Any]) -> Answering:
        match received.message:
            case Connect() as request:
                return self._connect(request)
            case Measure(cut, codec, want_output):
                return self._measure(cut, check_codec(codec), want_output)
            case Probe(payload_bytes, answer_bytes, codec):
                return self._probe(payload_bytes, answer_bytes, check_codec(codec))
            case other:
                raise ProtocolError(f"a gateway does not know {type(other).__name__}; is this address an AP's?")

    def close(self) -> None:
        if self._ap is not None:
            self._ap.close()
            self._ap = None

    def _load(self, request: Load) -> Answering:
        answering = super()._load(request)
        if self._ap is not None:
            self._load_at_ap()
        return answering

    def _load_at_ap(self) -> None:
        """The AP must hold the same graph and the same weights."""
        assert self._ap is not None
        found = self.model.graph.fingerprint
        self._ap.load(self.model.built.ref, graph=found.graph, weights=found.weights)

    def _connect(self, request: Connect) -> Answering:
        self.close()
        self._ap = Client.connect(
            Address(request.host, request.port),
            role="ap",
            token=request.token,
            body_checksum=request.body_checksum,
            link=Link(request.rate_bps, request.delay_s),
        )
        self._shared_clock = self._ap.welcome.boot == self.boot != ""
        if self.has_model:
            self._load_at_ap()
        return Answering(Connected(shared_clock=self._shared_clock, welcome=self._ap.welcome))

    def _measure(self, cut: int, codec: str, want_output: bool) -> Answering:
        inputs = self.inputs
        with self.engine.lane:
            inputs.reference()
            timeline, sent_bytes, leaves = self._infer(cut, codec, inputs.flat())
            equal, error = inputs.compare(leaves)
        if not want_output:
            return Answering(Measured(timeline, sent_bytes, equal, error))
        output = _plain(pytree.tree_unflatten(list(leaves), self.model.graph.trace.out_spec))
        encoded = encode_values([output])
        return Answering(Measured(timeline, sent_bytes, equal, error, encoded.specs), encoded.buffers)

    def _infer(self, cut: int, codec: str, flat: list[Any]) -> tuple[Timeline, int, Any]:
        device = self.engine.device
        bottom = self.model.bottom(cut)
        # the last cut's top computes nothing: it puts the live values in the output's order
        arrange = self.model.top(cut).run if cut == self.model.graph.last_cut else None
        synchronize(device)
        start_ns = time.monotonic_ns()
        live = bottom.run(flat)
        if arrange is not None:
            live = arrange(live)
        synchronize(device)
        computed_ns = time.monotonic_ns()
        if arrange is not None:
            return Timeline(start_ns, computed_ns, computed_ns, computed_ns, computed_ns, None, True), 0, live
        ap = self._need_ap(f"cut {cut}")
        return self._exchange(ap, lambda specs: Infer(cut, specs), live, codec, start_ns, computed_ns)

    def _probe(self, payload_bytes: int, answer_bytes: int, codec: str) -> Answering:
        ap = self._need_ap("a probe")
        check_probe_bytes(answer_bytes)
        if self._probe_values is None:
            self._probe_values = ProbeValues(self.engine.device)
        with self.engine.lane:
            values = [self._probe_values.fresh(payload_bytes)]
            start_ns = time.monotonic_ns()
            timeline, sent_bytes, _ = self._exchange(
                ap, lambda specs: Echo(specs, answer_bytes), values, codec, start_ns, start_ns
            )
        return Answering(Probed(timeline, sent_bytes))

    def _need_ap(self, what: str) -> Client:
        if self._ap is None:
            raise SettingsError(f"{what} needs an AP, and this gateway is connected to none; send Connect first")
        return self._ap

    def _exchange(
        self,
        ap: Client,
        request: Callable[[list[Any]], Request],
        values: Any,
        codec: str,
        start_ns: int,
        computed_ns: int,
    ) -> tuple[Timeline, int, Any]:
        """Values to the AP and its result back: the timeline, the bytes that went up, the result's leaves."""
        encoded = encode_values(values, codec)
        encoded_ns = time.monotonic_ns()
        try:
            answer = ap.ask(request(encoded.specs), Result, encoded.buffers)
        except PeerGoneError:
            self.close()
            raise
        leaves = self.decoder.decode(answer.message.values, answer.body)
        synchronize(self.engine.device)
        end_ns = time.monotonic_ns()
        instants = answer.message.instants
        timeline = Timeline(start_ns, computed_ns, encoded_ns, answer.at_ns, end_ns, instants, self._shared_clock)
        return timeline, encoded.payload_bytes, leaves


def _plain(value: Any) -> Any:
    """An output in containers that cross the wire: mappings as dict, sequences as list or tuple."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value
