"""Words as they lie in the inbox: a kind, and JSON.

What was put there by an older version is read by every newer one: fields are only added, with what their
absence means. A word of a kind that this version does not know (an upgrade is under way, and a newer
orchestrator has put it there) is not heard; its sender is told to ask again.
"""

from typing import Any, Final

import orjson

from reflux.core.document import Json
from reflux.core.event import Choice
from reflux.core.names import StepPath
from reflux.core.word import (
    Answer,
    Cancel,
    Overrule,
    Pause,
    Recall,
    Resume,
    Signal,
    Terminate,
    Word,
    WordId,
)

_PLAIN: Final[dict[str, type[Cancel | Recall | Terminate | Pause | Resume]]] = {
    "cancel": Cancel,
    "recall": Recall,
    "terminate": Terminate,
    "pause": Pause,
    "resume": Resume,
}
_KINDS: Final[dict[type[Word], str]] = {
    **{kind: name for name, kind in _PLAIN.items()},
    Signal: "signal",
    Answer: "answer",
    Overrule: "overrule",
}
ENDS: Final = frozenset({"cancel", "terminate"})
"""Kinds that end even a run which cannot be folded."""
WAKES: Final = frozenset({*ENDS, "resume"})
"""Kinds for which a run in quarantine is read; `find_due` and `adopt_runs` know them too."""


def encode(word: Word) -> tuple[str, bytes]:
    """The kind of a word, and its payload."""
    fields: dict[str, Any] = {"id": word.id, "actor": word.actor}
    match word:
        case Signal():
            fields |= {"name": word.name, "key": word.key, "payload": _raw(word.payload)}
        case Answer():
            fields |= {"step": word.step, "approved": word.approved, "comment": word.comment}
            fields |= {"form": _raw(word.form)}
        case Overrule():
            fields |= {"step": word.step, "choice": word.choice.value, "reason": word.reason}
            fields |= {"output": _raw(word.output), "version": word.version}
        case _:
            fields |= {"reason": word.reason}
    return _KINDS[type(word)], orjson.dumps(fields)


def decode(kind: str, payload: bytes) -> Word:
    """The word of an inbox row.

    Raises:
        ValueError: this version does not know the kind, or the payload is damaged.
    """
    try:
        said = orjson.loads(payload)
        word_id, actor = WordId(said.get("id", "")), said["actor"]
        if (plain := _PLAIN.get(kind)) is not None:
            return plain(word_id, actor, said["reason"])
        if kind == "signal":
            return Signal(word_id, actor, said["name"], said["key"], Json(said["payload"].encode()))
        if kind == "answer":
            form, step = _json(said["form"]), StepPath(said["step"])
            return Answer(word_id, actor, step, said["approved"], form, said["comment"])
        if kind == "overrule":
            return Overrule(
                word_id,
                actor,
                StepPath(said["step"]),
                Choice(said["choice"]),
                said["reason"],
                output=_json(said["output"]),
                version=said["version"],
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a damaged word of kind {kind!r}: {error!r}") from error
    raise ValueError(f"this version does not know words of kind {kind!r}")


def _raw(document: Json | None) -> str | None:
    """As text, so that its digits stay as they were sent."""
    return None if document is None else document.raw.decode()


def _json(text: str | None) -> Json | None:
    return None if text is None else Json(text.encode())
