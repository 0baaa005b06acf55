"""What a world takes from this machine: nothing, within the block of `virtual`."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch
from uuid import UUID

from reflux.orchestrator import batch_call, codec, intake, worker
from reflux.orchestrator.store import arrays, lease, members
from reflux.runtime import ids

if TYPE_CHECKING:
    from collections.abc import Iterator


HASTY_EVERY = 5
"""In one world of so many every walk stops after each decision, as if that had taken long."""
LOOK_SECONDS = 2.0
POLL_SECONDS = 2.0
"""Longer than in production: most of what happens in a world would be looks that find nothing."""


@contextmanager
def virtual(seed: int | str) -> Iterator[None]:
    """Chance comes from the seed, columns stay lists, and nobody logs, within the block."""
    rng = Random(f"ids {seed}")
    state = random.getstate()
    disabled = logging.root.manager.disable
    random.seed(f"code {seed}")
    with ExitStack() as patches:
        for kind in ("int4s", "int8s", "bools", "texts", "blobs", "uuids", "times"):
            patches.enter_context(patch.object(arrays, kind, list))
        patches.enter_context(patch.object(arrays, "register", lambda context: None))
        patches.enter_context(
            patch.object(members, "uuid4", lambda: UUID(int=rng.getrandbits(128), version=4))
        )
        patches.enter_context(patch.object(ids, "secrets", _Bits(rng)))
        patches.enter_context(patch.object(batch_call, "secrets", _Bits(Random(f"batches {seed}"))))
        patches.enter_context(patch.object(lease, "LOOK_SECONDS", LOOK_SECONDS))
        patches.enter_context(patch.object(intake, "POLL_SECONDS", POLL_SECONDS))
        if isinstance(seed, int) and seed % HASTY_EVERY == 0:  # no time passes within a callback here
            patches.enter_context(patch.object(worker, "MAX_TURN", timedelta(seconds=-1)))
        # Events are frozen, and the same ones are read again and again.
        patches.enter_context(patch.object(codec, "decode", lru_cache(maxsize=1_000)(codec.decode)))
        # Nobody here asks for all tasks there are, and to remember them weakly is dear.
        patches.enter_context(patch.object(asyncio.tasks._all_tasks, "add", lambda _: None))  # type: ignore[attr-defined]
        # What dies is unwound without its loop, and its `finally` blocks complain: nobody is there to hear.
        patches.enter_context(patch.object(sys, "unraisablehook", lambda _: None))
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            random.setstate(state)


@dataclass(frozen=True, slots=True)
class _Bits:
    rng: Random

    def randbits(self, bits: int) -> int:
        return self.rng.getrandbits(bits)

    def token_hex(self, size: int) -> str:
        return self.rng.randbytes(size).hex()
