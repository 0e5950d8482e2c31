"""Instances: there while a session speaks for them, and for a grace time after it."""

from __future__ import annotations

import pytest

from trishula_router.agents.instances import Instances
from trishula_router.agents.sessions import Session


@pytest.fixture
def one() -> Session:
    return Session(1, "agni")


@pytest.fixture
def other() -> Session:
    return Session(2, "agni")


@pytest.fixture
def instances() -> Instances:
    instances = Instances(100.0)
    # As after a start that is long ago.
    instances.begin(-1000.0)
    return instances


def test_an_instance_is_there_from_its_first_call_on(instances: Instances, one: Session) -> None:
    assert not instances.knows("agni/x", 0.0)
    instances.present("agni/x", one)
    assert instances.knows("agni/x", 0.0)
    assert not instances.knows("agni/y", 0.0)
    assert not instances.knows("dc/x", 0.0)


def test_it_outlives_its_session_by_the_grace_time(instances: Instances, one: Session) -> None:
    instances.present("agni/x", one)
    instances.left(one, 50.0)
    assert instances.gone(149.9) == []
    assert instances.knows("agni/x", 149.9)
    assert instances.gone(150.0) == ["agni/x"]
    assert not instances.knows("agni/x", 150.0)
    assert instances.gone(1000.0) == []


def test_who_comes_back_in_time_keeps_it(instances: Instances, one: Session, other: Session) -> None:
    instances.present("agni/x", one)
    instances.left(one, 50.0)
    instances.present("agni/x", other)
    assert instances.gone(1000.0) == []
    assert instances.knows("agni/x", 1000.0)


def test_it_is_gone_when_the_last_of_its_sessions_is(instances: Instances, one: Session, other: Session) -> None:
    # One consumes it, another one only asked and was told that it is busy.
    instances.present("agni/x", one)
    instances.present("agni/x", other)
    instances.left(other, 10.0)
    assert instances.gone(1000.0) == []
    assert instances.knows("agni/x", 1000.0)
    instances.left(one, 1000.0)
    assert instances.gone(1100.0) == ["agni/x"]


def test_a_session_may_speak_for_several(instances: Instances, one: Session) -> None:
    instances.present("agni/x", one)
    instances.present("agni/y", one)
    instances.left(one, 0.0)
    assert sorted(instances.gone(100.0)) == ["agni/x", "agni/y"]


def test_mailboxes_of_an_earlier_run_have_their_grace_time_too(instances: Instances) -> None:
    instances.remember("agni/x", 5.0)
    instances.remember("agni", 5.0)
    assert instances.knows("agni/x", 5.0)
    assert instances.gone(105.0) == ["agni/x"]


def test_after_a_start_every_instance_may_be_on_its_way_back() -> None:
    # A script asked, the node was killed, the answer comes before the script has joined again.
    instances = Instances(100.0)
    instances.begin(0.0)
    assert instances.knows("agni/x", 99.0)
    # It was taken as known, so its mailbox is closed like any other's if it doesn't come.
    assert instances.gone(198.9) == []
    assert instances.knows("agni/x", 150.0)
    assert instances.gone(199.0) == ["agni/x"]
    assert not instances.knows("agni/x", 199.0)
    assert not instances.knows("agni/y", 100.0)
