"""How near links come to the rate that is asked of them: kept by the sender, and by the kernel.

    .venv/bin/python -m benchmarks.links               some 8 minutes on an idle machine
    .venv/bin/python -m benchmarks.links --quick       some 1 minute

A *transfer* goes from before the sender hands over the first byte of a frame to when the receiver, another process
on the same clock, has read its last; achieved is its bits over that time, asked the mean rate over that time.
*traced*: the rate alternates every 100 ms between half and one and a half of the one named, from just before the
message. Backends, sizes and fixed or traced alternate within a round. The rate is set anew before each message, which
fills the kernel's bucket: its worst case. *small*: asked to take less than 5 ms, of which waking up takes some
percent, or at most 20 times the kernel's burst. *free*: within the burst, so that it is not slowed at all. Neither is
judged.

*noting*: a message of 1 KB by a connection that notes its transfers, and by one that does not.

The kernel's backend needs root. It does not know several links at once, nor machines that are busy.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.command_line import keep, parser_of
from benchmarks.link_ends import Process, Sent, as_order, as_transfer
from splitnet.errors import SettingsError
from splitnet.profiling.machine import machine_fingerprint
from splitnet.runtime.connection import Connection
from splitnet.runtime.kernel_links import KernelLinks
from splitnet.runtime.links import Links, Machine, UserLinks
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.transfers import Transfer, TransferLog
from splitnet.terminal import Terminal

LIMIT = 0.03
SIZES_BYTES = (10_000, 100_000, 1_000_000, 4_000_000)
STEP_S = 0.1
REST_S = 0.03
NOTED = 2000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rates, repeats of each transfer, repeats of those over a second, and seconds beyond which none is tried."""

    rates_bps: tuple[float, ...]
    rounds: int
    long_rounds: int
    longest_s: float


FULL = Counts((1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6, 200e6), 15, 3, 8.5)
QUICK = Counts((5e6, 50e6, 200e6), 3, 1, 2.0)


@contextlib.contextmanager
def ends(links: Links) -> Iterator[Process]:
    """The sender of a link of this backend, connected to its receiver."""
    gateway, ap = Machine("gateway", 0), Machine("ap", 0)
    with Process(lambda command: links.command(ap, command), "receive", links.listen_host(ap)) as receiver:
        address = links.ap_address(0, int(receiver.hear()))
        command = ("send", address.host, str(address.port))
        with Process(lambda words: links.command(gateway, words), *command) as sender:
            sender.hear()
            yield sender


class Backend:
    """A link with its sender."""

    def __init__(self, links: Links, stack: contextlib.ExitStack) -> None:
        self.links = stack.enter_context(links)
        self.sender = stack.enter_context(ends(links))
        self.setting_s: list[float] = []

    def transfer(self, size_bytes: int, rate: float | RateTrace) -> Transfer:
        """One message at a rate that is set just before."""
        before_s = time.perf_counter()
        self.links.set_rate(0, rate)
        self.setting_s.append(time.perf_counter() - before_s)
        if not isinstance(rate, RateTrace):
            time.sleep(REST_S)
        self.links.record(0, as_transfer(self.sender.ask(send=size_bytes)))
        ((_, transfer),) = self.links.transfers()
        return transfer


def user(stack: contextlib.ExitStack) -> Backend:
    """The sender is told its rates as a gateway would be."""
    made: list[Backend] = []
    backend = Backend(UserLinks([0], tell=lambda gateway, rate: made[0].sender.ask(**as_order(rate))), stack)
    made.append(backend)
    return backend


def alternating(rate_bps: float, size_bytes: int) -> RateTrace:
    """Half and one and a half of a rate in turn, for long enough."""
    steps = int(size_bytes * 8 / rate_bps / STEP_S) + 4
    return RateTrace.of_slots(itertools.islice(itertools.cycle((rate_bps / 2, rate_bps * 1.5)), steps), STEP_S)


def transfers(backends: dict[str, Backend], counts: Counts) -> list[Row]:
    """Every transfer, with what was asked."""
    rows = []
    order = random.Random(0)
    for rate_bps in counts.rates_bps:
        for number in range(counts.rounds):
            cells = [
                (name, size, traced)
                for name, size, traced in itertools.product(backends, SIZES_BYTES, (False, True))
                if size * 8 / rate_bps <= counts.longest_s
                and (number < counts.long_rounds or size * 8 / rate_bps <= 1)
                and not (traced and size * 8 / rate_bps < 2 * STEP_S)
            ]
            for name, size, traced in order.sample(cells, len(cells)):
                transfer = backends[name].transfer(size, alternating(rate_bps, size) if traced else rate_bps)
                marks = {"small": transfer.is_small, "free": transfer.is_free, "error": transfer.error}
                rows.append(
                    {"backend": name, "rate_bps": rate_bps, "traced": traced, "body_bytes": size}
                    | asdict(transfer)
                    | marks
                )
    return rows


