"""Any valid scenario comes back and can be run; anything else is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splitnet.controller.slot import SlotProblem
from splitnet.errors import SettingsError
from splitnet.scenario import Scenario, scenario_from, scenario_from_text
from tests.scenarios import TINY, refused, tiny


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, exclude_min=low == 0).filter(
        lambda value: abs(value) > 1e-30 or low < 0
    )


def spreads(values: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[Any]:
    ends = st.one_of(values, st.lists(values, min_size=2, max_size=2).map(sorted))
    return st.one_of(ends, st.lists(ends, min_size=count, max_size=count).map(lambda entries: {"each": entries}))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid scenario of a few devices whose tables are written out."""
    n, m, j = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def optional(section: dict[str, Any], **keys: st.SearchStrategy[Any]) -> dict[str, Any]:
        return section | {key: draw(values) for key, values in keys.items() if draw(st.booleans())}

    dnns = {}
    for name in draw(st.lists(st.sampled_from(["a", "b-2", "c.d", "é", "x y"]), min_size=1, max_size=3, unique=True)):
        depth = draw(st.integers(1, 4))

        def column(values: st.SearchStrategy[Any], last: bool = False, depth: int = depth) -> list[Any]:
            found: list[Any] = draw(st.lists(values, min_size=depth, max_size=depth))
            return [*found[:-1], 0] if last else found

        table: dict[str, Any] = {
            "layer_flops": column(st.integers(10**3, 10**12)),
            "payload_bits": column(st.integers(0, 10**9), last=True),
        }
        if draw(st.booleans()):
            table |= {
                "latency": "measured",
                "gateway_s": column(numbers(1e-6, 100)),
                "ap_s": column(numbers(1e-6, 100), last=True),
            }
        if draw(st.booleans()):
            table["cuts"] = draw(st.lists(st.integers(1, depth), min_size=1, unique=True))
        dnns[name] = table
    radio = optional(
        {"bandwidth_hz": draw(spreads(numbers(1e3, 1e9), m)), "distance_m": draw(spreads(numbers(1, 1e4), m))},
        noise_dbm_per_hz=numbers(-200, -100),
        path_loss_db=numbers(0, 200),
        path_loss_slope_db=numbers(0, 60),
        fading=st.sampled_from(["rayleigh", "none"]),
    )
    u_min, u_max = sorted([draw(numbers(0, 5)), draw(numbers(0, 5))])
    return {
        "scenario": optional(
            {
                "name": draw(st.text("aé !\"'\\#=", min_size=1, max_size=5)),
                "slots": draw(st.integers(1, 10**6)),
                "v": draw(numbers(0, 1e6)),
            },
            about=st.text('ab"\\ü', max_size=9),
            seed=st.integers(0, 2**63 - 1),
        ),
        "dnn": dnns,
        "devices": optional(
            {
                "count": n,
                "points": draw(spreads(st.integers(0, 100), n)),
                "dnn": draw(st.lists(st.sampled_from(sorted(dnns)), min_size=1, max_size=4)),
            },
            gateway=st.one_of(
                st.sampled_from(["round robin", "contiguous"]),
                st.lists(st.integers(0, m - 1), min_size=n, max_size=n),
            ),
        ),
        "gateways": optional(
            {
                "count": m,
                "frequency_hz": draw(spreads(numbers(1e6, 1e10), m)),
                "flops_per_cycle": draw(spreads(numbers(0.1, 100), m)),
                "kappa": draw(spreads(numbers(1e-29, 1e-27), m)),
                "send_w": draw(spreads(numbers(0.01, 10), m)),
                "energy_j": draw(spreads(numbers(0, 1000), m)),
            },
            profiled_hz=numbers(1e6, 1e10),
            ap=st.one_of(
                st.sampled_from(["round robin", "contiguous"]),
                st.lists(st.integers(0, j - 1), min_size=m, max_size=m),
            ),
        ),
        "aps": optional(
            {
                "count": j,
                "max_hz": draw(spreads(numbers(1e6, 1e10), j)),
                "flops_per_cycle": draw(spreads(numbers(0.1, 100), j)),
                "kappa": draw(spreads(numbers(1e-29, 1e-27), j)),
                "energy_j": draw(spreads(numbers(0.1, 1000), j)),
            },
            profiled_hz=numbers(1e6, 1e10),
        ),
        "link": draw(st.one_of(st.just(radio), spreads(numbers(1e3, 1e9), m).map(lambda rate: {"rate_bps": rate}))),
        "mining": optional(
            {"cycles_per_block": draw(numbers(1e3, 1e12)), "cycles_per_hash": draw(numbers(1, 1e6))},
            alpha=numbers(0, 3),
            beta=numbers(-3, 3),
            propagation_s=numbers(0, 10),
            quantile=numbers(0.01, 0.99),
        ),
        "reputation": {"reference_flops": draw(numbers(1e16, 1e18)), **draw(shapes())},
        "c6": {"u_min": u_min, "u_max": u_max},
    }


