"""Links that the kernel keeps: a namespace for each machine, a cable for each link, a token bucket on it.

Decides the layout. Each machine has a cable to a bridge in a namespace of its own (`hub`), and so have we: that is
how all find each other at full speed. Each gateway has a second cable, to its AP; `tc tbf` keeps the rate at the
gateway's end, `tc netem` at both ends the delay, where the kernel has it. Addresses are private, and on our side not
used yet.

Rates are those of the frames' bytes, as in the other backend: tbf also counts what Ethernet, IP and TCP add, so its
rate is set higher by that share. Its bucket starts full, and the kernel fills it at every change: **a message within
the burst passes at once, a larger one gains the burst**. So the bucket is as small as the kernel's timers allow: one
packet, two from some 24 Mbit/s on, 0.3 ms of the rate above 80. (With the usual 16 kB, 100 kB came 18% too fast; with
this, 1.5 to 3%, and long messages no slower.) A trace is followed by a thread that calls `tc` at every change, as
long before as its last call took; where few packets pass between two changes (1 Mbit/s, 0.1 s), 6% are lost.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import final

from splitnet.errors import SettingsError
from splitnet.runtime.address import Address
from splitnet.runtime.link import Link
from splitnet.runtime.links import Links, Machine
from splitnet.runtime.namespaces import WAY_OUT, check_possible, inside, new_prefix, remove, remove_abandoned, tool
from splitnet.runtime.rates import RateTrace

PACKET_BYTES = 1514
PAYLOAD_BYTES = 1448
"""Of a full packet on Ethernet: 1500 less IP's 20 and TCP's 32."""
LEAST_BURST_BYTES = 1600
"""A packet; of one that is larger than the bucket, nothing would pass."""
SLOW_BURST_S, FAST_BURST_S = 1e-3, 3e-4
LEAST_BPS, MOST_BPS = 1e3, 1e10
LEAST_STEP_S = 0.05
"""A change of the rate takes the kernel's tools some ms."""
QUEUE_BYTES = 1 << 23
"""More than a socket holds, so that nothing is dropped."""
NETEM_PACKETS = 100_000

_CONTROL = list(ipaddress.IPv4Network("10.192.0.0/10").subnets(new_prefix=20))
_LINKS = ipaddress.IPv4Network("172.16.0.0/12")
MOST_MACHINES = 4000


def burst_bytes(rate_bps: float) -> int:
    """How many bytes the token bucket holds at a rate."""
    bytes_per_s = rate_bps / 8
    slow = min(int(bytes_per_s * SLOW_BURST_S), 2 * PACKET_BYTES)
    return max(LEAST_BURST_BYTES, slow, int(bytes_per_s * FAST_BURST_S))


def bucket(rate_bps: float) -> list[str]:
    """tbf with its parameters, as `tc` takes them."""
    on_wire = round(rate_bps * PACKET_BYTES / PAYLOAD_BYTES)
    return ["tbf", "rate", f"{on_wire}bit", "burst", str(burst_bytes(rate_bps)), "limit", str(QUEUE_BYTES)]


