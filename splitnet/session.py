"""A gateway and an AP that hold one model: launched here or found elsewhere, asked one inference at a time.

with SplitSession("resnet18") as split:
    output = split.infer(image, cut="layer2.0.relu")
    sample = split.measure(cut=25)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import torch

from splitnet.cuts import find_cut
from splitnet.errors import SettingsError
from splitnet.measurement import Sample
from splitnet.models.reference import ModelRef
from splitnet.runtime.address import Address
from splitnet.runtime.client import Client
from splitnet.runtime.launch import LaunchedWorker, split_cores
from splitnet.runtime.link import Link
from splitnet.runtime.messages import (
    Connect,
    Connected,
    CutEntry,
    Done,
    Inputs,
    Layers,
    LayerTimes,
    Loaded,
    Local,
    LocalTime,
    Measure,
    Measured,
    Probe,
    Probed,
)
from splitnet.wire.codecs import check_codec
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values

MAX_OUTPUT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the two workers are and what they run on.

    Attributes:
        gateway, ap: addresses of running workers; None launches one on this host.
        gateway_device, ap_device: of a launched worker: `cpu`, `cuda`, `cuda:1`.
        threads: of a launched worker; each is pinned to as many cores where there are enough.
        link: how the way between them is paced and delayed.
        checksum: a checksum on every body; None: only off loopback.
    """

    gateway: Address | None = None
    ap: Address | None = None
    gateway_device: str = "cpu"
    ap_device: str = "cpu"
    threads: int = 1
    link: Link = field(default_factory=Link)
    checksum: bool | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise SettingsError(f"--threads {self.threads} is below 1")
        for role, address, device in (
            ("gateway", self.gateway, self.gateway_device),
            ("ap", self.ap, self.ap_device),
        ):
            if address is not None and device != "cpu":
                raise SettingsError(
                    f"--{role}-device {device} is for a launched worker; the {role} at {address} has its own --device"
                )


