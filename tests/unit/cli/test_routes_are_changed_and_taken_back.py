"""`reflux route`: a change says everything it changes, overwrites nobody's, and can be taken back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.core.errors import Refused, Violation
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Ended, Reflux
    from tests.unit.cli.fakes import FakeServer

NODE = "http.request"


def targets(server: FakeServer) -> dict[str, tuple[int, tuple[str, ...], int, str]]:
    """The newest revision: weight, fallback, tries and timeout of each target, in their order."""
    return {
        each.version: (
            each.weight,
            tuple(each.fallback),
            each.tries,
            each.try_timeout.ToJsonString() if each.HasField("try_timeout") else "",
        )
        for each in server.routes.revisions[-1].targets
    }


def set_route(reflux: Reflux, *arguments: str, **options: str) -> Ended:
    """`reflux route set http.request …`."""
    return reflux("route", "set", NODE, *arguments, **options)


def test_shares_are_percent_and_the_rest_stays(server: FakeServer, reflux: Reflux) -> None:
    """New targets are appended; what the others have beside their share stays; decimals are basis points."""
    ended = set_route(reflux, "2.0.0=0.25", "1.0.0=99.75%", "--note", "a quarter of a percent")
    assert ended.status == 0
    assert targets(server) == {"1.0.0": (9975, (), 2, ""), "2.0.0": (25, (), 1, "")}
    assert server.routes.revisions[-1].note == "a quarter of a percent"
    assert "revision 2 is APPLIED" in ended.stdout
    assert "99.75 %" in ended.stdout


def test_a_version_that_is_not_named_gets_nothing_and_stays(server: FakeServer, reflux: Reflux) -> None:
    """What is given is the whole distribution; the order of the targets keeps users where they are."""
    set_route(reflux, "1.0.0=60", "2.0.0=40", "--fallback", "1.0.0:2.0.0")
    set_route(reflux, "2.0.0=100")
    assert list(targets(server).items()) == [
        ("1.0.0", (0, ("2.0.0",), 2, "")),
        ("2.0.0", (10000, (), 1, "")),
    ]


def test_chains_can_be_changed_alone_and_taken_away(server: FakeServer, reflux: Reflux) -> None:
    """Fallback, tries and try timeout by version; nothing after the colon takes them away."""
    set_route(reflux, "1.0.0=90", "2.0.0=10", "--fallback", "2.0.0:1.0.0", "--try-timeout", "2.0.0:250ms")
    assert targets(server)["2.0.0"] == (1000, ("1.0.0",), 1, "0.250s")
    set_route(reflux, "--tries", "2.0.0:3")
    assert targets(server)["2.0.0"] == (1000, ("1.0.0",), 3, "0.250s")
    set_route(reflux, "--fallback", "2.0.0:", "--try-timeout", "2.0.0:")
    assert targets(server)["2.0.0"] == (1000, (), 3, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to set"),
        (("1.0.0=90",), "the shares sum to 90 %; they must sum to 100 %"),
        (("1.0.0=50", "1.0.0=50"), "1.0.0 has a share already"),
        (("1.0.0=1e2",), "a share is VERSION=PERCENT"),
        (("1.0.0=99.999", "2.0.0=0.001"), "at most two decimals"),
        (("1.0.0=-5", "2.0.0=105"), "a share is VERSION=PERCENT"),
        (("=100",), "a share is VERSION=PERCENT"),
        (("--tries", "9.9.9:2"), "9.9.9 is no target of this route; it has 1.0.0"),
        (("--tries", "1.0.0:many"), "VERSION:N"),
        (("--fallback", "1.0.0"), "VERSION:VALUE"),
        (("--try-timeout", "1.0.0:soon"), "a duration is written with its unit"),
        (("route.yaml", "1.0.0=100"), "give either shares"),
        (("route.yaml", "--tries", "1.0.0:2"), "give either shares"),
    ],
)
def test_what_makes_no_sense_is_2_and_changes_nothing(
    server: FakeServer, reflux: Reflux, arguments: tuple[str, ...], words: str
) -> None:
    """Each with its own words."""
    ended = set_route(reflux, *arguments)
    assert ended.status == 2
    assert words in ended.stderr
    assert "UpdateRoute" not in server.asked


def test_an_unknown_version_is_the_servers_to_refuse(server: FakeServer, reflux: Reflux) -> None:
    """With the place and the versions there are."""
    ended = set_route(reflux, "1.0.0=90", "3.0.0=10")
    assert ended.status == 2
    assert "ROUTE_INVALID" in ended.stderr
    assert "/targets/1/version: http.request has no version '3.0.0'; it has 1.0.0, 2.0.0" in ended.stderr


def test_nobodys_change_is_overwritten(server: FakeServer, reflux: Reflux) -> None:
    """Somebody else was faster between our reading and our change: 4, and theirs stays."""
    theirs = [pb.Target(version="2.0.0", weight=10000)]
    server.routes.before_update = lambda: server.routes.add(theirs, "theirs")
    ended = set_route(reflux, "1.0.0=90", "2.0.0=10")
    assert ended.status == 4
    assert server.routes.revisions[-1].note == "theirs"


def test_a_route_that_was_shown_can_be_put_back(server: FakeServer, reflux: Reflux, tmp_path: Path) -> None:
    """`get --yaml` and `set FILE` are inverse; the second time it is stale, because it names its revision."""
    set_route(reflux, "1.0.0=90", "2.0.0=10", "--fallback", "2.0.0:1.0.0", "--try-timeout", "1.0.0:2s")
    before = targets(server)
    shown = reflux("route", "get", NODE, "--yaml", ok=True).stdout
    (tmp_path / "route.yaml").write_text(shown)
    assert set_route(reflux, "route.yaml", "--note", "the same").status == 0
    assert targets(server) == before
    assert server.routes.revisions[-1].note == "the same"
    assert set_route(reflux, "route.yaml").status == 4


def test_what_is_sticky_is_set_and_kept(server: FakeServer, reflux: Reflux) -> None:
    """Shares alone change neither it nor the salt; only who asks for it deals everybody anew."""
    set_route(reflux, "1.0.0=90", "2.0.0=10", "--sticky", "input.customer")
    before = server.routes.revisions[-1]
    assert before.sticky == "input.customer"
    assert "input.customer" in reflux("route", "get", NODE, ok=True).stdout
    assert set_route(reflux, "1.0.0=50", "2.0.0=50").status == 0
    assert (server.routes.revisions[-1].sticky, server.routes.revisions[-1].salt) == (
        before.sticky,
        before.salt,
    )
    assert set_route(reflux, "--reshuffle").status == 0
    assert server.routes.revisions[-1].salt not in ("", before.salt)
    assert set_route(reflux, "--sticky", "").status == 0
    assert server.routes.revisions[-1].sticky == ""


def test_ejection_settings_are_shown_and_kept(server: FakeServer, reflux: Reflux, tmp_path: Path) -> None:
    """They come from a file, in words to people, and shares alone keep them."""
    settings = {"consecutive": 2, "base_time": "60s"}
    target = {"version": "1.0.0", "weight": 10_000, "ejection": settings}
    (tmp_path / "route.json").write_text(json.dumps({"targets": [target, {"version": "2.0.0"}]}))
    assert set_route(reflux, "route.json").status == 0
    shown = reflux("route", "get", NODE, ok=True).stdout
    assert "2 in a row, or 50 % of 10+ in 1s: for 60s" in shown
    assert set_route(reflux, "1.0.0=90", "2.0.0=10").status == 0
    kept = server.routes.revisions[-1].targets[0].ejection
    assert (kept.consecutive, kept.base_time.seconds) == (2, 60)


def test_a_document_without_a_revision_has_the_one_that_serves(server: FakeServer, reflux: Reflux) -> None:
    """It is protected too; its places are those of the file, with lines."""
    theirs = [pb.Target(version="2.0.0", weight=10000)]
    server.routes.before_update = lambda: server.routes.add(theirs, "theirs")
    document = "targets:\n  - version: 1.0.0\n    weight: 10000\n"
    assert set_route(reflux, "-", given=document).status == 4
    server.routes.before_update = lambda: None
    ended = set_route(reflux, "-", given=document.replace("10000", "10001"))
    assert ended.status == 2
    assert "/targets/0/weight (line 3): a whole number from 0 to 10000" in ended.stderr


def test_applying_names_the_proxies_that_have_not_answered(server: FakeServer, reflux: Reflux) -> None:
    """Accepted, not everywhere yet: 7."""
    server.routes.state = pb.Route.APPLYING
    ended = set_route(reflux, "1.0.0=90", "2.0.0=10")
    assert ended.status == 7
    assert "revision 2 is APPLYING" in ended.stdout
    assert "not acknowledged yet by: mesh-2" in ended.stderr


def test_a_refused_route_is_told_in_envoys_words(server: FakeServer, reflux: Reflux) -> None:
    """1: the former one serves on."""

    def refuse() -> None:
        raise Refused(
            Reason.ROUTE_REJECTED, "a proxy refused the route, the former one serves on. Bad cluster."
        )

    server.routes.before_update = refuse
    ended = set_route(reflux, "1.0.0=90", "2.0.0=10")
    assert ended.status == 1
    assert "ROUTE_REJECTED: a proxy refused the route, the former one serves on. Bad cluster." in ended.stderr


def test_rollback_goes_to_what_served_before(server: FakeServer, reflux: Reflux) -> None:
    """Past what a proxy refused; with the revision that was seen, so that no other change is taken back."""
    set_route(reflux, "1.0.0=90", "2.0.0=10")
    server.routes.add([pb.Target(version="2.0.0", weight=10000)], "refused", pb.Route.REJECTED)
    set_route(reflux, "1.0.0=50", "2.0.0=50")
    ended = reflux("route", "rollback", NODE, "--note", "too many errors", ok=True)
    assert "revision 5 is APPLIED; it equals revision 2" in ended.stdout
    [request] = server.routes.rollbacks
    assert (request.revision, request.expected_revision, request.note) == (2, 4, "too many errors")
    assert targets(server)["2.0.0"][0] == 1000


def test_rollback_to_a_named_revision(server: FakeServer, reflux: Reflux) -> None:
    """Any that there was; an unknown one is 3."""
    set_route(reflux, "1.0.0=90", "2.0.0=10")
    assert "equals revision 1" in reflux("route", "rollback", NODE, "1", ok=True).stdout
    assert reflux("route", "rollback", NODE, "77").status == 3


def test_nothing_served_before_the_first(server: FakeServer, reflux: Reflux) -> None:
    """It is said, and nothing is asked for."""
    ended = reflux("route", "rollback", NODE)
    assert ended.status == 2
    assert "nothing to go back to" in ended.stderr
    assert server.routes.rollbacks == []


def test_diff_and_history(server: FakeServer, reflux: Reflux) -> None:
    """1 when they differ, with both values; 0 when not. The history shows all, newest first."""
    set_route(reflux, "1.0.0=90", "2.0.0=10", "--note", "canary")
    ended = reflux("route", "diff", NODE)
    assert ended.status == 1
    assert ended.stdout.splitlines()[0] == "http.request: revision 1 → 2"
    assert ended.stdout.splitlines()[2].split() == ["1.0.0", "weight", "100", "%", "90", "%"]
    assert reflux("route", "diff", NODE, "2", "2").status == 0
    rows = reflux("route", "history", NODE, ok=True).stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["REVISION", "2", "1"]
    assert "canary" in rows[1]
    assert "1.0.0 90 %, 2.0.0 10 %" in rows[1]


def test_a_node_without_a_route_gets_its_first(server: FakeServer, reflux: Reflux) -> None:
    """Reading finds none; the update is the server's to judge."""
    ended = reflux("route", "set", "other.node", "1.0.0=100")
    assert "UpdateRoute" in server.asked
    assert ended.status == 3
    assert reflux("route", "get", "other.node").status == 3


