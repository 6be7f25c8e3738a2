"""The physical tier: devices that measure the world and keep their digital twins on the gateways in step.

In each slot a device takes D_n(t) data points, from seeded noise or from a folder of pictures, signs how many there
were and what they are, and sends them to its gateway. Its key is here and nowhere else, so that neither gateway nor
AP can invent data points.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.genesis import Rules
from splitnet.consensus.receipt import Arrival, sign_arrival, value_digest
from splitnet.consensus.values import value_bytes
from splitnet.controller.world import stream
from splitnet.errors import ProtocolError
from splitnet.machines.messages import Arrive, Done, Greet, Message, State
from splitnet.machines.service import Answer, Asker
from splitnet.models.images import load_images
from splitnet.runtime.connection import Received
from splitnet.wire.encoding import encode_values


class Sensor:
    """What one device sees: float tensors of the model's input shape, the same for the same seed and slot."""

    def __init__(self, twin: int, shape: Sequence[int], seed: int, images: Path | None) -> None:
        """
        Args:
            shape: of one data point.
            images: a folder of pictures; each device begins at another one.

        Raises:
            SettingsError: no pictures there, or the model takes none.
        """
        self._twin, self._shape, self._seed = twin, tuple(shape), seed
        self._pictures = None if images is None else load_images(images, (_pictures(images), *self._shape))

    def batch(self, slot: int, data_points: int) -> torch.Tensor:
        """[data points, *shape] float32."""
        if self._pictures is not None:
            first = self._twin * 7919 + slot * data_points
            places = torch.arange(first, first + data_points) % len(self._pictures)
            return self._pictures[places].contiguous()
        chance = stream(self._seed, f"sensor {self._twin} {slot}")
        return torch.from_numpy(chance.standard_normal((data_points, *self._shape), dtype="float32"))


def _pictures(folder: Path) -> int:
    """How many files lie there, at least one: `load_images` says what is wrong with them."""
    return max(1, sum(file.is_file() for file in folder.iterdir())) if folder.is_dir() else 1


class Devices:
    """All devices of a run, in one process."""

    def __init__(
        self,
        rules: Rules,
        keys: Sequence[Ed25519PrivateKey],
        sensors: Sequence[Sensor],
        gateways: Mapping[int, Asker],
    ) -> None:
        self._rules, self._keys, self._sensors, self._gateways = rules, keys, sensors, gateways

    def handle(self, greet: Greet, received: Received[Message]) -> Answer:
        """Answer the coordinator."""
        match received.message:
            case Arrive(slot, points):
                if len(points) != len(self._sensors):
                    raise ProtocolError(f"{len(points)} numbers of data points for {len(self._sensors)} devices")
                for twin, data_points in enumerate(points):
                    if data_points:
                        self._send(slot, twin, data_points)
                return Answer(Done())
            case other:
                raise ProtocolError(f"devices do not know {type(other).__name__}")

    def _send(self, slot: int, twin: int, data_points: int) -> None:
        measured_ns = time.monotonic_ns()
        batch = self._sensors[twin].batch(slot, data_points)
        arrival = Arrival(slot, twin, data_points, value_digest(value_bytes([batch])))
        encoded = encode_values([batch])
        state = State(
            twin,
            slot,
            data_points,
            measured_ns,
            sign_arrival(self._rules, self._keys[twin], arrival),
            encoded.specs,
        )
        gateway = self._rules.genesis.gateway_of[twin]
        self._gateways[gateway].ask(state, Done, encoded.buffers)
