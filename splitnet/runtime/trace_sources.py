"""Where traces of rates come from: CSV files that people make, and the channel of a scenario.

Decides the format: rows `time_s,rate_bps`, one such row as a header if wanted, empty lines skipped; what a trace
means stands in `rates.py`. It does not know who keeps to a trace.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

import numpy as np

from splitnet.controller.world import CHANNEL, World, stream
from splitnet.errors import SettingsError
from splitnet.runtime.rates import FASTEST_BPS, SLOWEST_BPS, RateTrace, why_not

MOST_BYTES = 1 << 23
MOST_ROWS = 100_000
LONGEST_S = 1e7
"""Some four months."""
CLOSEST_S = 1e-6
"""Changes closer than this are lost beside the clock that they are kept by."""
COLUMNS = ("time_s", "rate_bps")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_WAY_OUT = "give rows such as 0.5,20e6: seconds since the start and bit/s from then on"


def read_trace(path: Path) -> RateTrace:
    """The trace in a CSV file.

    Raises:
        SettingsError: it cannot be read, is no file, is too large, or `parse_trace` refuses it.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe might never end
            raise SettingsError(f"{path} is no file; {_WAY_OUT}")
        if found.st_size > MOST_BYTES:
            raise SettingsError(f"{path} has {found.st_size} bytes, a trace at most {MOST_BYTES}; take a shorter one")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise SettingsError(f"cannot read the trace {path}: {error.strerror}; {_WAY_OUT}") from error
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} line {line}: not UTF-8 text; {_WAY_OUT}") from None
    return parse_trace(text, str(path))


def parse_trace(text: str, where: str) -> RateTrace:
    """A trace from CSV text; `where` is for messages.

    Raises:
        SettingsError: one line that names the line of the text, the value and what it must be.
    """
    starts_s: list[float] = []
    rates_bps: list[float] = []
    for number, line in enumerate(text.split("\n"), 1):
        cells = [cell.strip() for cell in line.split(",", 8)]
        if cells == [""] or (not starts_s and tuple(cells) == COLUMNS):
            continue
        if len(cells) != 2 or not all(_NUMBER.fullmatch(cell) for cell in cells):
            raise SettingsError(f"{where} line {number}: {line.strip()[:40]!r} is not two numbers; {_WAY_OUT}")
        start_s, rate_bps = map(float, cells)
        before_s = starts_s[-1] if starts_s else None
        complaint = why_not(before_s, start_s, rate_bps)
        if not complaint and before_s is not None and start_s - before_s < CLOSEST_S:
            complaint = f"time {start_s} s is less than {CLOSEST_S:g} s after {before_s} s; leave one of them out"
        if not complaint and (start_s > LONGEST_S or len(starts_s) == MOST_ROWS):
            complaint = f"a trace has at most {MOST_ROWS} rows and {LONGEST_S:g} s; cut it off before"
        if complaint:
            raise SettingsError(f"{where} line {number}: {complaint}")
        starts_s.append(start_s)
        rates_bps.append(rate_bps)
    if not starts_s:
        raise SettingsError(f"{where} holds no row; {_WAY_OUT}")
    return RateTrace(tuple(starts_s), tuple(rates_bps))


def channel_traces(world: World, seed: int, slots: int, slot_s: float) -> list[RateTrace]:
    """[gateways] the rates R_m(t) (MODEL.md row 3 [A]) that this world has in its slots, each held for `slot_s`.

    They are those of `World.observations`; a fade below 1 bit/s is 1 bit/s.

    Raises:
        SettingsError: no slot, or more than a trace holds.
    """
    if not 1 <= slots <= MOST_ROWS:
        raise SettingsError(f"a trace of {slots} slots; it holds 1..{MOST_ROWS}")
    chances, law = stream(seed, CHANNEL), world.rate_bps
    rates = np.array([law.at(chances.random(len(law))) for _ in range(slots)])  # [slots, gateways]
    return [RateTrace.of_slots(column, slot_s) for column in rates.clip(SLOWEST_BPS, FASTEST_BPS).T.tolist()]
