"""What the exit status of a client command says. Stable: scripts branch on it.

| status | name | when |
|---|---|---|
| 0 | OK | done, and what was asked about is well; a diff found nothing |
| 1 | FAILED | what was asked about is not well: a run FAILED or was CANCELED, a plan has problems, a diff |
| | | found something, a proxy refused a route; or a defect of the server |
| 2 | USAGE | a wrong option, argument, document, setting or proof of who asks (INVALID_ARGUMENT, …) |
| 3 | NOT_FOUND | nothing of that name or id |
| 4 | CONFLICT | it changed since it was read, or the name or handle is taken |
| 5 | UNREACHABLE | nothing answers there, or not now; the same command may work later |
| 6 | PARKED | a run waits for a person |
| 7 | NOT_YET | accepted, but the wait was over first: the run still runs, some proxies have not answered |
| 130 | INTERRUPTED | Ctrl-C |

The commands that run a stack (`up`, `down`, `logs`, `migrate`, `serve`) use 0, 1, 2 and 130 only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """See the module."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    PARKED = 6
    NOT_YET = 7
    INTERRUPTED = 130


EPILOG: Final = (
    "[bold]Exit status[/] of the client commands, for scripts:\n\n"
    "0 done · 1 what was asked about is not well (a run failed, a plan has problems, a diff differs) · "
    "2 wrong usage, document or setting · 3 not found · 4 conflict: it changed since it was read, or the "
    "name is taken · 5 nothing answers, or not now · 6 the run is PARKED, a person must look · "
    "7 accepted, but not done when the wait was over · 130 interrupted\n\n"
    "With --json a command writes one JSON document to stdout (run watch: one per line) and nothing "
    "else; an error is a google.rpc.Status in JSON on stderr."
)
"""The same for people; rich markup, a paragraph per blank line."""

_BY_CODE: Final = {
    3: Exit.USAGE,  # INVALID_ARGUMENT
    4: Exit.UNREACHABLE,  # DEADLINE_EXCEEDED
    5: Exit.NOT_FOUND,
    6: Exit.CONFLICT,  # ALREADY_EXISTS
    8: Exit.UNREACHABLE,  # RESOURCE_EXHAUSTED
    10: Exit.CONFLICT,  # ABORTED
    14: Exit.UNREACHABLE,  # UNAVAILABLE
    16: Exit.USAGE,  # UNAUTHENTICATED
}

_BY_RUN_STATE: Final = {
    "SUCCEEDED": Exit.OK,
    "FAILED": Exit.FAILED,
    "CANCELED": Exit.FAILED,
    "PARKED": Exit.PARKED,
}


def of_code(code: int) -> Exit:
    """The status for a google.rpc.Code that is not OK."""
    return _BY_CODE.get(code, Exit.FAILED)


def of_run(state: str) -> Exit:
    """The status for a run that was waited for and stands at `state`."""
    return _BY_RUN_STATE.get(state, Exit.NOT_YET)
