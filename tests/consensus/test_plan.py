"""Only the controller's key makes a plan, and only one that fits the members."""

from __future__ import annotations

import msgspec
import pytest

from splitnet.consensus.canonical import encode
from splitnet.consensus.errors import EncodingError, PlanError
from splitnet.consensus.genesis import MILLION
from splitnet.consensus.plan import CutPlan, read_plan, sign_plan
from tests.consortium import a_key, some_rules

RULES = some_rules(aps=2, gateways=3, devices=4)
PLAN = CutPlan(slot=7, cuts=(0, 1, 2, 5), shares=(400_000, MILLION, 600_000), mining_shares=(MILLION, 0))


def test_the_controllers_plan_arrives() -> None:
    assert read_plan(RULES, encode(sign_plan(RULES, a_key("controller"), PLAN))) == PLAN


@pytest.mark.parametrize("role", ["ap", "gateway", "device", "nobody"])
def test_nobody_else_plans(role: str) -> None:
    with pytest.raises(PlanError, match="slot 7 is not signed by controller, the controller"):
        read_plan(RULES, encode(sign_plan(RULES, a_key(role), PLAN)))


def test_a_plan_of_another_network_is_refused() -> None:
    other = some_rules(aps=2, gateways=3, devices=4, started_ms=1)
    with pytest.raises(PlanError, match="not signed"):
        read_plan(RULES, encode(sign_plan(other, a_key("controller"), PLAN)))


def test_every_bit_is_signed() -> None:
    data = encode(sign_plan(RULES, a_key("controller"), PLAN))
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((PlanError, EncodingError)):
            read_plan(RULES, bytes(flipped))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuts": (1, 2, 3)}, "a plan with 3 cuts for 4 members"),
        ({"cuts": (0, 1, 6, 5)}, "a plan with cut 6 for device 2, whose model has 5 layers"),
        ({"shares": (1, 2)}, "a plan with 2 shares for 3 members"),
        ({"mining_shares": (1, 2, 3)}, "a plan with 3 mining shares for 2 members"),
        ({"shares": (400_001, 0, 600_000)}, "the shares on ap-0 add up to 1.000001 of its speed, at most 1"),
    ],
)
def test_a_plan_fits_the_members(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        sign_plan(RULES, a_key("controller"), msgspec.structs.replace(PLAN, **changes))


@pytest.mark.parametrize("changes", [{"slot": -1}, {"shares": (MILLION + 1, 0, 0)}, {"cuts": (-1, 0, 0, 0)}])
def test_numbers_are_within_their_ranges(changes: dict[str, object]) -> None:
    with pytest.raises(EncodingError):
        sign_plan(RULES, a_key("controller"), msgspec.structs.replace(PLAN, **changes))
