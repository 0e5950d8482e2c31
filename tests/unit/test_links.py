"""The pure parts of the links, and the faults of Crossbar's that they mend: if such a test fails, a fault is gone."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import txaio

txaio.use_twisted()

from autobahn.wamp.exception import ApplicationError, TransportLost  # noqa: E402
from autobahn.wamp.message import Interrupt  # noqa: E402
from autobahn.wamp.types import ComponentConfig  # noqa: E402
from crossbar.router.dealer import Dealer  # noqa: E402
from crossbar.router.observation import UriObservationMap  # noqa: E402
from crossbar.router.session import RouterApplicationSession  # noqa: E402
from crossbar.worker import rlink  # noqa: E402
from twisted.internet.defer import Deferred, fail, succeed  # noqa: E402
from twisted.internet.task import Clock  # noqa: E402

from trishula.contract import uris  # noqa: E402
from trishula_router.realm import travels_as_procedure, travels_as_topic  # noqa: E402
from trishula_router.upstream import link_client  # noqa: E402
from trishula_router.upstream.link_keys import _fault_of as fault_of  # noqa: E402
from trishula_router.upstream.link_names import Names  # noqa: E402

REPORT = uris.procedure_of("agni", "report")
NEWS = uris.topic_of("agni", "news")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "topic", "procedure"),
    [
        (NEWS, True, False),
        (uris.EVENT_AGENT, True, False),
        (f"{uris.PEER_PREFIX}agni.journal", True, False),
        (REPORT, False, True),
        (uris.receipts_of("agni"), False, False),
        (f"{uris.AGENT_PREFIX}agni.inbox.7f", False, False),
        (f"{uris.AGENT_PREFIX}agni.topic", False, False),
        (uris.MAILBOX_SEND, False, False),
        (uris.LINK_NAMES, False, False),
        ("wamp.session.on_join", False, False),
        ("com.example.own", False, False),
    ],
)
def test_what_travels(uri: str, topic: bool, procedure: bool) -> None:
    assert (travels_as_topic(uri), travels_as_procedure(uri)) == (topic, procedure)


class Router:
    """Crossbar's own maps, and sessions that are nothing but a role."""

    def __init__(self) -> None:
        self.topics = UriObservationMap()
        self.procedures = UriObservationMap(ordered=True)
        self.told: list[dict[str, Any]] = []
        self.names = Names(self.topics, self.procedures, self.told.append)

    def subscribe(self, session: object, uri: str, match: str = "exact") -> int:
        found, _, _ = self.topics.add_observer(session, uri, match)
        self.names.subscription_changed(found.id)
        return int(found.id)

    def unsubscribe(self, session: object, number: int) -> None:
        observation = self.topics.get_observation_by_id(number)
        _, last = self.topics.drop_observer(session, observation)
        if last:
            self.topics.delete_observation(observation)
        self.names.subscription_changed(number)


class Session:
    def __init__(self, role: str) -> None:
        self._authrole = role


def test_a_topic_is_told_when_the_first_own_session_comes_and_the_last_one_goes() -> None:
    router, link, one, two = Router(), Session("rlink"), Session("agent"), Session("agent")
    number = router.subscribe(link, NEWS)
    assert router.told == []
    router.subscribe(one, NEWS)
    router.subscribe(two, NEWS)
    assert router.told == [{"at": 1, "topics": {NEWS: True}, "procedures": {}}]
    assert router.names.all() == {"at": 1, "topics": {NEWS: True}, "procedures": {}}
    router.unsubscribe(one, number)
    router.unsubscribe(two, number)
    assert router.told[1:] == [{"at": 2, "topics": {NEWS: False}, "procedures": {}}]
    router.unsubscribe(link, number)
    assert router.names.all() == {"at": 2, "topics": {}, "procedures": {}}
    assert len(router.told) == 2


def test_a_name_that_is_taken_anew_before_the_news_of_its_end_stays() -> None:
    router, one = Router(), Session("agent")
    first = router.subscribe(one, NEWS)
    observation = router.topics.get_observation_by_id(first)
    router.topics.drop_observer(one, observation)
    router.topics.delete_observation(observation)
    second, _, _ = router.topics.add_observer(one, NEWS, "exact")
    router.names.subscription_changed(first)
    router.names.subscription_changed(second.id)
    assert router.names.all()["topics"] == {NEWS: True}
    assert len(router.told) == 1