@final
class KernelLinks(Links):
    """Every machine is a network namespace. Needs root on Linux."""

    def __init__(self, ap_of: Sequence[int], delay_s: float = 0.0) -> None:
        super().__init__(ap_of, delay_s)
        machines = [Machine("gateway", number) for number in range(len(self.ap_of))]
        machines += [Machine("ap", number) for number in sorted(set(self.ap_of))]
        if len(machines) > MOST_MACHINES:
            raise SettingsError(f"{len(machines)} machines are over {MOST_MACHINES}; {WAY_OUT}")
        self._machines = machines
        self._prefix, self._outside = new_prefix()
        self._made: list[str] = []
        self._followers: dict[int, _Follower] = {}
        self._control: ipaddress.IPv4Network | None = None

    @property
    def connection(self) -> Link:
        return Link()

    def start(self) -> None:
        check_possible()
        remove_abandoned()
        with contextlib.ExitStack() as unless_made:
            unless_made.callback(self.close)
            self._make_hub()
            for machine in self._machines:
                self._make_machine(machine)
            for gateway, ap in enumerate(self.ap_of):
                self._make_link(gateway, ap)
            unless_made.pop_all()

    def close(self) -> None:
        with contextlib.ExitStack() as whatever_fails:
            while self._made:
                whatever_fails.callback(remove, self._made.pop())
            whatever_fails.callback(self._unplug)
            while self._followers:
                whatever_fails.callback(self._followers.popitem()[1].end)

    def listen_host(self, machine: Machine) -> str:
        return "0.0.0.0"

    def command(self, machine: Machine, command: Sequence[str]) -> list[str]:
        return inside(self._name(machine), command)

    def address(self, machine: Machine, port: int) -> Address:
        return Address(str(self._host(2 + self._machines.index(machine))), port)

    def ap_address(self, gateway: int, port: int) -> Address:
        return Address(str(_link_hosts(gateway)[1]), port)

    def burst_bytes(self, gateway: int, at_ns: int) -> int:
        return burst_bytes(self._paces[gateway].rate_bps(at_ns))

    def set_rate(self, gateway: int, rate: float | RateTrace) -> None:
        trace = rate if isinstance(rate, RateTrace) else RateTrace.constant(rate)
        _check(trace)
        if (before := self._followers.pop(gateway, None)) is not None:
            before.end()
        self._shape(gateway, trace.rates_bps[0])
        self._paces[gateway].set(trace)
        if len(trace.rates_bps) > 1:
            self._followers[gateway] = _Follower(trace, lambda rate_bps: self._shape(gateway, rate_bps))

    def _name(self, machine: Machine) -> str:
        return f"{self._prefix}{machine.role}{machine.number}"

    def _host(self, number: int) -> ipaddress.IPv4Address:
        assert self._control is not None, "not started"
        return self._control[number]

    def _make(self, name: str) -> None:
        self._made.append(name)  # first, so that it is removed whatever happens
        tool("ip", "netns", "add", name)
        tool("ip", "-n", name, "link", "set", "lo", "up")

    def _make_hub(self) -> None:
        hub = f"{self._prefix}hub"
        self._make(hub)
        tool("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        _up(hub, "bridge")
        tool("ip", "link", "add", self._outside, "type", "veth", "peer", "name", "outside", "netns", hub)
        tool("ip", "-n", hub, "link", "set", "outside", "master", "bridge")
        _up(hub, "outside")
        self._control = _free_network(json.loads(tool("ip", "-j", "-4", "route", "show", "table", "all") or "[]"))
        tool("ip", "addr", "add", f"{self._host(1)}/{self._control.prefixlen}", "dev", self._outside)
        tool("ip", "link", "set", self._outside, "up", "addrgenmode", "none")

    def _unplug(self) -> None:
        """Our cable goes at once; those inside, with their namespaces."""
        with contextlib.suppress(SettingsError):
            tool("ip", "link", "del", self._outside)

    def _make_machine(self, machine: Machine) -> None:
        name, hub, port = self._name(machine), f"{self._prefix}hub", f"{machine.role}{machine.number}"
        self._make(name)
        tool("ip", "link", "add", "control", "netns", name, "type", "veth", "peer", "name", port, "netns", hub)
        tool("ip", "-n", hub, "link", "set", port, "master", "bridge")
        _up(hub, port)
        assert self._control is not None
        host = self.address(machine, 0).host
        tool("ip", "-n", name, "addr", "add", f"{host}/{self._control.prefixlen}", "dev", "control")
        _up(name, "control")

    def _make_link(self, gateway: int, ap: int) -> None:
        ends = {self._name(Machine("gateway", gateway)): "uplink", self._name(Machine("ap", ap)): f"gateway{gateway}"}
        (near, near_end), (far, far_end) = ends.items()
        tool("ip", "link", "add", near_end, "netns", near, "type", "veth", "peer", "name", far_end, "netns", far)
        for (name, end), host in zip(ends.items(), _link_hosts(gateway), strict=True):
            tool("ip", "-n", name, "addr", "add", f"{host}/30", "dev", end)
            _up(name, end)
            if self.delay_s:
                self._delay(name, end)

    def _delay(self, name: str, end: str) -> None:
        microseconds = f"{round(self.delay_s * 1e6)}us"
        words = ["root", "handle", "1:", "netem", "delay", microseconds, "limit", str(NETEM_PACKETS)]
        try:
            tool("tc", "-n", name, "qdisc", "add", "dev", end, *words)
        except SettingsError as error:
            if "unknown" not in str(error):
                raise
            raise SettingsError(
                f"--link-backend kernel cannot delay by {self.delay_s:g} s, this kernel has no netem (sch_netem); "
                "leave the delay out, or take --link-backend user, which holds messages itself"
            ) from error

    def _shape(self, gateway: int, rate_bps: float) -> None:
        place = ["parent", "1:1", "handle", "10:"] if self.delay_s else ["root", "handle", "10:"]
        name = self._name(Machine("gateway", gateway))
        tool("tc", "-n", name, "qdisc", "replace", "dev", "uplink", *place, *bucket(rate_bps))


class _Follower:
    """Sets the rates of a trace, from its second one on, when their time comes. `end` it."""

    def __init__(self, trace: RateTrace, shape: Callable[[float], None]) -> None:
        self._ended = threading.Event()
        self._error: SettingsError | None = None
        self._start_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(trace, shape), daemon=True)
        self._thread.start()

    def _run(self, trace: RateTrace, shape: Callable[[float], None]) -> None:
        took_s = 0.0
        for start_s, rate_bps in zip(trace.starts_s[1:], trace.rates_bps[1:], strict=True):
            if self._ended.wait(max(0.0, self._start_s + start_s - took_s - time.monotonic())):
                return
            before_s = time.monotonic()
            try:
                shape(rate_bps)
            except SettingsError as error:
                self._error = error
                return
            took_s = min(time.monotonic() - before_s, LEAST_STEP_S)

    def end(self) -> None:
        """Stop. Raises SettingsError if a rate could not be set."""
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


