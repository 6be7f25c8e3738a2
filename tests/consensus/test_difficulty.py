"""From FLOPs to a target: exact arithmetic as the oracle, monotony, caps, and no float anywhere on the way."""

from __future__ import annotations

import _pydecimal
import ast
import decimal
import importlib
import inspect
from fractions import Fraction
from types import ModuleType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.consensus import difficulty
from splitnet.consensus.difficulty import (
    GAMMA_UNITS,
    LEAST_GAMMA,
    MOST_TARGET,
    Mining,
    difficulty_of,
    expected_hashes,
    reputation_of,
    target_of,
)
from splitnet.consensus.errors import GenesisError
from tests.consensus import by_hand

LINEAR = Mining(2_000_000, 0, 8, "linear", 10_000, 1_000_000)
LOG = msgspec.structs.replace(LINEAR, reputation="log")
flops = st.integers(0, 2**70)
references = st.integers(1, 2**62)


# --- no float in the path


def sources() -> list[ModuleType]:
    """The module, and all of the package that it reaches."""
    found, open_ = {}, [difficulty.__name__]
    while open_:
        name = open_.pop()
        if name not in found:
            module = found[name] = importlib.import_module(name)
            tree = ast.parse(inspect.getsource(module))
            open_ += [
                node.module
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("splitnet")
            ]
    return list(found.values())


def floats_in(tree: ast.AST) -> list[str]:
    """What could let a float in; messages of errors and the one function for reports are not in the path."""

    class Finder(ast.NodeVisitor):
        def __init__(self) -> None:
            self.found: list[str] = []

        def visit_Raise(self, node: ast.Raise) -> None:
            pass

        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            if node.name != expected_hashes.__name__:
                self.generic_visit(node)

        def visit_Constant(self, node: ast.Constant) -> None:
            if isinstance(node.value, float | complex):
                self.found.append(f"line {node.lineno}: the number {node.value}")

        def visit_BinOp(self, node: ast.BinOp) -> None:
            if isinstance(node.op, ast.Div):
                self.found.append(f"line {node.lineno}: /")
            self.generic_visit(node)

        def visit_AugAssign(self, node: ast.AugAssign) -> None:
            if isinstance(node.op, ast.Div):
                self.found.append(f"line {node.lineno}: /=")
            self.generic_visit(node)

        def visit_Name(self, node: ast.Name) -> None:
            if node.id in ("float", "complex", "round"):
                self.found.append(f"line {node.lineno}: {node.id}")

        def visit_Import(self, node: ast.Import) -> None:
            self.found += [
                f"import {name.name}" for name in node.names if name.name in ("math", "cmath", "numpy", "random")
            ]

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            if node.module in ("math", "cmath", "numpy", "random"):
                self.found.append(f"from {node.module}")

    finder = Finder()
    finder.visit(tree)
    return finder.found


def test_no_float_is_in_the_path() -> None:
    modules = sources()
    assert difficulty in modules
    assert len(modules) >= 3
    assert {module.__name__: floats_in(ast.parse(inspect.getsource(module))) for module in modules} == {
        module.__name__: [] for module in modules
    }


@pytest.mark.parametrize(
    "code", ["x = 1.5", "x = a / b", "a /= b", "import math", "from math import exp", "x = float(y)", "x = 1e18"]
)
def test_the_search_for_floats_finds_them(code: str) -> None:
    assert floats_in(ast.parse(f"def rule():\n    {code}"))


@pytest.mark.parametrize(
    "hostile",
    [
        decimal.Context(prec=1, rounding=decimal.ROUND_UP, Emin=0, Emax=1),
        decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded, decimal.Underflow, decimal.FloatOperation]),
    ],
)
def test_the_callers_decimal_context_does_not_matter(hostile: decimal.Context) -> None:
    reputation_of.cache_clear()
    difficulty_of.cache_clear()
    with decimal.localcontext(hostile):
        assert reputation_of(LOG, 12_345) == by_hand.logarithm_floor_micro(12_345, 10_000)
        assert difficulty_of(LINEAR, 123_456) == by_hand.gamma(2_000_000, 0, 123_456)


@settings(max_examples=25)
@given(st.integers(0, 1_000_000), st.integers(0, 10**12))
def test_both_implementations_of_decimal_agree(reputation: int, work: int) -> None:
    """Where Python comes without its C library for decimals, the same module in Python takes its place."""
    other = _pydecimal.Context(prec=50, rounding=_pydecimal.ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difficulty, "_context", other)
        patch.setattr(difficulty, "Decimal", _pydecimal.Decimal)
        found = reputation_of.__wrapped__(LOG, work), difficulty_of.__wrapped__(LINEAR, reputation)
    assert found == (reputation_of(LOG, work), difficulty_of(LINEAR, reputation))


