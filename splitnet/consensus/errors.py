"""What a receipt or a block can be refused for: one class for each rule, so that a reader of a log knows which broke.

A message names the value, the limit and, where there is one, the way out.
"""

from splitnet.errors import SplitnetError


class ConsensusError(SplitnetError):
    """Something signed, hashed or stored does not hold."""

    @property
    def rule(self) -> str:
        """The rule's name, as `chain verify` prints it."""
        return type(self).__name__.removesuffix("Error")


class EncodingError(ConsensusError):
    """Bytes that are not the one encoding of what they claim to be."""


class KeyFileError(ConsensusError):
    """A key file that cannot be read, is not a key, or that others may read."""


class GenesisError(ConsensusError):
    """A genesis block whose members, connections or parameters contradict each other."""


class StoreError(ConsensusError):
    """A store that is damaged, in use, full, or of another network."""


class PlanError(ConsensusError):
    """A plan that the controller did not sign, or that does not fit the members."""


# --- receipts


class ReceiptError(ConsensusError):
    """An inference receipt that is not valid."""


class UnknownMemberError(ReceiptError):
    """A device, gateway or AP that the genesis block does not list."""


class NotConnectedError(ReceiptError):
    """The device is not on that gateway, or the gateway not on that AP (connections a and b)."""


class DataPointsError(ReceiptError):
    """D_n is zero or above the device's cap."""


class UnknownModelError(ReceiptError):
    """A graph or weights that are not of the device's model."""


class CutOutOfRangeError(ReceiptError):
    """A cut beyond the model's last layer."""


class SignatureOfReceiptError(ReceiptError):
    """A signature of device, AP or gateway that does not hold."""


class ResultDigestError(ReceiptError):
    """A result whose digest is not the one that was signed."""


class ResultSizeError(ReceiptError):
    """A result that is larger than may be stored and sent."""


# --- blocks


class BlockError(ConsensusError):
    """A block that is not valid."""


class MinerError(BlockError):
    """A miner that is not an AP of the genesis block."""


class ReputationError(BlockError):
    """A reputation other than the one that the block's own receipts earn."""


class DifficultyError(BlockError):
    """A difficulty other than the one that the reputation gives."""


class TargetError(BlockError):
    """A target other than the one that the difficulty gives."""


class WorkError(BlockError):
    """A hash that is not below the target."""


class SealSignatureError(BlockError):
    """A sealed header that the miner did not sign."""


class RootError(BlockError):
    """A body other than the one that the header commits to."""


class BodyError(BlockError):
    """A body with too many entries, out of order, or with one twice."""


class PlanOfBlockError(BlockError):
    """A plan that the controller did not sign, that does not fit the members, or that is of another slot."""


class PlannedCutError(BlockError):
    """A receipt that would count, at another cut than was planned."""


class ReceiptSlotError(BlockError):
    """A receipt of a slot after the block's."""


class ParentError(BlockError):
    """A block that does not stand on the block it names, or at another height."""


class SlotError(BlockError):
    """A slot that does not rise along the chain."""


class TimeError(BlockError):
    """A time that is not after the parent's."""


class AheadError(BlockError):
    """A time too far ahead of the clock; when it is time, the block may be valid."""


class RecordedTwiceError(BlockError):
    """A receipt that the chain below already holds."""


class FraudProofError(BlockError):
    """A fraud proof that does not prove what it claims."""


class UntimelyError(ConsensusError):
    """A receipt of a slot too far from the chain's last, which is not taken now; nothing else is wrong with it."""


# --- audits


class EvidenceError(ConsensusError):
    """An activation or a result with another digest than was signed; it says nothing about the accused."""


class EvidenceMissingError(ConsensusError):
    """An activation or a result that is not here, so that nothing can be judged: fetch it and try again.

    Attributes:
        missing: digests.
    """

    def __init__(self, message: str, missing: tuple[bytes, ...]) -> None:
        super().__init__(message)
        self.missing = missing


class ReexecutionError(ConsensusError):
    """An inference that cannot be run again here, which proves nothing against anybody."""


class ActivationError(ConsensusError):
    """An activation that is not what crosses that cut for so many data points."""