def test_patterns_and_names_that_do_not_travel_are_not_told() -> None:
    router, one = Router(), Session("node")
    router.subscribe(one, uris.EVENTS_PREFIX, match="prefix")
    router.subscribe(one, uris.receipts_of("agni"))
    assert router.told == []


def test_what_is_there_already_is_known() -> None:
    topics = UriObservationMap()
    topics.add_observer(Session("node"), NEWS, "exact")
    assert Names(topics, UriObservationMap(), lambda change: None).all()["topics"] == {NEWS: True}


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (0.999, 0.2008)])
def test_the_pause_between_attempts_does_not_grow(chance: float, pause_s: float) -> None:
    assert link_client.RETRY.pause_s(0, lambda: chance) == pytest.approx(pause_s)
    assert link_client.RETRY.pause_s(1_000_000, lambda: chance) == pytest.approx(pause_s)


def test_a_link_that_comes_up_step_by_step_is_given_its_time() -> None:
    clock, ended = Clock(), list[float]()
    protocol = SimpleNamespace(transport=SimpleNamespace(abortConnection=lambda: ended.append(clock.seconds())))
    host: Any = SimpleNamespace(
        reactor=SimpleNamespace(callLater=clock.callLater, addSystemEventTrigger=lambda *_: None),
        endpoint=lambda _: SimpleNamespace(connect=lambda factory: succeed(protocol)),
    )
    troubles: list[str] = []
    told: Any = SimpleNamespace(troubled=lambda peer, why: troubles.append(why))
    client = link_client.LinkClient(
        "agni", "realm1", {"endpoint": {}, "url": "ws://127.0.0.1:1"}, host, told, lambda up: None, lambda: 0.5
    )
    client.start()
    for _ in range(10):
        clock.advance(link_client.STEP_WITHIN_S - 1)
        client._step()
    clock.advance(link_client.STEP_WITHIN_S - 1)
    assert ended == []
    clock.advance(1)
    assert ended == [clock.seconds()]
    assert troubles == ["it took the connection, and then left something unanswered for 20 s"]


def test_each_attempt_tells_its_own_cause() -> None:
    clock, causes = Clock(), ["nobody listens", "nobody listens"]
    connects: list[Deferred[Any]] = []

    def connect(_: object) -> Deferred[Any]:
        connects.append(fail(OSError(causes.pop(0))) if causes else succeed(None))
        return connects[-1]

    host: Any = SimpleNamespace(
        reactor=SimpleNamespace(callLater=clock.callLater, addSystemEventTrigger=lambda *_: None),
        endpoint=lambda _: SimpleNamespace(connect=connect),
    )
    troubles: list[str] = []
    told: Any = SimpleNamespace(troubled=lambda peer, why: troubles.append(why), refused=None)
    client = link_client.LinkClient(
        "agni", "realm1", {"endpoint": {}, "url": "ws://127.0.0.1:1"}, host, told, lambda up: None, lambda: 0.5
    )
    client.start()
    clock.pump([1.0, 1.0])
    # The third attempt is let in, and thrown out: that is another cause, which the former one must not hide.
    client.lost("its certificate is over")
    assert troubles == ["nobody listens", "nobody listens", "its certificate is over"]


@pytest.mark.parametrize(
    ("authid", "extra", "begin"),
    [
        (None, None, "a peer says by its public key"),
        (None, {}, "a peer says by its public key"),
        (None, {"pubkey": b"a1" * 32}, "a peer says by its public key"),
        (None, {"pubkey": "a1" * 32, "challenge": "zz"}, "a peer proves its key and nothing else"),
        (None, {"pubkey": "a1" * 32, "certificates": []}, "a peer proves its key and nothing else"),
        (None, {"pubkey": "a1" * 32, "challenge": "AA" * 32}, "a peer proves its key and nothing else"),
        (None, {"pubkey": "a1" * 32, "challenge": b"aa" * 32}, "a peer proves its key and nothing else"),
        (None, {"pubkey": "a1" * 32, "channel_binding": "tls-unique"}, "a peer proves its key and nothing else"),
        (None, {"pubkey": "a1" * 32, "challenge": "aa" * 32, "channel_binding": "x"}, "a peer proves its key and"),
        (None, {"pubkey": "a1" * 32, "challenge": "aa" * 32, "channel_binding": []}, "a peer proves its key and"),
        (None, {"pubkey": "b2" * 32}, "this node doesn't know the key"),
        ("dc", {"pubkey": "a1" * 32}, "this node doesn't know the key by that name"),
    ],
)
def test_who_proves_nothing_is_not_asked_for_a_proof(authid: object, extra: object, begin: str) -> None:
    told = fault_of(authid, extra, {"a1" * 32: "agni"})
    assert told is not None
    assert told.startswith(begin)