def shapes() -> st.SearchStrategy[dict[str, Any]]:
    knots = st.just({"shape": "knots", "knots": [0, 0.5, 2], "values": [0, 1, 1.5]})
    return st.one_of(st.just({}), st.just({"shape": "linear"}), st.just({"shape": "log"}), knots)


def toml(value: Any) -> str:
    """A value as TOML, written here from the format's rules."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def as_file(document: dict[str, Any]) -> str:
    lines = []
    for name, section in document.items():
        tables = {f"dnn.{toml(key)}": dnn for key, dnn in section.items()} if name == "dnn" else {name: section}
        for header, keys in tables.items():
            lines += [f"[{header}]", *(f"{key} = {toml(value)}" for key, value in keys.items()), ""]
    return "\n".join(lines)


def subset(part: Any, whole: Any) -> bool:
    """Everything that was written stands in the content; numbers by value, ranges of one number as that number."""
    if isinstance(part, dict):
        return all(key in whole and subset(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and len(part) == 2 and part[0] == part[1] and not isinstance(whole, list):
        return bool(part[0] == whole)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(subset, part, whole))
    return bool(part == whole)


@settings(max_examples=60)
@given(documents())
def test_any_valid_scenario_comes_back_and_can_be_run(document: dict[str, Any]) -> None:
    scenario = scenario_from_text(as_file(document), "random.toml")
    content = scenario.content()
    assert subset(document, content)
    again = scenario_from_text(as_file(content), "again.toml")
    assert (again.content(), again.digest) == (content, scenario.digest)
    network, setting = scenario.network, scenario.setting()
    for seen in scenario.world.observations(0, 2):
        problem = SlotProblem(network, seen, np.zeros(len(network.max_hz)), setting.v)
        plan = problem.evaluate([0] * len(network.tables))
        assert math.isfinite(plan.latency_s)


def good_or_one_line(load: Callable[[], Scenario]) -> None:
    try:
        load()
        message = ""
    except SettingsError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=150)
@given(st.text())
@example("[scenario]\nname = 1979-05-27")
@example("scenario = 3")
@example("[dnn]\na = 1")
@example("[devices]\npoints = { each = { each = 1 } }")
def test_junk_is_refused_in_one_line(text: str) -> None:
    refused(text)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_scenario_is_refused_in_one_line_or_still_good(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(TINY)))
    end = data.draw(st.integers(start, min(len(TINY), start + 12)))
    put = data.draw(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(["nan", "-1", "0", "[", "]]", "1e400", "{", '"', "=", "[1,2]", "true"]),
        )
    )
    good_or_one_line(lambda: scenario_from_text(TINY[:start] + put + TINY[end:], "my.toml"))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.data(), VALUES)
def test_any_value_anywhere_is_refused_in_one_line_or_good(data: st.DataObject, value: Any) -> None:
    content = tiny().content()
    section = data.draw(st.sampled_from(sorted(content)))
    key = data.draw(st.one_of(st.sampled_from(sorted(content[section])), st.text(max_size=4)))
    content[section][key] = value
    good_or_one_line(lambda: scenario_from(content, "my.toml"))
