"""The genesis block: who takes part in which role, who is connected to whom, and every parameter of the rules.

Its hash is the network's id, which is in everything that is signed. Its members never change: a member who joins
starts a new network.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, TypeAlias

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
from splitnet.consensus.registry import ModelFlops, Registry
from splitnet.consensus.sizes import MOST_BLOCK_BYTES, MOST_RECEIPTS, largest_block

VERSION = 1
"""Of the rules; another version is another network."""
MOST_GENESIS_BYTES = 1 << 22
"""Of its file, encoded."""
MOST_MEMBERS = 10_000
"""In each role."""
MILLION = 10**6
"""Units of a share (of time, speed or audits) and of a tolerance in 1."""

OfEach: TypeAlias = Annotated[tuple[Number, ...], msgspec.Meta(max_length=MOST_MEMBERS)]
"""A number for each member of a role."""


class Member(Record, frozen=True):
    """One who signs; which role is said by the list it stands in.

    Attributes:
        name: for people; unique in the genesis block.
        public_key: Ed25519; unique, so that one key has one role.
    """

    name: Name
    public_key: PublicKeyBytes


Members: TypeAlias = Annotated[tuple[Member, ...], msgspec.Meta(max_length=MOST_MEMBERS)]


class Audit(Record, frozen=True):
    """Re-execution of a share of the receipts, an extension of the letter; off by default.

    Attributes:
        share_millionths: p, the share of receipts that each AP re-executes, in millionths. 0: off, and no block may
            hold proofs or voids.
        tolerance_micro: a result may differ from re-execution by so much of its largest value, in millionths: honest
            machines differ in the last bits, another number of threads by less than 100. A top in float16 is some
            1,100 off, beyond the 200 at which it is accused.
        suspended_slots: K, for which the reputation of a proven liar is zero.
    """

    share_millionths: Annotated[int, msgspec.Meta(ge=0, le=MILLION)] = 0
    tolerance_micro: Number = 100
    suspended_slots: Number = 100


class Genesis(Record, frozen=True):
    """Block 0.

    Attributes:
        controller: the only one whose key makes a plan, and with it a slot.
        gateway_of: connection a: the gateway of each device.
        ap_of: connection b: the AP of each gateway.
        most_data_points: cap on D_n in one slot, for each device.
        models: of each device, the number of its model in the registry.
        registry: digest of the FLOPs registry.
        started_ms: when the network began, in ms since 1970: no block is older.
        most_ahead_ms: how far a block's time may be ahead of a verifier's clock.
        most_receipts: in one block.
    """

    version: Positive
    controller: Member
    gateways: Members
    aps: Members
    devices: Members
    gateway_of: OfEach
    ap_of: OfEach
    most_data_points: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=MOST_MEMBERS)]
    models: OfEach
    mining: Mining
    registry: Digest
    started_ms: Number
    most_ahead_ms: Number = 5000
    most_receipts: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECEIPTS)] = 4096
    audit: Audit = Audit()

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, in the order controller, gateways, APs, devices."""
        return (self.controller, *self.gateways, *self.aps, *self.devices)

    def check(self) -> None:
        """Raises GenesisError, or EncodingError for a field out of its range."""
        for role in ("gateways", "aps", "devices"):
            if not 1 <= len(getattr(self, role)) <= MOST_MEMBERS:
                raise GenesisError(f"{len(getattr(self, role))} {role}: there must be 1 to {MOST_MEMBERS}")
        check_encodable(self)
        if self.version != VERSION:
            raise GenesisError(f"the genesis block is of version {self.version}, this is {VERSION}; update the older")
        self._check_connections("gateway_of", self.gateway_of, len(self.devices), len(self.gateways))
        self._check_connections("ap_of", self.ap_of, len(self.gateways), len(self.aps))
        for what, count in (("caps on data points", len(self.most_data_points)), ("models", len(self.models))):
            if count != len(self.devices):
                raise GenesisError(f"{count} {what} for {len(self.devices)} devices")
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
        self._check_size()

    def _check_size(self) -> None:
        members = len(self.devices), len(self.gateways), len(self.aps)
        largest = largest_block(*members, self.most_receipts, self.audit.share_millionths > 0)
        if largest > MOST_BLOCK_BYTES:
            raise GenesisError(
                f"a full block with {self.most_receipts} receipts would have {largest} bytes, over the limit of "
                f"{MOST_BLOCK_BYTES}; lower most_receipts, or take fewer APs where there are audits"
            )

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
        models: of each device.
    """

    def __init__(self, genesis: Genesis, registry: Registry) -> None:
        """Raises GenesisError: contradictions, or another registry than the genesis block commits to."""
        genesis.check()
        if registry.digest() != genesis.registry:
            raise GenesisError("the FLOPs registry is not the one that the genesis block commits to")
        self.genesis = genesis
        self.registry = registry
        self.network = network_id(genesis)
        self.models = self._models()

    def _models(self) -> tuple[ModelFlops, ...]:
        self.registry.check()
        known = self.registry.models
        if wrong := [number for number in self.genesis.models if number >= len(known)]:
            raise GenesisError(f"models names number {wrong[0]}, the registry has {len(known)}, counted from 0")
        return tuple(known[number] for number in self.genesis.models)

    def __repr__(self) -> str:
        return f"Rules(network {self.network.hex()[:12]}, {len(self.genesis.aps)} APs)"


def network_id(genesis: Genesis) -> bytes:
    """[32] the hash of the genesis block; also the hash that block 1 names as its parent."""
    return digest_of("genesis", b"", encode(genesis))
