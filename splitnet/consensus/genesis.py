"""The genesis block: who takes part in which role, who is connected to whom, and every parameter of the rules.

Its hash is the network's id, which is in everything that is signed. Its members never change: a member who joins
starts a new network.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec

from splitnet.consensus.canonical import (
    Digest,
    Name,
    Number,
    Positive,
    PublicKeyBytes,
    Record,
    check_encodable,
    digest_of,
    encode,
)
from splitnet.consensus.difficulty import Mining
from splitnet.consensus.errors import GenesisError
from splitnet.consensus.identity import names_one_signer
from splitnet.consensus.registry import Registry

VERSION = 1
"""Of the rules; another version is another network."""
MOST_GENESIS_BYTES = 1 << 22
MOST_MEMBERS = 10_000
"""In each role."""
MILLION = 10**6


class Member(Record, frozen=True):
    """One who signs; which role is said by the list it stands in.

    Attributes:
        name: for people; unique in the genesis block.
        public_key: Ed25519; unique, so that one key has one role.
    """

    name: Name
    public_key: PublicKeyBytes


class Audit(Record, frozen=True):
    """Re-execution of a share of the receipts, an extension of the letter; off by default.

    Attributes:
        share_millionths: p, the share of receipts that each AP re-executes, in millionths. 0: off.
        tolerance_micro: a result may differ from re-execution by so much of its largest value, in millionths: honest
            machines differ in the last bits.
        suspended_slots: K, for which the reputation of a proven liar is zero.
    """

    share_millionths: Annotated[int, msgspec.Meta(ge=0, le=MILLION)] = 0
    tolerance_micro: Number = 1000
    suspended_slots: Number = 100


class Genesis(Record, frozen=True):
    """Block 0.

    Attributes:
        controller: the only one whose key changes a plan.
        gateway_of: connection a: the gateway of each device.
        ap_of: connection b: the AP of each gateway.
        most_data_points: cap on D_n in one slot, for each device.
        registry: digest of the FLOPs registry.
        started_ms: when the network began, in ms since 1970: no block is older.
        most_ahead_ms: how far a block's time may be ahead of a verifier's clock.
        most_receipts: in one block.
    """

    version: Positive
    controller: Member
    gateways: tuple[Member, ...]
    aps: tuple[Member, ...]
    devices: tuple[Member, ...]
    gateway_of: tuple[Number, ...]
    ap_of: tuple[Number, ...]
    most_data_points: tuple[Positive, ...]
    mining: Mining
    registry: Digest
    started_ms: Number
    most_ahead_ms: Number = 5000
    most_receipts: Positive = 4096
    audit: Audit = Audit()

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, in the order controller, gateways, APs, devices."""
        return (self.controller, *self.gateways, *self.aps, *self.devices)

    def check(self) -> None:
        """Raises GenesisError, or EncodingError for a field out of its range."""
        check_encodable(self)
        if self.version != VERSION:
            raise GenesisError(f"the genesis block is of version {self.version}, this is {VERSION}; update the older")
        for role in ("gateways", "aps", "devices"):
            if not 1 <= len(getattr(self, role)) <= MOST_MEMBERS:
                raise GenesisError(f"{len(getattr(self, role))} {role}: there must be 1 to {MOST_MEMBERS}")
        self._check_connections("gateway_of", self.gateway_of, len(self.devices), len(self.gateways))
        self._check_connections("ap_of", self.ap_of, len(self.gateways), len(self.aps))
        if len(self.most_data_points) != len(self.devices):
            raise GenesisError(f"{len(self.most_data_points)} caps on data points for {len(self.devices)} devices")
        for what, values in (
            ("name", [member.name for member in self.members]),
            ("public key", [member.public_key.hex() for member in self.members]),
        ):
            value, times = Counter(values).most_common(1)[0]
            if times > 1:
                raise GenesisError(f"{times} members have the {what} {value}; each needs its own")
        for member in self.members:
            if not names_one_signer(member.public_key):
                raise GenesisError(
                    f"anybody could sign with the public key of {member.name}, {member.public_key.hex()}; "
                    f"make one with: splitnet keys new DIR"
                )
        self.mining.check()

    @staticmethod
    def _check_connections(name: str, connections: tuple[int, ...], ends: int, others: int) -> None:
        if len(connections) != ends:
            raise GenesisError(f"{name} has {len(connections)} entries for {ends} members")
        if wrong := [other for other in connections if other >= others]:
            raise GenesisError(f"{name} names number {wrong[0]}, there are {others}, counted from 0")


class Rules:
    """A checked genesis block with its registry: what every validation starts from.

    Attributes:
        network: [32] the network's id, the hash of the genesis block.
    """

    def __init__(self, genesis: Genesis, registry: Registry) -> None:
        """Raises GenesisError: contradictions, or another registry than the genesis block commits to."""
        genesis.check()
        if registry.digest() != genesis.registry:
            raise GenesisError("the FLOPs registry is not the one that the genesis block commits to")
        self.genesis = genesis
        self.registry = registry
        self.network = network_id(genesis)
        self.flops = registry.by_graph()

    def __repr__(self) -> str:
        return f"Rules(network {self.network.hex()[:12]}, {len(self.genesis.aps)} APs)"


def network_id(genesis: Genesis) -> bytes:
    """[32] the hash of the genesis block; also the hash that block 1 names as its parent."""
    return digest_of("genesis", b"", encode(genesis))
