"""The links of a testbed, one from each gateway to its AP: whoever owns the run sets rates and reads transfers here.

Two backends share this interface. `UserLinks`: loopback, and the sender keeps the rate (`link.py`); needs nothing.
`KernelLinks` (`kernel_links.py`): a network namespace for each machine, and the kernel keeps the rate; needs root.

The rate set is that of the frames' bytes from gateway to AP; before the first is set, there is none. Answers, from AP
to gateway, are not slowed; the delay holds both ways. It does not know models, nor who starts the machines.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self, final

from splitnet.runtime.address import Address
from splitnet.runtime.link import Link
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.rates import FASTEST_BPS, RateTrace
from splitnet.runtime.transfers import MOST_KEPT, Transfer


@dataclass(frozen=True, slots=True)
class Machine:
    """An emulated machine: the gateway or the AP of this number."""

    role: Literal["gateway", "ap"]
    number: int


class Links(abc.ABC):
    """One link for each gateway. A context manager: entering starts it, leaving removes all that it made.

    Attributes:
        ap_of: [gateways] the AP of each.
        delay_s: one way, of every link.
    """

    def __init__(self, ap_of: Sequence[int], delay_s: float = 0.0) -> None:
        self.ap_of = tuple(ap_of)
        self.delay_s = Link(delay_s=delay_s).delay_s  # which checks it
        self._paces = [Pace(FASTEST_BPS) for _ in ap_of]
        self._transfers: list[tuple[int, Transfer]] = []

    @property
    @abc.abstractmethod
    def connection(self) -> Link:
        """What a gateway and its AP have to do themselves: how `Client.connect` is told to open their connection."""

    @abc.abstractmethod
    def start(self) -> None:
        """Make the links. Raises SettingsError where that cannot be had here."""

    @abc.abstractmethod
    def close(self) -> None:
        """Remove all that was made; a second call does nothing."""

    @abc.abstractmethod
    def listen_host(self, machine: Machine) -> str:
        """The host that this machine's worker is told to listen on."""

    @abc.abstractmethod
    def command(self, machine: Machine, command: Sequence[str]) -> list[str]:
        """The command that runs this command on this machine."""

    @abc.abstractmethod
    def address(self, machine: Machine, port: int) -> Address:
        """Where we and all machines find what listens on that port of this machine, at no set rate."""

    @abc.abstractmethod
    def ap_address(self, gateway: int, port: int) -> Address:
        """Where this gateway finds what listens on that port of its AP, over its link."""

    @abc.abstractmethod
    def burst_bytes(self, gateway: int, at_ns: int) -> int:
        """How many bytes would pass at once after a pause, without being slowed, at an instant."""

    @abc.abstractmethod
    def set_rate(self, gateway: int, rate: float | RateTrace) -> None:
        """From now on this gateway's link has this rate in bit/s, or follows this trace, whose time 0 is now.

        Raises:
            SettingsError: a rate out of the range that this backend keeps.
        """

    def record(self, gateway: int, transfer: Transfer) -> None:
        """A transfer that the gateway noted; what it cannot know is added. The last 10,000 are kept."""
        if transfer.asked_bps is None:
            asked_bps = self._paces[gateway].mean_bps(transfer.started_ns, transfer.ended_ns)
            transfer = replace(transfer, asked_bps=asked_bps)
        burst_bytes = self.burst_bytes(gateway, transfer.started_ns)
        self._transfers.append((gateway, replace(transfer, burst_bytes=burst_bytes)))
        del self._transfers[:-MOST_KEPT]

    def transfers(self) -> list[tuple[int, Transfer]]:
        """The recorded transfers with their gateways, oldest first; they are then forgotten."""
        taken, self._transfers = self._transfers, []
        return taken

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
class UserLinks(Links):
    """Every machine is a process on loopback, and gateways keep the rate when they send."""

    def __init__(
        self,
        ap_of: Sequence[int],
        delay_s: float = 0.0,
        tell: Callable[[int, float | RateTrace], None] = lambda gateway, rate: None,
    ) -> None:
        """`tell` takes every new rate to the process of its gateway, which gives it to its own `Pace`."""
        super().__init__(ap_of, delay_s)
        self._tell = tell

    @property
    def connection(self) -> Link:
        return Link(delay_s=self.delay_s)

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def listen_host(self, machine: Machine) -> str:
        return "127.0.0.1"

    def command(self, machine: Machine, command: Sequence[str]) -> list[str]:
        return list(command)

    def address(self, machine: Machine, port: int) -> Address:
        return Address("127.0.0.1", port)

    def ap_address(self, gateway: int, port: int) -> Address:
        return Address("127.0.0.1", port)

    def burst_bytes(self, gateway: int, at_ns: int) -> int:
        return 0

    def set_rate(self, gateway: int, rate: float | RateTrace) -> None:
        self._paces[gateway].set(rate)
        self._tell(gateway, rate)

    def pace(self, gateway: int) -> Pace:
        """The pace of a gateway's link, for a sender in this process."""
        return self._paces[gateway]
