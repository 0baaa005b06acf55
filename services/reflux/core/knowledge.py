"""What is asked about an effect of which nobody knows, and what the answers say."""

from enum import StrEnum


class Question(StrEnum):
    """What a node version is asked about an effect of which nobody knows."""

    VERIFY = "verify"
    """What became of it."""
    CANCEL = "cancel"
    """To undo it, for ever."""


class Knowledge(StrEnum):
    """What is known of an effect, by the word of its version."""

    FOUND = "FOUND"
    VOIDED = "VOIDED"
    """It is not there, and nothing that is still on its way can make it."""
    UNKNOWN = "UNKNOWN"