def test_a_peer_is_asked_for_its_proof() -> None:
    hello = {"pubkey": "a1" * 32, "trustroot": None, "challenge": None, "channel_binding": None}
    assert fault_of(None, hello, {"a1" * 32: "agni"}) is None
    assert fault_of("agni", hello, {"a1" * 32: "agni"}) is None
    for binding in (None, "tls-unique"):
        asks = {"pubkey": "a1" * 32, "challenge": "aa" * 32, "channel_binding": binding}
        assert fault_of(None, asks, {"a1" * 32: "agni"}) is None


# -- what is at fault upstream -----------------------------------------------------------------------------------------


class Upstream(rlink.BridgeSession):  # type: ignore[misc]
    """A leg as Crossbar makes it, with a router of two answers."""

    IS_REMOTE_LEG = True
    DIR = ""

    def __init__(self, outcome: Deferred[Any] | None = None) -> None:
        super().__init__(ComponentConfig("realm1"))
        self.outcome = outcome
        self.options: Any = None
        self.registered: Any = None

    def subscribe(self, handler: Any, topic: str, options: Any = None) -> Deferred[Any]:
        return succeed(None)

    def register(self, handler: Any, uri: str, options: Any = None) -> Deferred[Any]:
        self.registered = handler
        return succeed(None)

    def call(self, uri: str, *args: Any, options: Any = None, **named: Any) -> Any:
        if uri == "wamp.registration.list":
            return succeed({"exact": [1]})
        if uri == "wamp.registration.get":
            return succeed({"id": 1, "uri": REPORT})
        self.options = options
        return self.outcome


def forward(outcome: Deferred[Any]) -> tuple[Any, Any]:
    """What becomes of a call that Crossbar forwards: its answer, and with which options it was sent on."""
    leg, other = Upstream(outcome), Upstream()
    done: list[Any] = []
    leg._setup_invocation_forwarding(other).addErrback(done.append)
    details = SimpleNamespace(
        caller=7, caller_authid="dc", caller_authrole="agent", forward_for=None, progress=lambda number: None
    )
    other.registered(details=details).addBoth(done.append)
    return done[0], leg.options


@pytest.mark.parametrize("error", [ApplicationError("com.example.broken", 1), TransportLost(), ValueError("no")])
def test_upstream_turns_an_error_into_none(error: Exception) -> None:
    answer, _ = forward(fail(error))
    assert answer is None


def test_upstream_sends_the_role_as_authid_and_asks_for_no_progress() -> None:
    answer, options = forward(succeed("done"))
    assert answer == "done"
    assert options.forward_for == [{"session": 7, "authid": "agent", "authrole": "agent"}]
    assert options.on_progress is None


def test_upstream_can_not_interrupt_an_embedded_session() -> None:
    embedded = object.__new__(RouterApplicationSession)
    with pytest.raises(Exception, match="unhandled message"):
        embedded.send(Interrupt(1))


def test_upstream_can_not_take_a_callee_off_a_registration() -> None:
    registrations, callee = UriObservationMap(ordered=True), Session("rlink")
    registration, _, _ = registrations.add_observer(callee, REPORT, "exact")
    dealer = SimpleNamespace(
        _registration_map=registrations,
        _session_to_registrations={callee: {registration}},
        _router=SimpleNamespace(_realm=SimpleNamespace(session=object())),
    )
    with pytest.raises(AttributeError, match="forward_for"):
        Dealer._unregister(dealer, registration, callee)


def test_upstream_waits_longer_after_each_attempt_and_lets_nobody_set_pings_and_sizes() -> None:
    source = inspect.getsource(rlink.RLinkManager.start_link)
    assert 'ApplicationRunner(url=link_config.transport["url"], realm=remote_realm, extra=remote_extra)' in source
    assert 'local_authrole = "trusted"' in source


def test_upstream_still_has_what_we_reach_into() -> None:
    assert list(inspect.signature(rlink.RLinkManager.start_link).parameters)[1:] == ["link_id", "link_config", "caller"]
    assert {"realm", "controller"} <= set(vars(rlink.RLinkManager))
