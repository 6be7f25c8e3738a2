"""Digital twins on a gateway: each holds the latest state of its device, and knows how far it lags."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitnet.consensus.genesis import Rules
from splitnet.consensus.receipt import Arrival, validate_arrival, value_digest
from splitnet.consensus.values import value_bytes
from splitnet.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class TwinState:
    """What a device measured in a slot.

    Attributes:
        batch: [data points, …] on the CPU, in memory of its own.
        measured_ns: when, on the host's monotonic clock.
        signature: the device's, of the arrival.
    """

    arrival: Arrival
    batch: torch.Tensor
    measured_ns: int
    signature: bytes

    def age_s(self, now_ns: int) -> float:
        """How far the twin lags its device."""
        return (now_ns - self.measured_ns) * 1e-9


class DigitalTwin:
    """The twin of one device."""

    def __init__(self, rules: Rules, twin: int) -> None:
        self._rules, self.twin = rules, twin
        self._state: TwinState | None = None

    def update(self, slot: int, data_points: int, batch: torch.Tensor, measured_ns: int, signature: bytes) -> None:
        """Take over a newer state of the device.

        Raises:
            ProtocolError: it is older than what is here, or has another number of data points than it says.
            ConsensusError: over the cap, or not signed by the device.
        """
        if self._state is not None and slot <= self._state.arrival.slot:
            raise ProtocolError(
                f"device {self.twin} sends the state of slot {slot} after that of slot {self._state.arrival.slot}"
            )
        if len(batch) != data_points:
            raise ProtocolError(f"device {self.twin} sends {len(batch)} data points and says {data_points}")
        arrival = Arrival(slot, self.twin, data_points, value_digest(value_bytes([batch])))
        validate_arrival(self._rules, arrival, signature)
        self._state = TwinState(arrival, batch, measured_ns, signature)

    def state(self, slot: int) -> TwinState | None:
        """Of this slot; None where nothing has arrived in it."""
        return self._state if self._state is not None and self._state.arrival.slot == slot else None
