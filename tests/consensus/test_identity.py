"""Key files that cannot be trusted, signatures that cannot be bent, public keys under which anybody could sign."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.errors import KeyFileError
from splitnet.consensus.identity import (
    SMALL_ORDER,
    holds,
    names_one_signer,
    new_key,
    public_bytes,
    read_key,
    sign,
    write_key,
)
from tests.consensus import by_hand

DIGEST = bytes(range(32))


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


# --- key files


def test_a_written_key_is_read_again(tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "ap-0.key"
    old = os.umask(0)
    try:
        write_key(key, path)
    finally:
        os.umask(old)
    assert public_bytes(read_key(path)) == public_bytes(key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".pub").read_text() == public_bytes(key).hex() + "\n"
    assert holds(public_bytes(key), DIGEST, sign(read_key(path), DIGEST))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_key_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ap-0.key"
    write_key(new_key(), path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"may be read by others \(mode {mode:o}\); say: chmod 600"):
        read_key(path)


def encrypted(path: Path) -> None:
    path.write_bytes(pem(new_key(), b"secret"))


def of_rsa(path: Path) -> None:
    path.write_bytes(pem(rsa.generate_private_key(65537, 1024)))


def public_only(path: Path) -> None:
    path.write_bytes(
        new_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def truncated(path: Path) -> None:
    path.write_bytes(pem(new_key())[:60])


def pointing_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def pointing_in_a_circle(path: Path) -> None:
    path.symlink_to(path)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot read the key .*: No such file"),
    "a folder": (Path.mkdir, "cannot read the key .*: Is a directory"),
    "a pipe": (os.mkfifo, "is no key file"),
    "a link to nothing": (pointing_nowhere, "cannot read the key .*: No such file"),
    "a link to itself": (pointing_in_a_circle, "cannot read the key"),
    "empty": (Path.touch, "is no private key"),
    "text": (lambda path: path.write_text("not a key\n"), "is no private key"),
    "bytes": (lambda path: path.write_bytes(bytes(range(256))), "is no private key"),
    "the public key": (public_only, "is no private key"),
    "cut short": (truncated, "is no private key"),
    "encrypted": (encrypted, "is no private key"),
    "RSA": (of_rsa, "is no Ed25519 key"),
    "large": (lambda path: path.write_bytes(pem(new_key()) + b"\n" * 5000), "is no key file"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_key_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    make, message = UNREADABLE[case]
    path = tmp_path / "ap-0.key"
    make(path)
    if path.is_file():
        path.chmod(0o600)
    with pytest.raises(KeyFileError, match=message) as caught:
        read_key(path)
    assert "\n" not in str(caught.value)


def test_a_link_to_a_key_is_judged_by_the_key(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.key", tmp_path / "link.key"
    write_key(new_key(), kept)
    link.symlink_to(kept)
    assert public_bytes(read_key(link)) == public_bytes(read_key(kept))
    kept.chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 644"):
        read_key(link)


@pytest.mark.parametrize("taken", ["ap-0.key", "ap-0.pub"])
@pytest.mark.parametrize("as_link", [False, True])
def test_nothing_is_overwritten(tmp_path: Path, taken: str, as_link: bool) -> None:
    """Nor does a link that points to nothing lead the key elsewhere."""
    if as_link:
        (tmp_path / taken).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / taken).write_text("mine")
    with pytest.raises(KeyFileError, match=rf"{taken} exists, and a key is never overwritten"):
        write_key(new_key(), tmp_path / "ap-0.key")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert as_link or (tmp_path / taken).read_text() == "mine"


# --- signatures


def test_a_signature_holds_for_one_key_and_one_digest() -> None:
    key, other = new_key(), new_key()
    signature = sign(key, DIGEST)
    assert holds(public_bytes(key), DIGEST, signature)
    assert not holds(public_bytes(other), DIGEST, signature)
    assert not holds(public_bytes(key), bytes(32), signature)
    for bit in range(8 * len(signature)):
        bent = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
        assert not holds(public_bytes(key), DIGEST, bent)


def test_no_second_form_of_a_signature_holds() -> None:
    """S + L gives the same equation; RFC 8032 asks for the lesser of the two."""
    key = new_key()
    signature = sign(key, DIGEST)
    number = int.from_bytes(signature[32:], "little")
    multiples = [number + times * by_hand.ORDER for times in range(1, 16)]
    bent = [signature[:32] + multiple.to_bytes(32, "little") for multiple in multiples if multiple < 1 << 256]
    assert len(bent) >= 14
    assert not any(holds(public_bytes(key), DIGEST, form) for form in bent)
    assert not holds(public_bytes(key), DIGEST, bytes(64))


# --- public keys


def points(count: int) -> list[by_hand.Point]:
    """Of the curve, by their y; most have a part of small order."""
    found: list[by_hand.Point] = []
    y = 1
    while len(found) < count:
        y += 1
        square = (y * y - 1) * pow(by_hand.D * y * y + 1, -1, by_hand.PRIME) % by_hand.PRIME
        x = pow(square, (by_hand.PRIME + 3) // 8, by_hand.PRIME)
        for root in (x, x * pow(2, (by_hand.PRIME - 1) // 4, by_hand.PRIME) % by_hand.PRIME):
            if root * root % by_hand.PRIME == square:
                found.append((root, y))
                break
    return found


def test_the_points_of_small_order_are_these() -> None:
    """Times the order of the base, a point keeps only its part of small order."""
    small = {by_hand.times(by_hand.ORDER, point) for point in points(30)}
    assert {y for _, y in small} == SMALL_ORDER
    assert all(by_hand.times(8, point) == by_hand.NEUTRAL for point in small)
    assert not any(names_one_signer(by_hand.point_bytes(point)) for point in small)


def test_anybody_signs_under_the_neutral_point() -> None:
    """What the rule is for: the library lets such a signature pass."""
    neutral = by_hand.point_bytes(by_hand.NEUTRAL)
    assert holds(neutral, DIGEST, neutral + bytes(32))
    assert not names_one_signer(neutral)


def test_a_public_key_has_one_encoding() -> None:
    for y in range(19):
        for sign_of_x in (0, 1 << 255):
            assert not names_one_signer((by_hand.PRIME + y | sign_of_x).to_bytes(32, "little"))
    assert all(names_one_signer(public_bytes(new_key())) for _ in range(100))