# --- reputation


@given(flops, references, st.integers(0, 2**62))
def test_linear_reputation(work: int, reference: int, most: int) -> None:
    mining = msgspec.structs.replace(LINEAR, reference_flops=reference, most_micro=most)
    exact = Fraction(work * 10**6, reference)
    assert reputation_of(mining, work) == min(most, exact.__floor__())


@given(flops, references)
def test_log_reputation(work: int, reference: int) -> None:
    mining = msgspec.structs.replace(LOG, reference_flops=reference, most_micro=2**62)
    assert reputation_of(mining, work) == by_hand.logarithm_floor_micro(work, reference)


@given(st.sampled_from([LINEAR, LOG]), flops, flops)
def test_more_work_is_never_harder(mining: Mining, first: int, second: int) -> None:
    less, more = sorted((first, second))
    lower, higher = reputation_of(mining, less), reputation_of(mining, more)
    assert 0 <= lower <= higher <= mining.most_micro
    assert difficulty_of(mining, lower) >= difficulty_of(mining, higher) > LEAST_GAMMA
    assert target_of(mining, difficulty_of(mining, lower)) <= target_of(mining, difficulty_of(mining, higher))


@pytest.mark.parametrize("mining", [LINEAR, LOG])
def test_no_work_gives_no_reputation(mining: Mining) -> None:
    assert reputation_of(mining, 0) == 0
    assert difficulty_of(mining, 0) == GAMMA_UNITS
    with pytest.raises(ValueError, match="-1 FLOPs"):
        reputation_of(mining, -1)


# --- difficulty


@given(st.integers(0, 5_000_000), st.integers(0, 3_000_000), st.integers(0, 4_000_000))
def test_gamma_is_the_exponential(alpha: int, beta: int, reputation: int) -> None:
    mining = msgspec.structs.replace(LINEAR, alpha_micro=alpha, beta_micro=beta)
    assert difficulty_of(mining, reputation) == by_hand.gamma(alpha, beta, reputation)


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_gamma_is_at_least_one_unit(alpha: int, beta: int, reputation: int) -> None:
    mining = msgspec.structs.replace(LINEAR, alpha_micro=alpha, beta_micro=beta)
    assert 1 <= difficulty_of(mining, reputation) <= GAMMA_UNITS


# --- target


@given(st.integers(1, 2**62), st.integers(1, GAMMA_UNITS))
def test_target(hashes: int, gamma: int) -> None:
    mining = msgspec.structs.replace(LINEAR, hashes=hashes)
    exact = Fraction(2**256) / (hashes * Fraction(gamma, 10**18))
    assert target_of(mining, gamma) == min(2**256 - 1, exact.__floor__())
    assert target_of(mining, gamma).bit_length() <= 256


def test_the_easiest_target_saturates() -> None:
    easiest = msgspec.structs.replace(LINEAR, hashes=1)
    assert target_of(easiest, GAMMA_UNITS) == MOST_TARGET == 2**256 - 1
    assert target_of(easiest, GAMMA_UNITS // 3) == MOST_TARGET
    assert target_of(msgspec.structs.replace(LINEAR, hashes=2), GAMMA_UNITS) == 2**255


def test_expected_hashes_are_h0_gamma() -> None:
    assert expected_hashes(target_of(LINEAR, GAMMA_UNITS)) == 8
    gamma = difficulty_of(LINEAR, 500_000)
    assert expected_hashes(target_of(LINEAR, gamma)) == pytest.approx(8 * 0.36787944117144233, rel=1e-12)


# --- what a genesis block may ask for


def test_the_cap_must_leave_some_difficulty() -> None:
    """gamma = 1e-9 is alpha U = 20.723..: just below passes, at or beyond it does not."""
    edge = 20_723_265
    below, beyond = (Mining(1_000_000, 0, 8, "linear", 1, most) for most in (edge, edge + 1))
    assert by_hand.gamma(1_000_000, 0, edge) > LEAST_GAMMA >= by_hand.gamma(1_000_000, 0, edge + 1)
    below.check()
    with pytest.raises(GenesisError, match=r"U = 20\.7233 gamma is at most 1e-09; lower the cap"):
        beyond.check()
    with pytest.raises(GenesisError):
        msgspec.structs.replace(LINEAR, beta_micro=21_000_000).check()
