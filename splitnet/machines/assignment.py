"""What a machine of a run is told when it starts: one JSON file beside its keys."""

from __future__ import annotations

from pathlib import Path

import msgspec

from splitnet.errors import SettingsError
from splitnet.files import replacing
from splitnet.models.reference import ModelRef

MOST_BYTES = 1 << 24


class Assignment(msgspec.Struct, frozen=True):
    """The same for all machines of a run.

    Attributes:
        folder: the run's, with network, keys and stores.
        models: of each DT.
        cuts: that are offered for each DT.
        codecs: of what crosses each DT's cut.
        gateway_speed, ap_speed: fractions of one core.
        ap_hash_rate: hashes/s of each AP at f^max.
        paced_links: gateways keep their link's rate themselves; else the kernel does.
        input_shapes: of each DT's input, for one data point.
        seed: of what the devices measure.
        actuator: what holds lanes at their speed.
        images: a folder of pictures that the devices see; None: seeded noise.
    """

    folder: str
    models: list[ModelRef]
    cuts: list[tuple[int, ...]]
    codecs: list[str]
    gateway_speed: list[float]
    ap_speed: list[float]
    ap_hash_rate: list[float]
    input_shapes: list[tuple[int, ...]]
    seed: int
    actuator: str
    paced_links: bool
    images: str | None = None

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises SettingsError where the disk refuses."""
        with replacing(path, "make room and go on with --resume") as temporary:
            temporary.write_bytes(msgspec.json.encode(self))


def read_assignment(path: Path) -> Assignment:
    """Raises SettingsError where it cannot be read or is none."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MOST_BYTES), type=Assignment)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"cannot read the assignment {path}: {error}; `splitnet run` writes it") from None
