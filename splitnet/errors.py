"""The errors a user can cause, each one line that names the value, the limit and the way out.

The command line prints the message and ends with status 2. Anything else that escapes is a defect of splitnet.
"""


class SplitnetError(Exception):
    """What a user can mend; the message is one line."""


class ModelError(SplitnetError):
    """A model that is unknown, cannot be built, or cannot be traced."""


class CutError(SplitnetError):
    """A cut that does not exist or that cannot give right results."""


class ProtocolError(SplitnetError):
    """Bytes from a peer that are not the protocol; the connection they came on is closed."""


class WorkerError(SplitnetError):
    """A worker that could not be started, reached, or made to do what was asked."""


class SettingsError(SplitnetError):
    """A setting out of its range: a rate, a device, a codec, a folder."""