class SplitSession:
    """One model on one gateway and one AP. Close it, or use it as a context manager.

    Attributes:
        model: what was asked for.
        loaded: what the gateway says of the model: its cuts, its fingerprint.
        connected: what the gateway says of its link.
    """

    def __init__(
        self,
        model: ModelRef | str,
        placement: Placement | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Launch or find the workers and have both hold the model; `say` is told what is being waited for.

        Raises:
            SplitnetError: a worker cannot be started or reached, or one of them cannot hold the model.
        """
        self.model = ModelRef(model) if isinstance(model, str) else model
        self.placement = placement or Placement()
        with contextlib.ExitStack() as unless_ready:
            self._gateway, self._ap = self._start(unless_ready, say)
            say("connecting the gateway to the AP")
            self.loaded: Loaded = self._gateway.load(self.model)
            self.connected = self._connect(self.placement.link)
            self._stack = unless_ready.pop_all()

    @property
    def cuts(self) -> list[CutEntry]:
        """Cuts 0..L of the model."""
        return self.loaded.cuts

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's first input, batch included."""
        return self.loaded.inputs[0].shape

    @property
    def checksum(self) -> bool:
        """Whether bodies on the link carry a checksum."""
        asked = self.placement.checksum
        return asked if asked is not None else not self._ap_address[0].is_loopback

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """Device, threads and machine of each worker, as it says."""
        return {
            role: {
                "device": client.welcome.device,
                "threads": client.welcome.threads,
                "machine": client.welcome.machine,
            }
            for role, client in (("gateway", self._gateway), ("ap", self._ap))
        }

    def set_inputs(self, values: Sequence[Any]) -> None:
        """Give both workers these flat inputs in place of the model's example."""
        encoded = encode_values(values)
        for client in (self._gateway, self._ap):
            client.ask(Inputs(encoded.specs), Done, encoded.buffers)

    def measure(self, cut: int | str, *, codec: str = "none", repeat: int = 0) -> Sample:
        """One split inference on the inputs, timed on the gateway and compared with the unsplit model there."""
        index = find_cut(str(cut), self.cuts, self.model.name)
        measured = self._gateway.ask(Measure(index, check_codec(codec)), Measured).message
        return Sample(
            cut=index,
            repeat=repeat,
            timeline=measured.timeline,
            sent_bytes=measured.sent_bytes,
            bitwise_equal=measured.bitwise_equal,
            max_error=measured.max_error,
        )

    def infer(self, *inputs: Any, cut: int | str, codec: str = "none") -> Any:
        """The model's output for flat inputs, computed split at `cut`; tensors on the CPU."""
        if inputs:
            encoded = encode_values(inputs)
            self._gateway.ask(Inputs(encoded.specs), Done, encoded.buffers)
        index = find_cut(str(cut), self.cuts, self.model.name)
        answer = self._gateway.ask(Measure(index, check_codec(codec), want_output=True), Measured)
        output = decode_values(
            answer.message.values, answer.body.clone(), torch.device("cpu"), max_bytes=MAX_OUTPUT_BYTES
        )
        return output[0]

    def local(self, role: str) -> float:
        """Seconds of one forward pass of the unsplit model on the worker of this role."""
        return self._client(role).ask(Local(), LocalTime).message.seconds

    def beside(self, model: ModelRef, role: str) -> Client:
        """Another connection to the worker of this role, with another model; it ends with the session."""
        address, token = self._addresses[role]
        client = self._stack.enter_context(Client.connect(address, role=role, token=token))
        client.load(model)
        return client

    def layers_ns(self, role: str) -> list[int]:
        """Nanoseconds of layers 1..L in one pass of the unsplit model on the worker of this role."""
        return self._client(role).ask(Layers(), LayerTimes).message.layers_ns

    def probe(self, payload_bytes: int, *, answer_bytes: int = 4000, codec: str = "none") -> Probed:
        """One message of made-up values to the AP and its answer, timed as an inference is, with no model in it.

        Raises:
            WorkerError: a size that a worker refuses, or the AP is gone.
        """
        return self._gateway.ask(Probe(payload_bytes, answer_bytes, check_codec(codec)), Probed).message

    def relink(self, link: Link) -> None:
        """Go on over another link, with the same workers and the same model."""
        self.connected = self._connect(link)
        self.placement = replace(self.placement, link=link)

    def close(self) -> None:
        """End the connections, and the workers that were launched."""
        self._stack.close()

    def _connect(self, link: Link) -> Connected:
        address, token = self._ap_address
        request = Connect(
            host=address.host,
            port=address.port,
            token=token,
            body_checksum=self.checksum,
            rate_bps=link.rate_bps,
            delay_s=link.delay_s,
        )
        return self._gateway.ask(request, Connected).message

    def _client(self, role: str) -> Client:
        return {"gateway": self._gateway, "ap": self._ap}[role]

    def _start(self, stack: contextlib.ExitStack, say: Callable[[str], None]) -> tuple[Client, Client]:
        placement = self.placement
        cores: tuple[Sequence[int], Sequence[int]] = ((), ())
        if placement.gateway is None and placement.ap is None:
            cores = split_cores(placement.threads, placement.threads)
        launched: dict[str, LaunchedWorker] = {}
        for role, address, device, own_cores in (
            ("gateway", placement.gateway, placement.gateway_device, cores[0]),
            ("ap", placement.ap, placement.ap_device, cores[1]),
        ):
            if address is None:
                launched[role] = stack.enter_context(
                    LaunchedWorker(role, self.model, device=device, threads=placement.threads, cores=own_cores)
                )
        say(f"starting {' and '.join(launched) or 'no worker'}, building {self.model.name}")
        addresses = {
            role: (launched[role].wait(), launched[role].token) if role in launched else (given, "")
            for role, given in (("gateway", placement.gateway), ("ap", placement.ap))
        }
        clients = {}
        for role, (address, token) in addresses.items():
            assert address is not None
            clients[role] = stack.enter_context(Client.connect(address, role=role, token=token))
        assert addresses["ap"][0] is not None
        self._ap_address = (addresses["ap"][0], addresses["ap"][1])
        self._addresses = {role: (address, token) for role, (address, token) in addresses.items() if address}
        say(f"loading {self.model.name} on both workers")
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(client.load, self.model) for client in clients.values()]:
                future.result()
        return clients["gateway"], clients["ap"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
