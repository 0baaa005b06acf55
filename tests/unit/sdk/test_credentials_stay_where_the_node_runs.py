"""A call names credentials; the version finds them where it runs, and nobody else ever sees them."""

from __future__ import annotations

import logging
from datetime import timedelta
from io import StringIO

import grpc
import pytest

from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.runtime import logs
from reflux.sdk import (
    Basic,
    Bearer,
    Context,
    CredentialSlot,
    Header,
    Key,
    Model,
    NodeFault,
    TargetFault,
    node,
)
from tests.unit.sdk.credentials import SECRET, bearer, put
from tests.unit.sdk.served import orchestrator, served

SECONDS = timedelta(seconds=10)
KEY = {"kind": "key", "key": SECRET}
SLOTS = (
    CredentialSlot("shop", (Bearer, Basic, Header), default=True),
    CredentialSlot("bank", (Key,), "The account that pays."),
)


class Input(Model):
    slot: str = "shop"
    does: str = "tell"


class Output(Model):
    kind: str
    said: str = ""


async def use(given: Input, ctx: Context[None]) -> Output:
    """Gets what was named, and is careless with it."""
    found = ctx.credential(given.slot)
    secret = found.secrets[0] if found is not None else ""
    match given.does:
        case "repeat":
            return Output(kind=found.kind, said=f"<{secret}>")
        case "target":
            raise TargetFault(
                grpc.StatusCode.NOT_FOUND,
                f"{secret} is unknown",
                reason=Reason.TARGET_FAULT,
                metadata={"of": secret},
            )
        case "node":
            raise NodeFault(grpc.StatusCode.UNAVAILABLE, f"{secret} is unknown")
        case "defect":
            ctx.log.info("careless", said=f"with {secret}")
            raise ZeroDivisionError(secret)
    return Output(kind="none" if found is None else found.kind)


def version(**options):
    options = {"effect": EffectClass.PURE, "credentials": SLOTS} | options
    return node("test.secret", "1.0.0", attempt_timeout=SECONDS, **options)(use)


@pytest.fixture(name="shop")
def _shop(tmp_path):
    """A folder with one credential of each slot."""
    put(tmp_path, "api", bearer("api.example.com"))
    put(tmp_path, "account", KEY)
    return tmp_path


async def test_a_slot_holds_what_the_step_named_for_it(shop):
    """By the name of the slot; one name without a slot is for the default one; not named is nothing."""
    async with served(version(), credentials_dir=shop) as call:
        both = {"shop": "api", "bank": "account"}
        assert (await call({}, credentials=both)).output["kind"] == "bearer"
        assert (await call({"slot": "bank"}, credentials=both)).output["kind"] == "key"
        assert (await call({}, credentials={"": "api"})).output["kind"] == "bearer"
        assert (await call({}, credentials={"bank": "account"})).output["kind"] == "none"
        assert (await call({})).output["kind"] == "none"


async def test_the_slots_of_other_versions_are_let_be(shop):
    """A step names one for each provider that could answer; a version reads its own alone."""
    async with served(version(), credentials_dir=shop) as call:
        answer = await call({}, credentials={"": "api", "elsewhere": "not-here"})
    assert answer.output["kind"] == "bearer"


async def test_a_changed_file_counts_at_once(shop):
    """A rotated secret needs no restart, and a removed one is gone."""
    async with served(version(), credentials_dir=shop) as call:
        assert (await call({}, credentials={"": "api"})).output["kind"] == "bearer"
        put(shop, "api", {"kind": "header", "name": "x-key", "value": SECRET, "origins": ["a.example"]})
        assert (await call({}, credentials={"": "api"})).output["kind"] == "header"
        (shop / "api").unlink()
        answer = await call({}, credentials={"": "api"})
    assert answer.failure.reason == Reason.CREDENTIAL_UNAVAILABLE


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0, "there is no file of this name"),
        (bearer("a.example"), 0o644, "read or written by others (mode 0644): chmod 600"),
        (bearer("a.example"), 0o660, "read or written by others (mode 0660): chmod 600"),
        (bearer("a.example", token="short"), 0o600, "token: String should have at least 8 characters"),
        (
            bearer("a.example", token=f"{SECRET}\n"),
            0o600,
            "token: Value error, has characters that no header",
        ),
        (bearer(), 0o600, "origins: "),
        (bearer("ftp://a.example"), 0o600, "origins: Value error, is no origin"),
        (bearer("https://a.example/path"), 0o600, "origins: Value error, is no origin"),
        ({"kind": "cookie", "value": SECRET}, 0o600, "kind is bearer, basic, header or key"),
        ({"token": SECRET}, 0o600, "kind is bearer, basic, header or key"),
        (KEY | {SECRET: 1}, 0o600, "a key does not belong there"),
        (KEY | {"user": "me"}, 0o600, "user does not belong there"),
        (SECRET, 0o600, "its file is no credential"),
        (f"{SECRET}: [", 0o600, "neither YAML nor JSON"),
        ("x" * (65 << 10), 0o600, "larger than 64 KiB"),
        ("\0\xff", 0o600, "neither YAML nor JSON"),
    ],
)
async def test_what_cannot_be_used_is_told_to_the_operator(tmp_path, content, mode, said):
    """By the name of the credential and what to do; never in the words of the file. Nothing was done."""
    if content is not None:
        put(tmp_path, "api", content, mode=mode)
    async with served(version(), credentials_dir=tmp_path) as call:
        answer = await call({}, credentials={"": "api"})
    assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
    assert answer.failure.reason == Reason.CREDENTIAL_UNAVAILABLE
    assert answer.failure.message.startswith("credential api: ")
    assert said in answer.failure.message
    assert SECRET not in answer.failure.message
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert answer.failure.metadata["fault"] == "target"
    assert not answer.retry_safe


