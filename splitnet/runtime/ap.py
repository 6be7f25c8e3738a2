"""The AP: it runs tops for many gateways, one at a time, and says when what happened on its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from splitnet.errors import ProtocolError
from splitnet.graph import Cut
from splitnet.inference import synchronize
from splitnet.measurement import ApInstants
from splitnet.runtime.connection import Received
from splitnet.runtime.messages import Echo, Infer, Result
from splitnet.runtime.probe_values import ProbeValues
from splitnet.runtime.worker import Answering, Session
from splitnet.wire.encoding import encode_values


class ApSession(Session):
    """One gateway's connection to this AP."""

    _probe_values: ProbeValues | None = None

    def handle_role(self, received: Received[Any]) -> Answering:
        match received.message:
            case Infer(cut, values):
                return self._infer(cut, values, received)
            case Echo(values, answer_bytes):
                return self._echo(values, answer_bytes, received)
            case other:
                raise ProtocolError(f"an AP does not know {type(other).__name__}; is this address a gateway's?")

    def _infer(self, cut: int, values: list[Any], received: Received[Any]) -> Answering:
        top = self.model.top(cut)
        return self._serve(values, received, lambda live: _check_live(top.cut, live), top.run)

    def _echo(self, values: list[Any], answer_bytes: int, received: Received[Any]) -> Answering:
        if self._probe_values is None:
            self._probe_values = ProbeValues(self.engine.device)
        made = self._probe_values
        return self._serve(values, received, lambda live: None, lambda live: [made.fresh(answer_bytes)])

    def _serve(
        self,
        values: list[Any],
        received: Received[Any],
        check: Callable[[list[Any]], None],
        run: Callable[[list[Any]], Any],
    ) -> Answering:
        """Live values in, output leaves out, with an instant after each step; waits for the lane first."""
        device = self.engine.device
        with self.engine.lane:
            dequeued_ns = time.monotonic_ns()
            live = self.decoder.decode(values, received.body)
            check(live)
            synchronize(device)
            decoded_ns = time.monotonic_ns()
            leaves = run(live)
            synchronize(device)
            computed_ns = time.monotonic_ns()
            encoded = encode_values(leaves)
        instants = ApInstants(received.at_ns, dequeued_ns, decoded_ns, computed_ns, time.monotonic_ns())
        return Answering(Result(encoded.specs, instants), encoded.buffers)


def _check_live(cut: Cut, live: list[Any]) -> None:
    """What arrived must be of the kinds that cross this cut; batch and image sizes may differ."""
    if len(live) != len(cut.live):
        raise ProtocolError(f"{len(live)} values came, {len(cut.live)} cross cut {cut.index}")
    for value, expected in zip(live, cut.live, strict=True):
        if isinstance(value, torch.Tensor):
            known = expected.tensors
            if len(known) != 1 or value.dtype != known[0].dtype or value.dim() != len(known[0].shape):
                raise ProtocolError(f"{expected.name} at cut {cut.index} came as {value.dtype} {tuple(value.shape)}")
