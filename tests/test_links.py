"""The links of a testbed: what both backends keep, and what of the kernel's can be told without root."""

from __future__ import annotations

import ipaddress
import os
import shutil
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.runtime import kernel_links, namespaces
from splitnet.runtime.address import Address
from splitnet.runtime.kernel_links import KernelLinks, bucket, burst_bytes
from splitnet.runtime.link import Link
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.links import Links, Machine, UserLinks
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.transfers import MOST_KEPT, Transfer


def test_user_links_tell_the_gateways_and_keep_what_was_set() -> None:
    told: list[tuple[int, float | RateTrace]] = []
    trace = RateTrace((0.0, 1000.0), (2e6, 3e6))
    with UserLinks([0, 0, 1], 0.005, lambda gateway, rate: told.append((gateway, rate))) as links:
        links.set_rate(0, 5e6)
        links.set_rate(2, trace)
        now_ns = time.monotonic_ns()
        assert told == [(0, 5e6), (2, trace)]
        assert [links.pace(gateway).rate_bps(now_ns) for gateway in (0, 2)] == [5e6, 2e6]
        assert links.connection == Link(None, 0.005)
        assert links.address(Machine("ap", 1), 7000) == links.ap_address(2, 7000) == Address("127.0.0.1", 7000)
        assert links.listen_host(Machine("ap", 0)) == "127.0.0.1"
        assert links.command(Machine("gateway", 0), ["a", "b"]) == ["a", "b"]
        with pytest.raises(SettingsError, match="rate 0"):
            links.set_rate(0, 0)
        assert told == [(0, 5e6), (2, trace)]


@pytest.mark.parametrize(("make", "burst"), [(UserLinks, 0), (KernelLinks, 1600)])
def test_a_transfer_gets_what_the_gateway_did_not_know(make: type[Links], burst: int) -> None:
    links = make([0, 0])
    links._paces[1] = Pace(8e6, lambda: 0)
    started_ns = 10**9
    unknown = Transfer(1000, None, started_ns, started_ns + 10**6, received=True)
    links.record(1, unknown)
    links.record(1, Transfer(2000, 7e6, started_ns, started_ns + 10**6))
    assert links.transfers() == [
        (1, Transfer(1000, 8e6, started_ns, started_ns + 10**6, received=True, burst_bytes=burst)),
        (1, Transfer(2000, 7e6, started_ns, started_ns + 10**6, burst_bytes=burst)),
    ]
    assert links.transfers() == []
    for size in range(MOST_KEPT + 3):
        links.record(0, Transfer(size, 1e6, 0, 1))
    assert [transfer.size_bytes for _, transfer in links.transfers()] == list(range(3, MOST_KEPT + 3))


@pytest.mark.parametrize("make", [UserLinks, KernelLinks])
def test_a_delay_is_checked(make: type[Links]) -> None:
    with pytest.raises(SettingsError, match="delay"):
        make([0], -1.0)


# --- the kernel's backend


def test_the_bucket_holds_a_packet_or_two_or_a_third_of_a_millisecond() -> None:
    """Bytes of frames at 14.48 Mbit/s are 15.14 on the wire: 1,448 of 1,514 in every full packet; 1 ms are 1,810."""
    assert bucket(14.48e6) == ["tbf", "rate", "15140000bit", "burst", "1810", "limit", "8388608"]
    assert burst_bytes(1e3) == burst_bytes(12e6) == 1600
    assert burst_bytes(16e6) == 2000
    assert burst_bytes(25e6) == burst_bytes(80e6) == 2 * (1500 + 14)
    assert burst_bytes(1e9) == 37_500


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        (RateTrace.constant(999.0), "keeps no rate of 999 bit/s, only 1000..1e+10"),
        (RateTrace((0.0, 1.0), (1e6, 2e10)), "keeps no rate of 2e+10"),
        (RateTrace((0.0, 1.0, 1.01), (1e6, 2e6, 3e6)), "changes at 1 s and 1.01 s"),
    ],
)
def test_what_the_kernel_cannot_keep_is_refused(trace: RateTrace, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        KernelLinks([0]).set_rate(0, trace)
    assert told in str(caught.value)
    assert "--link-backend user" in str(caught.value)


def test_without_root_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(kernel_links, "tool", _never)
    monkeypatch.setattr(namespaces, "tool", _never)
    with pytest.raises(SettingsError, match="only root may; take --link-backend user"), KernelLinks([0]):
        pass


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "tc" else f"/bin/{name}")
    with pytest.raises(SettingsError, match="needs `tc`; install iproute2, or take --link-backend user"):
        namespaces.check_possible()


def _never(*words: str) -> str:
    raise AssertionError(words)


def test_what_a_tool_says_is_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        namespaces.tool("sh", "-c", "echo one >&2; echo two >&2; exit 3")
    assert "was refused: one two; take --link-backend user" in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be run") as caught:
        namespaces.tool("no-such-tool-anywhere")
    assert "\n" not in str(caught.value)
    assert namespaces.tool("echo", "word") == "word\n"


def test_only_namespaces_of_processes_that_are_gone_are_abandoned() -> None:
    """Process 10 was started at 500 and 20 at 700; a number that was given again does not keep a dead one's."""
    names = [
        "splitnet-10-500-0-hub",
        "splitnet-10-499-0-hub",
        "splitnet-20-700-3-ap1",
        "splitnet-30-100-0-gateway2",
        "splitnet-30-100-0-gateway2-more",
        "splitnet-x-100-0-ap0",
        "cni-1234",
        "splitnet",
    ]
    assert namespaces.abandoned(names, {10: 500, 20: 700}.get) == [
        "splitnet-10-499-0-hub",
        "splitnet-30-100-0-gateway2",
    ]


def test_this_process_is_not_gone() -> None:
    prefix, interface = namespaces.new_prefix()
    again, other = namespaces.new_prefix()
    assert prefix != again
    assert interface != other
    assert len(interface) <= 15  # what Linux allows
    assert str(os.getpid()) in interface
    assert namespaces.abandoned([f"{prefix}hub"]) == []
    assert namespaces.start_of(2**22 + 1) is None  # above the highest number that a process can have


networks = st.builds(
    lambda bits, length: str(ipaddress.IPv4Network((bits, length), strict=False)),
    st.integers(10 << 24, (10 << 24) + (1 << 24) - 1),
    st.integers(10, 32),
)


@given(st.lists(networks, max_size=30), st.sampled_from([[], [{"dst": "default"}], [{"dst": "fe80::/64"}, {}]]))
def test_the_network_of_a_run_overlaps_no_route(taken: list[str], more: list[dict[str, Any]]) -> None:
    routes = [{"dst": network} for network in taken] + more
    others = [ipaddress.IPv4Network(network) for network in taken]
    refused = ""
    try:
        found = kernel_links._free_network(routes)
    except SettingsError as error:
        refused = str(error)
    if refused:
        whole = set(kernel_links._CONTROL)
        assert all(any(network.overlaps(other) for other in others) for network in whole)
        return
    assert found.is_private
    assert found.num_addresses >= kernel_links.MOST_MACHINES + 3
    assert not any(found.overlaps(other) for other in others)


def test_links_have_addresses_of_their_own() -> None:
    links = KernelLinks([0] * 500)
    found = [links.ap_address(gateway, 80).host for gateway in range(500)]
    nets = {ipaddress.ip_interface(f"{host}/30").network for host in found}
    assert len(nets) == 500
    assert all(net.is_private for net in nets)


def test_more_machines_than_addresses() -> None:
    with pytest.raises(SettingsError, match="4001 machines are over 4000"):
        KernelLinks([0] * 4000)
