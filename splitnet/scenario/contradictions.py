"""What two keys of a scenario must not say together.

Each finding is the key to mend and the end of a sentence that begins with that key and its value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from splitnet.scenario.schema import Dnn, ScenarioFile, Section
from splitnet.scenario.values import Spread

KeyPath = tuple[str, ...]
Finding = tuple[KeyPath, str]

WRITTEN_OUT = ("layer_flops", "payload_bits", "gateway_s", "ap_s")
PROFILED = ("model", "gateway_profile", "ap_profile")
FEW = 12
RADIO = ("bandwidth_hz", "distance_m")


def contradictions(file: ScenarioFile) -> Iterator[Finding]:
    """All that is found, in the order of the file's sections."""
    for name, dnn in file.dnn.items():
        yield from ((("dnn", name, *path), message) for path, message in _dnn(dnn))
    yield from _names(file)
    yield from _connections(("devices", "gateway"), file.devices.gateway, "device", file.devices.count, file)
    yield from _connections(("gateways", "ap"), file.gateways.ap, "gateway", file.gateways.count, file)
    yield from _counts(file)
    yield from _needed(file)
    yield from _link(file)
    yield from _reputation(file)
    if file.c6.u_min > file.c6.u_max:
        yield ("c6", "u_min"), f"must be at most c6.u_max, which is {file.c6.u_max:g}"


def _dnn(dnn: Dnn) -> Iterator[Finding]:
    given = given_keys(dnn)
    if dnn.model is None:
        for name in WRITTEN_OUT[:2] if dnn.latency == "flops" else WRITTEN_OUT:
            if name not in given:
                yield (name,), "is missing: give a profiled `model`, or all of " + ", ".join(WRITTEN_OUT)
        for name in (*PROFILED[1:], "codec"):
            if name in given:
                yield (name,), "needs a `model` beside it"
        yield from _written_out(dnn)
        return
    for name in WRITTEN_OUT:
        if name in given:
            yield (name,), "must not stand beside `model`: the table comes from its profile"
    if dnn.latency == "flops" and "ap_profile" in given:
        yield ("ap_profile",), 'needs latency = "measured": FLOPs and payloads come from the gateway\'s profile'


def given_keys(section: Section) -> set[str]:
    """The keys whose values are not the defaults."""
    fields = type(section).model_fields
    return {name for name in fields if getattr(section, name) != fields[name].default}


def _written_out(dnn: Dnn) -> Iterator[Finding]:
    depth = len(dnn.layer_flops or ())
    for name in WRITTEN_OUT[1:]:
        column: Sequence[float] | None = getattr(dnn, name)
        if column is None:
            continue
        if len(column) != depth:
            yield (name,), f"must have an entry for each of the {depth} layers in layer_flops, it has {len(column)}"
        elif name in ("payload_bits", "ap_s") and column[-1] != 0:
            yield (name,), f"must end with 0: at the last cut nothing is left for the AP, it ends with {column[-1]:g}"
    if dnn.latency == "flops":
        for name in WRITTEN_OUT[2:]:
            if getattr(dnn, name) is not None:
                yield (name,), 'needs latency = "measured"'
    if dnn.cuts == "stages":
        yield ("cuts",), "needs a `model`: only a profile knows where stages end"
    elif dnn.cuts != "all" and not set(dnn.cuts) <= set(range(1, depth + 1)):
        yield ("cuts",), f"must hold numbers from 1 to {depth}, the number of layers"


def _names(file: ScenarioFile) -> Iterator[Finding]:
    for name in file.dnn:
        if not name.isprintable() or not 0 < len(name) <= 100:
            yield ("dnn", name), "must have a name of 1 to 100 printable characters"
    for name in file.devices.dnn:
        if name not in file.dnn:
            yield (
                ("devices", "dnn"),
                f"must name sections [dnn.NAME]: no {name[:60]!r} is there{near(name, file.dnn)}",
            )


def near(name: str, known: Iterable[str]) -> str:
    """A hint at names like this one; at all, if there are few."""
    names = list(known)
    found = difflib.get_close_matches(name[:100], names, n=3)
    if found:
        return f"; did you mean {' or '.join(found)}?"
    return f"; there are {', '.join(names)}" if 0 < len(names) <= FEW else ""


def _connections(
    path: KeyPath, links: str | tuple[int, ...], of: str, count: int, file: ScenarioFile
) -> Iterator[Finding]:
    if isinstance(links, str):
        return
    to, there = ("gateway", file.gateways.count) if of == "device" else ("AP", file.aps.count)
    if len(links) < count:
        yield path, f"must name one {to} for each of the {count} {of}s: {of} {len(links)} has none"
    elif len(links) > count:
        yield path, f"must name one {to} for each of the {count} {of}s, it names {len(links)}"
    outside = [place for place, link in enumerate(links) if link >= there]
    if outside:
        yield (
            path,
            f"must hold numbers of {to}s from 0 to {there - 1}: that of {of} {outside[0]} is {links[outside[0]]}",
        )


def _counts(file: ScenarioFile) -> Iterator[Finding]:
    """One entry for each where they are written one by one."""
    sections = (
        ("devices", file.devices, file.devices.count, "device"),
        ("gateways", file.gateways, file.gateways.count, "gateway"),
        ("aps", file.aps, file.aps.count, "AP"),
        ("link", file.link, file.gateways.count, "gateway"),
    )
    for name, section, count, kind in sections:
        for key in type(section).model_fields:
            value = getattr(section, key)
            if isinstance(value, Spread) and value.each and len(value.ends) != count:
                yield (
                    (name, key),
                    f"must have an entry for each of {count} {kind}s, it has {len(value.ends)}",
                )


def _needed(file: ScenarioFile) -> Iterator[Finding]:
    for name, dnn in file.dnn.items():
        for section in ("gateways", "aps"):
            if dnn.latency == "flops" and getattr(file, section).flops_per_cycle is None:
                yield (section, "flops_per_cycle"), f'is missing: [dnn.{name}] has latency "flops"'


def _link(file: ScenarioFile) -> Iterator[Finding]:
    given = given_keys(file.link)
    if "rate_bps" in given:
        for name in sorted(given - {"rate_bps"}):
            yield ("link", name), "must not stand beside link.rate_bps, which replaces the radio channel"
        return
    for name in RADIO:
        if name not in given:
            yield ("link", name), f"is missing: give {' and '.join(RADIO)}, or link.rate_bps"


def _reputation(file: ScenarioFile) -> Iterator[Finding]:
    section = file.reputation
    knots, values = section.knots, section.values
    for name, column in (("knots", knots), ("values", values)):
        if section.shape == "knots" and column is None:
            yield ("reputation", name), 'is missing: shape = "knots" needs knots and values'
        if section.shape != "knots" and column is not None:
            yield ("reputation", name), 'needs shape = "knots"'
    if section.shape != "knots" or knots is None or values is None:
        return
    if len(knots) != len(values) or len(knots) < 2:
        yield (
            ("reputation", "values"),
            f"must be one value for each knot, at least two: there are {len(knots)} knots and {len(values)} values",
        )
    if knots[0] != 0 or any(later <= earlier for earlier, later in pairwise(knots)):
        yield ("reputation", "knots"), "must rise from 0"
    if any(later < earlier for earlier, later in pairwise(values)):
        yield ("reputation", "values"), "must not fall: more work must not earn less"
