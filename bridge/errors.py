"""What can go wrong between a checkpoint and a verified artifact."""

from signbart.errors import SignBartError


class BridgeError(SignBartError):
    """Base of the bridge's errors."""


class ConversionError(BridgeError):
    """A route could not make its artifact."""
