"""Which publications are carried to other cells; in whose name, and for whom, those of others are published here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from autobahn.wamp import message

from trishula.contract import uris
from trishula_router.cells.live import Event
from trishula_router.realm import AGENT_ROLE, LINK_ROLE, OPERATOR_ROLE
from trishula_router.upstream.live_topics import carry_live_topics

CELSIUS = uris.topic_of("agni", "celsius")


class Crossbar:
    """As much of it as the mend looks at."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, Any]] = []
        self.carried: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.listening: list[tuple[int, str | None]] = []
        self.seen: dict[int, Any] = {}
        self.denied: set[str] = set()
        topics = SimpleNamespace(get_observation_by_id=self.seen.get)
        self.broker: Any = SimpleNamespace(processPublish=self._take, _subscription_map=topics)
        self.topics: Any = SimpleNamespace(
            published=lambda *args, **more: self.carried.append((args, more)),
            listening=lambda number, topic: self.listening.append((number, topic)),
        )
        self.news: dict[str, Callable[..., object]] = {}
        router = SimpleNamespace(_broker=self.broker)
        self.session = SimpleNamespace(_transport=SimpleNamespace(_router=router), subscribe=self._subscribe)
        roles = (AGENT_ROLE, OPERATOR_ROLE)
        begun = carry_live_topics(
            self.session,
            cast(Any, self.topics),
            message,
            roles,
            {"agni": AGENT_ROLE}.get,
            lambda who, uri, options: who["authid"] in self.denied,
        )
        with pytest.raises(StopIteration) as ended:
            begun.send(None)
        assert ended.value.value is True

    def _take(self, session: Any, event: Any) -> None:
        self.taken.append((session, event))

    async def _subscribe(self, handler: Callable[..., object], topic: str) -> None:
        self.news[topic] = handler

    def publish(self, topic: str = CELSIUS, *, authid: str = "agni", role: str = AGENT_ROLE, **options: Any) -> None:
        session = SimpleNamespace(_authid=authid, _authrole=role, _session_id=7)
        self.broker.processPublish(session, message.Publish(1, topic, **{"args": [21], **options}))


@pytest.fixture
def crossbar() -> Crossbar:
    return Crossbar()


def test_what_an_agent_publishes_on_its_topics_is_carried(crossbar: Crossbar) -> None:
    crossbar.publish(kwargs={"topic": 1}, eligible_authid=["dc"], exclude_authid=["x"], eligible_authrole=["operator"])
    crossbar.publish(args=None)
    assert crossbar.carried == [
        (
            (CELSIUS, "agni", 7, [21], {"topic": 1}),
            {"eligible": ["dc"], "excluded": ["x"], "roles": ["operator"]},
        ),
        ((CELSIUS, "agni", 7, [], {}), {"eligible": None, "excluded": None, "roles": None}),
    ]
    assert len(crossbar.taken) == 2


def test_what_is_not_an_agents_or_not_for_all_is_not_carried(crossbar: Crossbar) -> None:
    crossbar.denied.add("mallory")
    crossbar.publish(authid="mallory")
    crossbar.publish(role=LINK_ROLE)
    crossbar.publish(role="node")
    crossbar.publish(eligible=[3])
    crossbar.publish(args=None, payload=b"x", enc_algo="cryptobox", enc_serializer="json")
    for topic in ("trishula.agent.agni.inbox", "trishula.agent.agni.report", "trishula.event.agent", "trishula.x"):
        crossbar.publish(topic)
    assert crossbar.carried == []
    assert len(crossbar.taken) == 9


def test_what_comes_from_elsewhere_is_the_agents_and_no_link_carries_it_on(crossbar: Crossbar) -> None:
    event = Event(cell="n", run="r", number=1, topic=CELSIUS, agent="agni", session=9, args=[1], kwargs={"options": 2})
    crossbar.topics.republish(event)
    ((session, told),) = crossbar.taken
    assert session is crossbar.session
    assert (told.topic, told.args, told.kwargs) == (CELSIUS, [1], {"options": 2})
    assert told.forward_for == [{"session": 9, "authid": "agni", "authrole": AGENT_ROLE}]
    assert told.eligible_authrole == [AGENT_ROLE, OPERATOR_ROLE]
    assert crossbar.carried == []
    crossbar.topics.republish(Event(cell="n", run="r", number=2, topic=CELSIUS, agent="agni", session=9, roles=["z"]))
    assert len(crossbar.taken) == 1


def test_it_listens_for_clients_and_not_for_links(crossbar: Crossbar) -> None:
    def seen(number: int, uri: str, *roles: str) -> None:
        observers = [SimpleNamespace(_authrole=role) for role in roles]
        crossbar.seen[number] = SimpleNamespace(uri=uri, observers=observers)
        crossbar.news["wamp.subscription.on_subscribe"](1, number)

    seen(1, CELSIUS, LINK_ROLE)
    seen(1, CELSIUS, LINK_ROLE, AGENT_ROLE)
    seen(2, "trishula.agent.agni.inbox", AGENT_ROLE)
    del crossbar.seen[1]
    crossbar.news["wamp.subscription.on_unsubscribe"](1, 1)
    assert crossbar.listening == [(1, None), (1, CELSIUS), (2, None), (1, None)]


def test_a_crossbar_of_another_build_is_left_alone() -> None:
    session = SimpleNamespace(_transport=SimpleNamespace(_router=SimpleNamespace(_broker=SimpleNamespace())))
    nothing: Any = SimpleNamespace()
    begun = carry_live_topics(session, nothing, message, (), lambda _: None, lambda *_: False)
    with pytest.raises(StopIteration) as ended:
        begun.send(None)
    assert ended.value.value is False