def _check(trace: RateTrace) -> None:
    for rate_bps in trace.rates_bps:
        if not LEAST_BPS <= rate_bps <= MOST_BPS:
            raise SettingsError(
                f"--link-backend kernel keeps no rate of {rate_bps:g} bit/s, only "
                f"{LEAST_BPS:g}..{MOST_BPS:g}; {WAY_OUT}"
            )
    for before_s, start_s in zip(trace.starts_s, trace.starts_s[1:], strict=False):
        if start_s - before_s < LEAST_STEP_S:
            raise SettingsError(
                f"the trace changes at {before_s:g} s and {start_s:g} s, and --link-backend kernel needs "
                f"{LEAST_STEP_S:g} s between changes; thin it out, or {WAY_OUT}"
            )


def _up(name: str, interface: str) -> None:
    """Switch on, without the address of its own that would send packets nobody asked for."""
    tool("ip", "-n", name, "link", "set", interface, "up", "addrgenmode", "none")


def _link_hosts(gateway: int) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """The gateway's and its AP's address on their link."""
    return _LINKS[4 * gateway + 1], _LINKS[4 * gateway + 2]


def _free_network(routes: Sequence[dict[str, object]]) -> ipaddress.IPv4Network:
    """A private network that no route of this host leads to."""
    taken = []
    for route in routes:
        with contextlib.suppress(ValueError):  # `default`, which is everywhere
            taken.append(ipaddress.ip_network(str(route.get("dst")), strict=False))
    first = os.getpid() % len(_CONTROL)
    for network in _CONTROL[first:] + _CONTROL[:first]:
        if not any(network.overlaps(other) for other in taken if other.version == 4):
            return network
    raise SettingsError(f"--link-backend kernel finds no free network within 10.192.0.0/10; {WAY_OUT}")