def test_limits_are_set_one_by_one(server: FakeServer, reflux: Reflux) -> None:
    """What is not named stays; nothing behind the colon takes a limit away."""

    def limits() -> list[tuple[int, int]]:
        return [
            (each.limits.max_requests, each.limits.max_pending)
            for each in server.routes.revisions[-1].targets
            if each.HasField("limits")
        ]

    ended = set_route(reflux, "--limit", "1.0.0:20", "--pending", "1.0.0:5")
    assert (ended.status, limits()) == (0, [(20, 5)])
    assert "20, 5 pending" in ended.stdout
    set_route(reflux, "--limit", "1.0.0:30")
    assert limits() == [(30, 5)]
    set_route(reflux, "--limit", "1.0.0:")
    assert limits() == [(0, 5)]
    set_route(reflux, "--pending", "1.0.0:")
    assert not limits()
    assert set_route(reflux, "--limit", "1.0.0:many").status != 0
    assert set_route(reflux, "--limit", "9.9.9:1").status != 0


def test_contracts_are_ignored_only_when_it_is_said(server: FakeServer, reflux: Reflux) -> None:
    """By a change, and by going back."""
    set_route(reflux, "1.0.0=90", "2.0.0=10")
    set_route(reflux, "1.0.0=80", "2.0.0=20", "--ignore-contracts")
    assert server.routes.ignoring == [False, True]
    reflux("route", "rollback", NODE, "1", ok=True)
    reflux("route", "rollback", NODE, "2", "--ignore-contracts", ok=True)
    assert [each.ignore_contracts for each in server.routes.rollbacks] == [False, True]


def test_flows_that_a_version_does_not_fit_are_named(server: FakeServer, reflux: Reflux) -> None:
    """Each with its place and what to do; the exit status is 1."""

    def refuse() -> None:
        place = Violation("checkout@3/spec/steps/0/with/url", "it takes string (let it name 1.0.0)")
        raise Refused(Reason.CONTRACT_BROKEN, "2.0.0 does not fit checkout@3", violations=[place])

    server.routes.before_update = refuse
    ended = set_route(reflux, "1.0.0=90", "2.0.0=10")
    assert ended.status == 1
    assert "CONTRACT_BROKEN: 2.0.0 does not fit checkout@3" in ended.stderr
    assert "checkout@3/spec/steps/0/with/url: it takes string (let it name 1.0.0)" in ended.stderr
