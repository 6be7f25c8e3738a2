"""Hashes against a vector made with another program, targets at their boundary, the search against a plain loop."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.consensus.proof_of_work import HASHES, NONCES, meets, search, work_hash

SEAL = bytes(range(32))
GOLDEN = "ba8903e6d3207df3760b6ef221bdc15d164aa5d949c7058b783b8e300240b9b8"
"""What sha256sum and openssl say of the bytes 0..31, 240..255."""

hashes = st.binary(min_size=32, max_size=32)
targets = st.integers(1, HASHES - 1)


def number_of(seal: bytes, nonce: int) -> int:
    return int(hashlib.sha256(seal + nonce.to_bytes(16, "big")).hexdigest(), 16)


def test_the_hash_of_a_seal_and_a_nonce() -> None:
    assert work_hash(SEAL, bytes(range(240, 256))).hex() == GOLDEN
    assert hashlib.sha256(bytes(range(32)) + bytes(range(240, 256))).hexdigest() == GOLDEN


def test_a_hash_must_be_below_the_target_and_not_at_it() -> None:
    number = int(GOLDEN, 16)
    found = [meets(bytes.fromhex(GOLDEN), target) for target in (number - 1, number, number + 1)]
    assert found == [False, False, True]
    assert meets(bytes(32), 1)
    assert not meets(bytes(31) + b"\x01", 1)
    assert not meets(bytes(32), 0)
    assert not meets(b"\xff" * 32, HASHES - 1)


@given(hashes, targets)
def test_hashes_are_numbers_with_the_most_significant_byte_first(block_hash: bytes, target: int) -> None:
    assert meets(block_hash, target) == (block_hash.hex() < f"{target:064x}")


@given(hashes)
def test_the_boundary_of_any_hash(block_hash: bytes) -> None:
    number = int(block_hash.hex(), 16)
    assert not meets(block_hash, number)
    assert meets(block_hash, number + 1)


@given(hashes, st.integers(0, NONCES - 1))
def test_the_search_finds_a_nonce_just_below_the_target_and_not_at_it(seal: bytes, nonce: int) -> None:
    number = number_of(seal, nonce)
    assert search(seal, nonce, 1, min(number + 1, HASHES - 1)) == nonce
    assert search(seal, nonce, 1, max(number, 1)) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_search_finds_what_a_plain_loop_finds(seed: int) -> None:
    chance = random.Random(seed)
    seal, count, target = chance.randbytes(32), chance.randrange(1500), HASHES // chance.choice((20, 300, 2000))
    first = chance.choice((chance.getrandbits(127), (1 << 64) - 700, 250, NONCES - count))
    below = [nonce for nonce in range(first, first + count) if number_of(seal, nonce) < target]
    assert search(seal, first, count, target) == (below[0] if below else None)


def test_seeds_above_find_nonces_and_none() -> None:
    """So that the test above cannot pass on one of them alone."""
    assert search(SEAL, 0, 10_000, HASHES // 100) is not None
    assert search(SEAL, 0, 10_000, 1) is None
    assert search(SEAL, 0, 0, HASHES - 1) is None


@pytest.mark.parametrize("target", [0, -1, HASHES])
def test_a_target_that_no_block_has(target: int) -> None:
    with pytest.raises(ValueError, match=rf"^target {target} is not within 1\.\.2\^256-1$"):
        search(SEAL, 0, 1, target)


@pytest.mark.parametrize("seal", [b"", SEAL[:31], SEAL + b"\0"])
def test_a_seal_of_another_length(seal: bytes) -> None:
    said = f"^a seal of {len(seal)} bytes: it has 32$"
    with pytest.raises(ValueError, match=said):
        search(seal, 0, 1, 1)
    with pytest.raises(ValueError, match=said):
        work_hash(seal, bytes(16))


def test_nonces_and_hashes_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"^a nonce of 15 bytes: it has 16$"):
        work_hash(SEAL, bytes(15))
    with pytest.raises(ValueError, match=r"^a hash of 33 bytes: it has 32$"):
        meets(bytes(33), 1)


@pytest.mark.parametrize(("first", "count"), [(-1, 5), (0, -1), (NONCES - 4, 5)])
def test_nonces_that_do_not_fit(first: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"are not within 0\.\.2\^128-1$"):
        search(SEAL, first, count, 1)


def test_the_module_loads_none_of_the_large_libraries() -> None:
    """The process that mines must be there in a moment."""
    code = "import sys, splitnet.consensus.mining_process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {"torch", "numpy", "scipy", "msgspec", "pickle", "multiprocessing"}.isdisjoint(loaded.stdout.split())
