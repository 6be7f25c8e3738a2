"""How two APs find out who the other is, and agree on keys that nobody else has.

Each says who it is and sends a fresh X25519 key; each signs, with its member's key, both fresh keys, both numbers and
who dialled whom. A signature passed on to a third is of no use there: it names other fresh keys, and the secret
belongs to those who made them. (The scheme is SIGMA's without hiding names, which the genesis block lists anyway.)
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from splitnet.consensus.canonical import digest_of, encode
from splitnet.consensus.channel import KEY_BYTES, LIMITS, Channel
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import holds, sign
from splitnet.consensus.messages import Hello, Opening, Prove
from splitnet.errors import ProtocolError
from splitnet.runtime.connection import Connection
from splitnet.runtime.link import Link
from splitnet.wire.frames import Limits

HANDSHAKE_DEADLINE_S = 10.0
"""For all of it; who calls `introduce` closes the socket then, since bytes may come one by one."""
SEND_DEADLINE_S = 15.0
"""For a stranger to take what it is sent."""
STRANGERS_LIMITS = Limits(max_header_bytes=1 << 10, max_body_bytes=0)
"""Before anybody has proved anything."""


@dataclass(frozen=True, slots=True)
class Introduced:
    """A channel whose other side has proved to be an AP of this network."""

    channel: Channel
    ap: int


def introduce(
    sock: socket.socket, address: str, rules: Rules, key: Ed25519PrivateKey, own: int, *, dialled: bool
) -> Introduced:
    """Shake hands. The socket is the channel's, and closed where that fails.

    Args:
        key, own: of this AP.
        dialled: whether this side did.

    Raises:
        SplitnetError: it is silent, of another network, not an AP, this node itself, or cannot prove who it is.
    """
    connection: Connection[Opening] = Connection(
        sock, Opening, address, limits=STRANGERS_LIMITS, send_deadline_s=SEND_DEADLINE_S
    )
    try:
        return _shake_hands(connection, address, rules, key, own, dialled)
    except BaseException:
        connection.close()
        raise


def _shake_hands(
    connection: Connection[Opening], address: str, rules: Rules, key: Ed25519PrivateKey, own: int, dialled: bool
) -> Introduced:
    secret = X25519PrivateKey.generate()
    mine = Hello(rules.network, own, secret.public_key().public_bytes_raw())
    connection.send(mine)
    theirs = connection.receive(HANDSHAKE_DEADLINE_S).message
    if not isinstance(theirs, Hello):
        raise ProtocolError(f"a connection opens with Hello, not {type(theirs).__name__}")
    if theirs.network != rules.network:
        raise ProtocolError(
            f"{address} is of network {theirs.network.hex()[:12]}, this is {rules.network.hex()[:12]}; "
            f"both must have the same genesis block"
        )
    if theirs.ap >= len(rules.genesis.aps) or theirs.ap == own:
        raise ProtocolError(f"{address} says it is AP {theirs.ap}: not another one of {len(rules.genesis.aps)} APs")
    said = (mine, theirs) if dialled else (theirs, mine)
    connection.send(Prove(sign(key, _proof(rules, said, own))))
    prove = connection.receive(HANDSHAKE_DEADLINE_S).message
    if not isinstance(prove, Prove):
        raise ProtocolError(f"after Hello comes Prove, not {type(prove).__name__}")
    member = rules.genesis.aps[theirs.ap]
    if not holds(member.public_key, _proof(rules, said, theirs.ap), prove.signature):
        raise ProtocolError(f"{address} says it is {member.name} and cannot prove it")
    keys = _keys(rules, said, secret, theirs)
    connection.agree(int.from_bytes(_transcript(rules, said)[:8]) | 1, checksum=False, link=Link(), limits=LIMITS)
    sending, receiving = keys if dialled else keys[::-1]
    return Introduced(Channel(connection, sending, receiving), theirs.ap)


def _transcript(rules: Rules, said: tuple[Hello, Hello]) -> bytes:
    """What both sides have heard, the dialling side's first."""
    return digest_of("peers", rules.network, *(encode((one.ap, one.fresh_key)) for one in said))


def _proof(rules: Rules, said: tuple[Hello, Hello], prover: int) -> bytes:
    """What an AP signs to prove that it made its fresh key, for this connection."""
    return digest_of("peer", rules.network, _transcript(rules, said), encode(prover))


def _keys(rules: Rules, said: tuple[Hello, Hello], secret: X25519PrivateKey, theirs: Hello) -> tuple[bytes, bytes]:
    """[32] each: for what the dialling side sends, and for what it receives."""
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(theirs.fresh_key))
    except ValueError:  # a point of small order, with which the secret would be everybody's
        raise ProtocolError("a fresh key of small order") from None
    derived = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=_transcript(rules, said)).derive(shared)
    return derived[:KEY_BYTES], derived[KEY_BYTES:]
