"""A word survives the inbox, and its payload is read by every version that comes later."""

from __future__ import annotations

import pytest

from reflux.core.document import Json
from reflux.core.event import Choice
from reflux.core.word import Answer, Cancel, Overrule, Pause, Resume, Signal, Terminate, WordId
from reflux.orchestrator.words import stored, tokens
from reflux.orchestrator.words.waits import WaitRow, changed, keyed
from tests.support.walk import RUN, Walk, flow_of

W = WordId("w1")
DIGITS = Json(b"[9007199254740993, 1.10]")
WORDS = [
    Cancel(W, "ada", "enough"),
    Terminate(W, "ada", ""),
    Pause(W, "ada", "lunch"),
    Resume(W, "ada", "on"),
    Signal(W, "ada", "shipped", "k", DIGITS),
    Answer(W, "ada", "lines[3]/ok", True, DIGITS, "fine"),
    Answer(W, "ada", "ok", False, None, ""),
    Overrule(W, "ada", "pay", Choice.CONFIRM, "seen", output=DIGITS),
    Overrule(W, "ada", "pay", Choice.FALL_BACK, "", version="2"),
]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_every_word_survives_the_inbox(word):
    """Every digit of its documents included."""
    assert stored.decode(*stored.encode(word)) == word


def test_a_cancel_of_an_older_version_is_heard():
    """It had no id: an upgrade loses nothing that was said before it."""
    assert stored.decode("cancel", b'{"actor": "ada", "reason": "x"}') == Cancel(WordId(""), "ada", "x")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("shout", b'{"id": "1", "actor": "ada"}'),
        ("signal", b"{}"),
        ("pause", b'{"actor": "ada"}'),
        ("answer", b"[]"),
        (
            "overrule",
            b'{"id":"1","actor":"a","step":"s","choice":"undo","reason":"","output":null,"version":""}',
        ),
        ("cancel", b"\xff"),
    ],
)
def test_what_is_no_word_is_refused(kind, payload):
    """As a ValueError, which costs the word and nothing else."""
    with pytest.raises(ValueError):
        stored.decode(kind, payload)


def test_a_token_names_its_step_and_proves_who_made_it():
    """Another key, run or step, or a changed character, opens nothing."""
    key, other = b"k" * 32, b"o" * 32
    token = tokens.make(key, RUN, "lines[3]/ok")
    assert tokens.read(key, token) == (RUN, "lines[3]/ok")
    assert tokens.make(key, RUN, "lines[4]/ok") != token
    wrong = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(60)
    ]
    for text in (*wrong, tokens.make(other, RUN, "ok"), "", "é", "=", token * 40):
        with pytest.raises(Exception, match="no token"):
            tokens.read(key, text)


def test_the_index_follows_the_waits_of_a_run():
    """Rows come with waits under a key and go with them; a run without any writes nothing."""
    keyed_wait = {"id": "w", "wait": {"signal": "shipped", "key": "k"}}
    bare = {"id": "b", "needs": [], "wait": {"signal": "other"}}
    walk = Walk(flow_of(keyed_wait, bare)).run()
    assert changed({}, walk.state) == [WaitRow("w", "shipped", "k")]
    indexed = keyed(walk.state)
    assert changed(indexed, walk.state) == []
    walk.say(Signal(W, "ada", "shipped", "k", Json(b"1")))
    assert changed(indexed, walk.state) == [WaitRow("w", None, "")]
    assert changed({}, walk.state) == []
