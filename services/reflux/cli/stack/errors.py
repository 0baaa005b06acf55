"""What can keep a stack from running. All of it is for the operator: each message says what to do.

StackError
├── ListenError           an address that is not loopback, without the explicit flag
├── PortError             a port is taken
├── FolderError           the data folder cannot be made or written
├── StackRunningError     another stack uses the data folder
├── StackNotRunningError  there is none to stop or to look at
├── WheelMissingError     an embedded server is not installed
├── PostgresError         the embedded database cannot be made or used
├── UnknownPartError      no part of that name
└── StartError            a part or a step did not succeed while the stack came up
"""

from __future__ import annotations


class StackError(Exception):
    """The root; see the module."""


class ListenError(StackError):
    """The stack has no authentication yet, so it listens on loopback unless told twice."""


class PortError(StackError):
    """The message names the option and says how to change it."""


class FolderError(StackError):
    """The message names the folder, and what the system says."""


class StackRunningError(StackError):
    """The message says which stack, where, and how to stop it."""


class StackNotRunningError(StackError):
    """No supervisor holds the data folder."""


class WheelMissingError(StackError):
    """The message says how to get it."""


class PostgresError(StackError):
    """The message says why, and which log to read."""


class UnknownPartError(StackError):
    """The message names the parts there are."""


class StartError(StackError):
    """`part` is the name of what failed, and of its log."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part} {reason}")
        self.part = part
