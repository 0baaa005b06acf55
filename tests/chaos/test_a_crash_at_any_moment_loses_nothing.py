"""An orchestrator may die, or be paused past its lease, at any moment of its work.

Before and after every statement that begins runs or records events, every claim and every call of a node it
is killed with SIGKILL, or stopped with SIGSTOP until another one has taken over and finished, then let go. A
sample of these moments is tried here, all of them by `make chaos`. The judge is the effect ledger with the
journal and what the client was told.
"""

import pytest

from tests.chaos.arena import Arena, Sweep
from tests.chaos.corpus import CORPUS
from tests.chaos.crashing import DEAD, STOPPED

pytestmark = pytest.mark.timeout(1800)


async def test_a_kill_loses_no_run_and_doubles_no_effect(arena: Arena):
    """SIGKILL; another one starts at the same address and goes on."""
    agree(await arena.sweep(CORPUS, DEAD))


async def test_a_pause_past_the_lease_lets_nobody_act_twice(arena: Arena):
    """SIGSTOP; another one takes over and finishes; SIGCONT: the first one changes nothing any more."""
    agree(await arena.sweep(CORPUS, STOPPED))


def agree(verdicts: Sweep) -> None:
    """Nothing is wrong, and nearly every moment was one: batches differ a little from run to run."""
    assert {moment: verdict.wrong for moment, verdict in verdicts.items() if verdict.wrong} == {}
    reached = sum(verdict.reached for verdict in verdicts.values())
    assert reached >= 0.75 * len(verdicts), verdicts
