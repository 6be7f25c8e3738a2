"""Ed25519 keys: made, kept in files that their owner alone may read, used to sign digests.

What is signed is always a SHA-256 digest that names its kind and network (`canonical.digest_of`), never a tensor.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from splitnet.consensus.errors import KeyFileError
from splitnet.consensus.opening import open_at_once
from splitnet.files import refusals

KEY_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"
"""Of a private key's file and of its public half's."""
MOST_KEY_FILE_BYTES = 4096
"""A longer file is not read; a key takes some 120 bytes."""

FIELD = 2**255 - 19
"""The curve's field, in which a public key is a y with the sign of its x."""
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER = frozenset((0, 1, FIELD - 1, _Y_OF_ORDER_8, FIELD - _Y_OF_ORDER_8))
"""y of the eight points whose order divides 8."""


def new_key() -> Ed25519PrivateKey:
    """A fresh private key."""
    return Ed25519PrivateKey.generate()


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """[32] the public key, as members are listed in the genesis block."""
    return key.public_key().public_bytes_raw()


def sign(key: Ed25519PrivateKey, digest: bytes) -> bytes:
    """[64] signature of a digest."""
    return key.sign(digest)


@lru_cache(maxsize=1 << 12)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def holds(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the owner of that public key signed the digest."""
    try:
        _public_key(public).verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def names_one_signer(public: bytes) -> bool:
    """Whether a public key is in its one encoding and of no small order.

    Under a key of small order anybody can sign; and libraries disagree about which of these signatures hold.
    """
    y = int.from_bytes(public, "little") & (1 << 255) - 1
    return y < FIELD and y not in SMALL_ORDER


def write_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Write a private key (PEM, mode 600) and, beside it, its public key in hexadecimal; neither may exist yet.

    Raises:
        KeyFileError: one of them exists.
        SettingsError: the disk refuses.
    """
    public = path.with_suffix(PUBLIC_SUFFIX)
    for taken in (path, public):
        if taken.exists() or taken.is_symlink():
            raise KeyFileError(f"{taken} exists, and a key is never overwritten; choose another folder or name")
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with refusals(path, "choose another folder"):
        _write_new(path, pem, 0o600)
        try:
            _write_new(public, public_bytes(key).hex().encode() + b"\n", 0o644)
        except BaseException:
            path.unlink()
            raise


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123 - a descriptor
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key from its file.

    Raises:
        KeyFileError: it cannot be read, others may read it, or it is no Ed25519 key.
    """
    try:
        with open_at_once(path) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_KEY_FILE_BYTES:
                raise KeyFileError(f"{path} is no key file; make one with: splitnet keys new DIR")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise KeyFileError(f"{path} may be read by others (mode {mode:o}); say: chmod 600 {path}")
            content = file.read()
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}") from None
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is no private key; make one with: splitnet keys new DIR") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 key; make one with: splitnet keys new DIR")
    return key
