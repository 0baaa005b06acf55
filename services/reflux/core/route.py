"""Draws: the random value of a weighted choice, made from what is being routed.

Envoy takes `draw mod total weight`, cumulative in the order of the targets; the draw travels in a header, so
the same attempt always draws the same and a replay draws nothing. The node's name is part of the hash: two
nodes never share their luck. The functions are fixed for ever, because journals name their results.

    draw           of one attempt: a retry draws anew, so what is ill is not asked again and again
    sticky_digest  of a sticky value: every call with it draws the same, whatever run, step and attempt it is.
                   The salt belongs to the node's route; another one deals all values anew

A sticky value may be personal, so only its digest is kept. It is made with node and salt: digests of two
nodes cannot be joined, and who does not know the salt cannot try values out.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from reflux.core.names import RunId, StepPath

TOTAL_WEIGHT: Final = 10_000
"""Basis points that the weights of a route sum to."""

MAX_TRIES: Final = 5
"""Of one version within one attempt."""

DIGEST_BYTES: Final = 16
"""Of a sticky value."""


def draw(node: str, run_id: RunId, step: StepPath, attempt: int) -> int:
    """The draw of one attempt, 0 to 9999, uniform over runs, steps and attempts."""
    text = f"{node}\n{run_id}\n{step}\n{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % TOTAL_WEIGHT


def sticky_digest(node: str, salt: str, value: bytes) -> bytes:
    """What is kept of a sticky value, and what its draw is made from; `value` is its JSON, keys sorted."""
    text = b"\n".join((node.encode(), salt.encode(), value))
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def sticky_draw(digest: bytes) -> int:
    """The draw of every call with this sticky value, 0 to 9999, uniform over values, nodes and salts."""
    return int.from_bytes(digest[:8]) % TOTAL_WEIGHT


def pick(versions: Sequence[tuple[str, int]], number: int) -> tuple[str, int]:
    """The version that a draw chooses, and its basis points: cumulative in this order, as Envoy does it.

    >>> pick((("1.0.0", 9000), ("2.0.0", 1000)), 9000)
    ('2.0.0', 1000)
    """
    bounds = list(accumulate(weight for _, weight in versions))
    return versions[bisect_right(bounds, number)]


def idempotency_key(run_id: RunId, step: StepPath, generation: int) -> str:
    """The effect-once handle of a step: the same for every attempt of one generation."""
    return hashlib.sha256(f"{run_id}\n{step}\n{generation}".encode()).hexdigest()


def shadow_draw(node: str, run_id: RunId, step: StepPath, attempt: int) -> int:
    """The draw that says whose shadow gets a copy of an attempt, 0 to 9999; it shares no luck with `draw`."""
    text = f"shadow\n{node}\n{run_id}\n{step}\n{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % TOTAL_WEIGHT


def shadow_cluster(node: str, version: str) -> str:
    """What the mesh calls the place where copies for a version go; named as chains are, so that statistics
    show it whole.
    """
    return f"{node}~shadow~{hashlib.sha256(version.encode()).hexdigest()[:12]}"
