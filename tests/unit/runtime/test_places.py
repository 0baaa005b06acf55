"""Where a service binds, and where one of several replicas is reached."""

from __future__ import annotations

import pytest

from reflux.runtime.places import listening, reached
from reflux.runtime.settings import Address, Settings

FOUND = Address("orchestrator", 4103)
LOCAL = Address("127.0.0.1", 4001)


def test_by_itself_a_service_binds_where_it_is_found() -> None:
    """One machine: one address for all three."""
    settings = Settings()
    assert listening(settings, FOUND) == FOUND
    assert reached(settings, FOUND, through=LOCAL) == FOUND


def test_bind_changes_the_host_and_never_the_port() -> None:
    """The port is part of where it is found."""
    assert listening(Settings(bind="0.0.0.0"), FOUND) == Address("0.0.0.0", 4103)
    assert listening(Settings(bind="::"), FOUND) == Address("::", 4103)


def test_who_binds_one_address_is_reached_there() -> None:
    """And not at the name that several share."""
    assert reached(Settings(bind="127.0.5.5"), FOUND, through=LOCAL) == Address("127.0.5.5", 4103)


def test_who_binds_all_addresses_is_reached_at_the_one_its_connections_come_from() -> None:
    """The peer decides, because a container may be in several networks."""
    assert reached(Settings(bind="0.0.0.0"), FOUND, through=LOCAL) == Address("127.0.0.1", 4103)


def test_what_is_advertised_beats_all() -> None:
    """A machine's own view may be wrong; port 0 is the one that is bound."""
    settings = Settings(bind="0.0.0.0", advertise="10.0.0.9:0")
    assert reached(settings, FOUND, through=LOCAL) == Address("10.0.0.9", 4103)
    settings = Settings(bind="0.0.0.0", advertise="10.0.0.9:80")
    assert reached(settings, FOUND, through=LOCAL) == Address("10.0.0.9", 80)


def test_a_peer_that_nobody_knows_is_named_with_the_way_out() -> None:
    """The process ends with a sentence, and its engine starts it again."""
    with pytest.raises(OSError, match=r"nowhere\.invalid:4001 .*; set advertise"):
        reached(Settings(bind="0.0.0.0"), FOUND, through=Address("nowhere.invalid", 4001))
