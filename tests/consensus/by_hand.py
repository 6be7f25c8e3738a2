"""The formats once more, from their descriptions alone: msgpack, Ed25519 (RFC 8032), gamma in plain integers.

Nothing here uses the package, msgspec, `cryptography` or `decimal`; golden vectors come from here.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

# --- msgpack, the shortest form of everything


def packed(value: Any) -> bytes:
    """Canonical bytes of numbers, bytes, text and sequences of these."""
    if isinstance(value, int):
        for least, code, form in (
            (1 << 32, 0xCF, ">Q"),
            (1 << 16, 0xCE, ">I"),
            (1 << 8, 0xCD, ">H"),
            (128, 0xCC, ">B"),
        ):
            if value >= least:
                return bytes([code]) + struct.pack(form, value)
        return bytes([value])
    if isinstance(value, bytes):
        return _head(len(value), ((0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I"))) + value
    if isinstance(value, str):
        text = value.encode()
        assert len(text) < 32
        return bytes([0xA0 | len(text)]) + text
    items = b"".join(packed(item) for item in value)
    if len(value) < 16:
        return bytes([0x90 | len(value)]) + items
    return _head(len(value), ((0xDC, ">H"), (0xDD, ">I"))) + items


def _head(length: int, forms: tuple[tuple[int, str], ...]) -> bytes:
    code, form = next((code, form) for code, form in forms if length < 1 << 8 * struct.calcsize(form))
    return bytes([code]) + struct.pack(form, length)


def digest(kind: str, network: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(b"splitnet/" + kind.encode() + b"\0" + network + b"".join(parts)).digest()


# --- Merkle roots, from the top down


def root(items: list[bytes]) -> bytes:
    """Split at the largest power of two below the number of items, as RFC 6962 does."""
    if not items:
        return hashlib.sha256(b"\x02").digest()
    if len(items) == 1:
        return hashlib.sha256(b"\x00" + items[0]).digest()
    half = 1 << (len(items) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(items[:half]) + root(items[half:])).digest()


# --- Ed25519: points are (x, y) modulo PRIME

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, PRIME) % PRIME
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)
BASE: Point = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    4 * pow(5, -1, PRIME) % PRIME,
)


def added(first: Point, second: Point) -> Point:
    (a, b), (c, d) = first, second
    product = D * a * b * c * d
    x = (a * d + b * c) * pow(1 + product, -1, PRIME)
    return x % PRIME, (b * d + a * c) * pow(1 - product, -1, PRIME) % PRIME


def times(number: int, point: Point) -> Point:
    result = NEUTRAL
    while number:
        if number & 1:
            result = added(result, point)
        point, number = added(point, point), number >> 1
    return result


def point_bytes(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed25519_signature(seed: bytes, message: bytes, *, nonce: int | None = None) -> bytes:
    """RFC 8032's signature, or with another secret nonce another one that is as valid."""
    secret = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(secret[:32], "little") & (1 << 254) - 8 | 1 << 254
    if nonce is None:
        nonce = int.from_bytes(hashlib.sha512(secret[32:] + message).digest(), "little") % ORDER
    commitment, public = point_bytes(times(nonce, BASE)), point_bytes(times(scalar, BASE))
    challenge = int.from_bytes(hashlib.sha512(commitment + public + message).digest(), "little")
    return commitment + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")


def ed25519_public(seed: bytes) -> bytes:
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (1 << 254) - 8 | 1 << 254
    return point_bytes(times(scalar, BASE))


# --- difficulty

_SCALE = 10**140


def gamma(alpha_micro: int, beta_micro: int, reputation_micro: int) -> int:
    """exp(-alpha U - beta) in units of 1e-18, by the series of exp at 140 digits; -x up to some 100."""
    exponent = (alpha_micro * reputation_micro + beta_micro * 10**6) * _SCALE // 10**12
    halvings = 20
    term = total = _SCALE
    reduced = exponent >> halvings
    for number in range(1, 60):
        term = term * reduced // _SCALE // number
        total += term
    for _ in range(halvings):
        total = total * total // _SCALE
    units, rest = divmod(10**18 * _SCALE, total)
    return units + (2 * rest > total)


def logarithm_floor_micro(share_above: int, share_below: int) -> int:
    """floor(1e6 ln(1 + above / below)): ln x = 2 artanh((x - 1) / (x + 1)) after halvings by ln 2."""

    def artanh(above: int, below: int) -> int:
        ratio = above * _SCALE // below
        square, power, total, number = ratio * ratio // _SCALE, ratio, 0, 1
        while power:
            total += power // number
            power, number = power * square // _SCALE, number + 2
        return total

    above, below, doublings = share_above + share_below, share_below, 0
    while above >= 2 * below:
        below, doublings = below * 2, doublings + 1
    logarithm = 2 * artanh(above - below, above + below) + doublings * 2 * artanh(1, 3)
    return logarithm * 10**6 // _SCALE
