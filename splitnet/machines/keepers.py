"""Activations for audits: an AP's node asks the AP's gateways, which keep what they sent for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from splitnet.errors import SplitnetError
from splitnet.machines.messages import Activations, Kept
from splitnet.machines.service import Asker
from splitnet.runtime.address import Address

ANSWER_DEADLINE_S = 5.0


class Keepers:
    """The gateways of one AP."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._gateways: list[Asker] = []
        self._turn = threading.Lock()

    def connect(self, addresses: Sequence[str]) -> None:
        """Raises WorkerError where one does not answer."""
        with self._turn:
            self._gateways += [Asker(Address.parse(address), self._token) for address in addresses]

    def find(self, digest: bytes) -> bytes | None:
        """An activation by its digest; None where no gateway has it, or none answers in time."""
        with self._turn:
            for gateway in self._gateways:
                with contextlib.suppress(SplitnetError):
                    kept, received = gateway.ask_whole(Activations(digest), Kept, deadline_s=ANSWER_DEADLINE_S)
                    if kept.found:
                        return bytes(received.body.numpy().data)
        return None

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.close()