async def test_a_folder_is_no_credential_and_no_folder_has_none(tmp_path):
    """Nothing hangs on what is no file, and a node without the setting says so."""
    (tmp_path / "api").mkdir()
    async with served(version(), credentials_dir=tmp_path) as call:
        answer = await call({}, credentials={"": "api"})
        assert "it is no file" in answer.failure.message
    async with served(version()) as call:
        answer = await call({}, credentials={"": "api"})
        assert "set REFLUX_CREDENTIALS_DIR" in answer.failure.message


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"bank": "api"}, "credential api is of kind bearer; test.secret@1.0.0 takes key as bank"),
        ({"shop": "../api"}, "is no name of a credential"),
        ({"shop": "/etc/passwd"}, "is no name of a credential"),
        ({"shop": SECRET.upper()}, "is no name of a credential"),
    ],
)
async def test_what_does_not_fit_is_told_to_the_author(shop, named, said):
    """A kind that the slot does not take; what is no name is not repeated: it may be the secret."""
    async with served(version(), credentials_dir=shop) as call:
        answer = await call({}, credentials=named)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.failure.reason == Reason.CREDENTIAL_UNFIT
    assert said in answer.failure.message
    assert SECRET.upper() not in answer.failure.message


@pytest.mark.parametrize(
    ("slots", "said"), [((), "takes no credentials"), (SLOTS[1:], "has no default slot for credential")]
)
async def test_a_version_without_the_slot_refuses(shop, slots, said):
    """Acting without the credential that somebody counts on would be another act."""
    async with served(version(credentials=slots), credentials_dir=shop) as call:
        answer = await call({}, credentials={"": "api"})
    assert answer.failure.reason == Reason.CREDENTIAL_UNFIT
    assert said in answer.failure.message


async def test_it_is_looked_for_before_the_effect_is_claimed(shop):
    """So without it there surely was none."""
    async with (
        orchestrator() as owner,
        served(version(effect=EffectClass.AT_MOST_ONCE), credentials_dir=shop) as call,
    ):
        envelope = {"effect": "at_most_once", "claim_address": owner.address}
        answer = await call({}, credentials={"": "gone"}, **envelope)
        assert (answer.failure.metadata["outcome"], owner.asked) == ("NO_EFFECT", [])
        assert (await call({}, credentials={"": "api"}, **envelope)).output["kind"] == "bearer"
        assert len(owner.asked) == 1


@pytest.mark.parametrize("does", ["repeat", "target", "node", "defect"])
async def test_nobody_is_told_the_secret(shop, does):
    """Not in the output, the words or the facts of an error, nor in a line of the log, whoever writes it."""
    written = StringIO()
    before = logging.getLogger().handlers[:]
    logs.configure(service="test", level="info", log_format="json", stream=written)
    try:
        async with served(version(), credentials_dir=shop) as call:
            answer = await call({"does": does}, credentials={"": "api"})
    finally:
        logging.getLogger().handlers[:] = before
    told = f"{answer.output} {answer.failure}"
    assert SECRET not in told
    assert SECRET not in written.getvalue()
    if does == "defect":
        assert "ZeroDivisionError: ***" in written.getvalue()
        assert "with ***" in written.getvalue()
    else:
        assert "***" in told


async def test_a_version_says_which_slots_it_has():
    """Name, kinds, what it is for, and which is the default."""
    described = [(slot.name, [*slot.kinds], slot.default) for slot in version().describe().credentials]
    assert described == [("shop", ["bearer", "basic", "header"], True), ("bank", ["key"], False)]


async def test_asking_for_a_slot_that_is_not_declared_is_a_defect(shop):
    """Nobody could name a credential for it."""
    async with served(version(), credentials_dir=shop) as call:
        assert (await call({"slot": "other"})).code is grpc.StatusCode.INTERNAL
