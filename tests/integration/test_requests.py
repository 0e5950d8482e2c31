"""Requests that Crossbar answers wrongly, or never, or that leave something behind; on sockets that know no rules."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

PATIENCE_S = 20.0
FORGED = [{"session": 1, "authid": "boss", "authrole": "operator"}]
HELLO, GOODBYE, ERROR, PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED = 1, 6, 8, 16, 17, 32, 33
UNSUBSCRIBE, EVENT, CALL, CANCEL, RESULT, REGISTER, REGISTERED = 34, 36, 48, 49, 50, 64, 65
UNREGISTER, INVOCATION, YIELD = 66, 68, 70


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("requests") / "state") as node:
        for name in ("agni", "dc", "eve"):
            node.token(name)
        node.token("boss", operator=True)
        yield node
        assert "Traceback" not in node.log()


@contextlib.contextmanager
def session(node: NodeProcess, agent: str) -> Iterator[RawClient]:
    with RawClient(node.url) as client:
        client.open()
        roles: dict[str, Any] = {role: {} for role in ("caller", "subscriber", "publisher")}
        roles["callee"] = {"features": {"call_canceling": True, "progressive_call_results": True}}
        client.send([HELLO, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": agent}])
        assert client.receive()[0] == 4
        client.send([5, node.tokens[agent], {}])
        assert client.receive()[0] == 2
        yield client


def hear(client: RawClient, *kinds: int) -> list[Any]:
    """The next message of these kinds."""
    while (message := client.receive())[0] not in kinds:
        pass
    return message


def reason_of_end(client: RawClient) -> str:
    with pytest.raises(ConnectionError):
        while True:
            client.receive()
    return client.close_reason


def register(client: RawClient, uri: str, number: int = 1) -> int:
    client.send([REGISTER, number, {}, uri])
    answer = hear(client, REGISTERED, ERROR)
    assert answer[0] == REGISTERED, answer
    return int(answer[2])


# -- request ids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_whom", ["agni", "eve"])
def test_calls_of_one_request_id_end_their_session_and_leave_nothing_behind(node: NodeProcess, to_whom: str) -> None:
    own, called = uris.procedure_of("eve", "mine"), uris.procedure_of(to_whom, "slow")
    with session(node, "agni") as agni, session(node, "eve") as eve:
        register(agni if to_whom == "agni" else eve, called, 1)
        register(eve, own, 2)
        for _ in range(3):
            eve.send([CALL, 7, {}, called])
        assert "request id 7" in reason_of_end(eve)
    # Its names are free again, for another session of the same agent.
    with session(node, "eve") as eve:
        register(eve, own)
        register(eve, called, 2) if to_whom == "eve" else None
        assert eve.ask(CALL, uris.DIRECTORY_LIST)[0] == RESULT


def test_calls_of_the_nodes_own_procedures_have_an_id_of_their_own_too(node: NodeProcess) -> None:
    with session(node, "eve") as eve:
        for _ in range(3):
            eve.send([CALL, 7, {}, uris.MAILBOX_FETCH, [{"wait_s": 30}]])
        assert "request id 7" in reason_of_end(eve)


def test_an_id_may_be_used_again_when_it_was_answered(node: NodeProcess) -> None:
    with session(node, "eve") as eve:
        for _ in range(3):
            eve.send([CALL, 7, {}, uris.DIRECTORY_LIST])
            assert hear(eve, RESULT, ERROR)[0] == RESULT


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
def test_calls_that_were_cancelled_leave_nothing_behind(node: NodeProcess, mode: str) -> None:
    uri, own = uris.procedure_of("agni", f"slow_{mode}"), uris.procedure_of("eve", f"own_{mode}")
    with session(node, "agni") as agni:
        register(agni, uri)
        with session(node, "eve") as eve:
            register(eve, own)
            for number in range(2, 5):
                eve.send([CALL, number, {}, uri])
                hear(agni, INVOCATION)
                eve.send([CANCEL, number, {"mode": mode}])
                eve.send([CANCEL, number, {"mode": mode}])
            eve.send([CALL, 5, {}, uris.DIRECTORY_LIST])
            hear(eve, RESULT)
        with session(node, "eve") as eve:
            register(eve, own)
        register(agni, uris.procedure_of("agni", f"other_{mode}"), 2)
    with session(node, "agni") as agni:
        register(agni, uri)


def test_requests_of_all_kinds_with_one_id_are_each_answered(node: NodeProcess) -> None:
    with session(node, "eve") as eve:
        topic, uri = uris.topic_of("eve", "news"), uris.procedure_of("eve", "answered")
        eve.send([SUBSCRIBE, 1, {}, topic])
        subscription = hear(eve, SUBSCRIBED)[2]
        eve.send([SUBSCRIBE, 1, {}, topic])
        assert hear(eve, SUBSCRIBED)[2] == subscription
        registration = register(eve, uri)
        eve.send([REGISTER, 1, {}, uri])
        assert hear(eve, ERROR)[4] == "wamp.error.procedure_already_exists"
        for kind, number in ((UNSUBSCRIBE, subscription), (UNREGISTER, registration)):
            eve.send([kind, 1, number])
            assert hear(eve, kind + 1)[1] == 1
            eve.send([kind, 1, number])
            assert hear(eve, ERROR)[1:3] == [kind, 1]


# -- whose names there are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"force_reregister": True}, {"invoke": "roundrobin"}, {"match": "prefix"}])
def test_register_tells_nothing_of_foreign_names(node: NodeProcess, options: dict[str, Any]) -> None:
    there, missing = uris.procedure_of("agni", "there"), uris.procedure_of("agni", "missing")
    with session(node, "agni") as agni, session(node, "eve") as eve:
        register(agni, there)
        told = []
        for number, uri in enumerate((there, missing, uris.MAILBOX_SEND, "trishula.mailbox.nothing"), 1):
            eve.send([REGISTER, number, options, uri])
            answer = hear(eve, ERROR, REGISTERED)
            told.append((answer[4], str(answer[5]).replace(uri, "URI")))
        assert {uri for uri, _ in told} == {"wamp.error.not_authorized"}
        assert len(set(told)) == 1


def test_numbers_of_others_tell_nothing(node: NodeProcess) -> None:
    uri, topic = uris.procedure_of("agni", "numbered"), uris.topic_of("agni", "news")
    with session(node, "agni") as agni, session(node, "eve") as eve:
        registration = register(agni, uri)
        agni.send([SUBSCRIBE, 2, {}, topic])
        subscription = hear(agni, SUBSCRIBED)[2]
        agni.send([CALL, 3, {}, uris.MAILBOX_FETCH, [{"wait_s": 2}]])
        answers = []
        for kind, number in ((UNREGISTER, registration), (UNSUBSCRIBE, subscription)):
            for one in (number, 4711):
                eve.send([kind, 1, one])
                answers.append(hear(eve, ERROR))
        assert answers[0] == answers[1] and answers[2] == answers[3]
        eve.send([CANCEL, 3, {}])
        assert hear(agni, RESULT, ERROR)[0] == RESULT
        # They have what they had.
        with session(node, "dc") as dc:
            dc.send([CALL, 1, {}, uri])
            assert hear(agni, INVOCATION)[2] == registration


@pytest.mark.parametrize(
    ("kind", "rest"), [(UNSUBSCRIBE, [1, {"forward_for": FORGED}]), (UNREGISTER, [1, {"forward_for": FORGED}])]
)
def test_only_links_ask_for_somebody_else(node: NodeProcess, kind: int, rest: list[Any]) -> None:
    with session(node, "eve") as eve:
        eve.send([kind, 1, *rest])
        assert "forward_for" in reason_of_end(eve) or "WAMP Protocol Error" in eve.close_reason
    with session(node, "eve") as eve:
        eve.send([CANCEL, 1, {"forward_for": FORGED}])
        assert "forward_for" in reason_of_end(eve)


# -- retained events ---------------------------------------------------------------------------------------------------

#: The options of a retained event, with the session of dc in place of 0; and whether dc and agni get it.
RETAINED: list[tuple[dict[str, Any], bool, bool]] = [
    ({}, True, True),
    ({"exclude": [0]}, False, True),
    ({"exclude": [1]}, True, True),
    ({"exclude": []}, True, True),
    ({"eligible": [0]}, True, False),
    ({"eligible": [0], "exclude": [0]}, False, False),
    ({"exclude_authid": ["dc"]}, False, True),
    ({"eligible_authid": ["dc"]}, True, False),
    ({"exclude_authrole": ["agent"]}, False, False),
    ({"eligible_authrole": ["operator"]}, False, False),
    ({"eligible_authrole": ["agent"]}, True, True),
]


@pytest.mark.parametrize("case", range(len(RETAINED)))
def test_each_subscribe_is_answered_and_who_may_gets_the_retained_event(node: NodeProcess, case: int) -> None:
    options, *expected = RETAINED[case]
    topic = uris.topic_of("eve", f"kept{case}")
    with RawClient(node.url) as dc, session(node, "agni") as agni, session(node, "eve") as eve:
        dc.open()
        dc.hello("dc")
        dc.receive()
        dc.send([5, node.tokens["dc"], {}])
        number = dc.receive()[1]
        named = {key: [number if one == 0 else one for one in value] for key, value in options.items()}
        eve.send([PUBLISH, 1, {"acknowledge": True, "retain": True, **named}, topic, ["kept"]])
        hear(eve, PUBLISHED)
        for client, gets in zip((dc, agni), expected, strict=True):
            client.send([SUBSCRIBE, 1, {"get_retained": True}, topic])
            assert client.receive()[0] == SUBSCRIBED
            client.send([SUBSCRIBE, 2, {}, uris.EVENT_NODE])
            heard = client.receive()
            assert (heard[0] == EVENT) is gets
            if gets:
                assert heard[3]["retained"] is True
                assert heard[4] == ["kept"]


# -- what can't be written for another ---------------------------------------------------------------------------------


def test_what_cannot_be_written_for_another_is_answered_and_leaves_nothing_behind(node: NodeProcess) -> None:
    import msgpack

    uri, topic = uris.procedure_of("agni", "exact"), uris.topic_of("eve", "odd")
    with RawClient(node.url) as agni, session(node, "eve") as eve, session(node, "dc") as dc:
        agni.open("wamp.2.msgpack")

        def say(message: list[Any]) -> None:
            agni.send_frame(2, bytes(msgpack.packb(message)))

        roles: dict[str, Any] = {role: {} for role in ("caller", "callee", "subscriber", "publisher")}
        say([HELLO, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": "agni"}])
        agni.receive_bytes()
        say([5, node.tokens["agni"], {}])
        agni.receive_bytes()
        say([REGISTER, 1, {}, uri])
        assert msgpack.unpackb(agni.receive_bytes())[0] == REGISTERED
        say([SUBSCRIBE, 2, {}, topic])
        assert msgpack.unpackb(agni.receive_bytes())[0] == SUBSCRIBED
        dc.send([SUBSCRIBE, 1, {}, topic])
        hear(dc, SUBSCRIBED)
        # A lone surrogate is no text in MessagePack, and JSON has a way to write it.
        eve.send([CALL, 1, {}, uri, ["\ud800"]])
        assert hear(eve, ERROR, RESULT)[:3] == [ERROR, CALL, 1]
        eve.send([PUBLISH, 2, {"acknowledge": True}, topic, ["\ud800"]])
        assert hear(eve, PUBLISHED, ERROR)[0] == PUBLISHED
        assert hear(dc, EVENT)[4] == ["\ud800"]
        eve.send([CALL, 3, {}, uri, ["good"]])
        invocation = msgpack.unpackb(agni.receive_bytes())
        assert invocation[0] == INVOCATION and invocation[4] == ["good"]
        say([YIELD, invocation[1], {}, ["done"]])
        assert hear(eve, RESULT)[3] == ["done"]
        say([CALL, 3, {}, uris.DIRECTORY_LIST])
        assert msgpack.unpackb(agni.receive_bytes())[0] == RESULT


def test_nothing_of_all_this_is_left(node: NodeProcess) -> None:
    with session(node, "boss") as boss:
        deadline = time.monotonic() + PATIENCE_S
        while (joined := boss.call(uris.NODE_STATUS)["connections"]["joined"]) > 1:
            assert time.monotonic() < deadline, f"{joined} sessions are left"
            time.sleep(0.1)