def noting() -> dict[str, list[float]]:
    """Seconds of `send` with a message of 1 KB, unpaced: with a log, without, and without again."""
    found: dict[str, list[float]] = {"without": [], "with": [], "without again": []}
    left, right = socket.create_server(("127.0.0.1", 0)), None
    with left:
        sock = socket.create_connection(left.getsockname())
        right, _ = left.accept()
    connection: Connection[Any] = Connection(sock, Sent, "nobody")
    memory, body = bytearray(1 << 20), bytes(1000)
    log = TransferLog()
    for number in range(NOTED):
        for name, seconds in found.items():
            connection.transfers = log if name == "with" else None
            before_s = time.perf_counter()
            connection.send(Sent(), [body])
            if number >= NOTED // 10:
                seconds.append(time.perf_counter() - before_s)
            right.recv_into(memory)
    connection.close()
    right.close()
    return found


def measure(counts: Counts) -> Row:
    """Raw transfers of the backends that can be had here."""
    results: Row = {"machine": machine_fingerprint(), "not_measured": {}}
    with contextlib.ExitStack() as stack:
        backends = {"user": user(stack)}
        try:
            backends["kernel"] = Backend(KernelLinks([0]), stack)
        except SettingsError as error:
            results["not_measured"]["kernel"] = str(error)
        for backend in backends.values():  # connections grow their windows once
            backend.transfer(SIZES_BYTES[-1], 200e6)
            backend.setting_s.clear()
        with Terminal().waiting("transfers"):
            results["transfers"] = transfers(backends, counts)
        results["setting_s"] = {name: backend.setting_s for name, backend in backends.items()}
    results["noting_s"] = noting()
    return results


def cells(rows: list[Row]) -> list[Row]:
    """For each backend, rate, kind and size: the median error, and whether it is judged."""
    found = []
    grouped = itertools.groupby(sorted(rows, key=_cell), key=_cell)
    for (rate_bps, size, traced, name), several in grouped:
        same = list(several)
        marks = [mark for mark in ("free", "small") if any(row[mark] for row in same)]
        found.append(
            {
                "rate_bps": rate_bps,
                "body_bytes": size,
                "traced": traced,
                "backend": name,
                "error": statistics.median(row["error"] for row in same),
                "worst": max((row["error"] for row in same), key=abs),
                "count": len(same),
                "marks": marks,
            }
        )
    return found


def _cell(row: Row) -> tuple[float, int, bool, str]:
    return row["rate_bps"], row["body_bytes"], row["traced"], row["backend"]


def show(results: Row) -> None:
    """Print medians of raw results."""
    terminal = Terminal()
    found = cells(results["transfers"])
    terminal.table(
        ("Mbit/s", "bytes", "rate", "backend", "error, median", "worst", "of", ""),
        [
            (
                f"{cell['rate_bps'] / 1e6:g}",
                f"{cell['body_bytes']:,}",
                "traced" if cell["traced"] else "fixed",
                cell["backend"],
                f"{cell['error']:+.2%}",
                f"{cell['worst']:+.1%}",
                str(cell["count"]),
                ", ".join(cell["marks"]) or ("over 3%" if abs(cell["error"]) > LIMIT else ""),
            )
            for cell in found
        ],
        "achieved over asked, less 1",
    )
    for name in sorted({cell["backend"] for cell in found}):
        judged = [cell for cell in found if cell["backend"] == name and not cell["marks"]]
        good = sum(abs(cell["error"]) <= LIMIT for cell in judged)
        setting_ms = statistics.median(results["setting_s"][name]) * 1e3
        terminal.print(f"{name}: {good} of {len(judged)} within {LIMIT:.0%}; to set a rate takes {setting_ms:.1f} ms")
    for name, reason in results["not_measured"].items():
        terminal.print(f"{name}: not measured: {reason}")
    medians = {name: statistics.median(seconds) * 1e6 for name, seconds in results["noting_s"].items()}
    terminal.print("1 KB sent, " + ", ".join(f"{name} a log {median:.1f} us" for name, median in medians.items()))


def main() -> None:
    parser = parser_of(__doc__, "links", quick="a few rates and repeats")
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL)
    keep(results, options.output)
    show(results)


if __name__ == "__main__":
    main()
