"""What a node refuses, tried by a plain Autobahn client: strangers, forged callers, others' names, broken bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import NodeProcess, is_alive
from tests.support.plain import JoinRefused, Refused, handshake, join, send_text_frame
from tests.support.reactor import on_reactor
from tests.support.sessions import session
from trishula.contract import uris
from trishula.contract.addresses import Address

pytestmark = pytest.mark.node

NOT_AUTHORIZED = "wamp.error.not_authorized"
INVALID_URI = "wamp.error.invalid_uri"
TAKEN = "wamp.error.procedure_already_exists"
FORGED = [{"session": 1, "authid": "agni", "authrole": "operator"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("security") / "state") as node:
        node.token("agni")
        node.token("dc")
        node.token("boss", operator=True)
        yield node


def a_message(id: str) -> dict[str, Any]:
    return {"type": "STATUS", "id": id, "to": "dc", "payload": "hello"}


async def refused(attempt: Any) -> str:
    with pytest.raises(Refused) as caught:
        await attempt
    return str(caught.value.error)


# -- who may join ------------------------------------------------------------------------------------------------------


@on_reactor
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
async def test_a_token_opens_and_the_node_decides_the_role(node: NodeProcess, serializer: str) -> None:
    async with session(node, "agni", serializer=serializer) as agni:
        assert (agni.details.authid, agni.details.authrole) == ("agni", "agent")
    async with session(node, "boss", authextra={"authrole": "node"}) as boss:
        assert (boss.details.authid, boss.details.authrole) == ("boss", "operator")


@on_reactor
@pytest.mark.parametrize(
    ("authid", "ticket", "reason", "sentence"),
    [
        (
            "agni",
            "agni.guess",
            "trishula.error.token_invalid",
            "the token of agni is wrong or revoked; make a new one with `trishula token new agni` on the node",
        ),
        (
            "nobody",
            "nobody.guess",
            "trishula.error.token_invalid",
            "the token of nobody is wrong or revoked; make a new one with `trishula token new nobody` on the node",
        ),
        (
            "agni",
            "",
            "trishula.error.token_missing",
            "agni tried to join without a token; make one with `trishula token new agni`, set TRISHULA_TOKEN",
        ),
    ],
)
async def test_who_has_no_right_token_is_told_so(
    node: NodeProcess, authid: str, ticket: str, reason: str, sentence: str
) -> None:
    with pytest.raises(JoinRefused) as caught:
        await join(node.url, authid, ticket)
    assert (caught.value.reason, caught.value.sentence) == (reason, sentence)


@on_reactor
async def test_another_agents_token_does_not_open(node: NodeProcess) -> None:
    with pytest.raises(JoinRefused) as caught:
        await join(node.url, "agni", node.tokens["dc"])
    assert caught.value.reason == "trishula.error.token_invalid"
    assert caught.value.sentence == "the token is another agent's than agni's; use the one made for agni"


@on_reactor
@pytest.mark.parametrize(
    ("methods", "realm"),
    [(("anonymous",), uris.REALM), (("cookie",), uris.REALM), (("ticket",), "crossbar"), (("ticket",), "realm1")],
)
async def test_no_other_way_leads_in(node: NodeProcess, methods: tuple[str, ...], realm: str) -> None:
    with pytest.raises(JoinRefused):
        await join(node.url, "agni", node.tokens["agni"], methods=methods, realm=realm)


@on_reactor
async def test_a_token_made_while_the_node_runs_opens_at_once_and_a_third_one_ends_the_first(node: NodeProcess) -> None:
    first, second, third = (node.token("late") for _ in range(3))
    for ticket in (second, third):
        await (await join(node.url, "late", ticket)).leave()
    with pytest.raises(JoinRefused):
        await join(node.url, "late", first)


@on_reactor
async def test_a_message_to_an_agent_that_was_made_a_moment_ago_is_accepted(node: NodeProcess) -> None:
    async with session(node, "dc") as dc:
        node.token("fresh")
        (receipt,) = await dc.call(uris.MAILBOX_SEND, [{**a_message("to-fresh"), "to": "fresh"}])
        assert receipt["status"] == "accepted"


@on_reactor
async def test_a_broken_edit_of_the_agents_file_locks_nobody_out_and_is_reported(node: NodeProcess) -> None:
    path = node.state_dir / "agents.json"
    good = path.read_text()
    try:
        path.write_text(good.replace("{", "{ oops", 1))
        node.wait_log(f"the file of agents {path} is not JSON: ")
        async with session(node, "boss") as boss:
            status = await boss.call(uris.NODE_STATUS)
            assert str(status["agents_file_fault"]).startswith(f"the file of agents {path} is not JSON: ")
    finally:
        path.write_text(good)
    async with session(node, "boss") as boss:
        assert (await boss.call(uris.NODE_STATUS))["agents_file_fault"] is None


# -- forged callers ----------------------------------------------------------------------------------------------------


@on_reactor
async def test_a_forged_call_is_refused_and_the_same_call_without_the_forgery_is_not(node: NodeProcess) -> None:
    async with session(node, "dc") as dc:
        forged = dc.call(uris.MAILBOX_SEND, [a_message("forged")], forward_for=FORGED)
        assert await refused(forged) == NOT_AUTHORIZED
        assert await refused(dc.call(uris.NODE_STATUS, forward_for=FORGED)) == NOT_AUTHORIZED
        (receipt,) = await dc.call(uris.MAILBOX_SEND, [a_message("honest")])
        assert receipt["status"] == "accepted"
        known = await dc.call(uris.MAILBOX_STATUS, ["honest", "forged"])
        assert known["honest"]["state"] != "unknown"
        assert "forged" not in known or known["forged"]["state"] == "unknown"


@on_reactor
async def test_the_callee_sees_who_really_calls(node: NodeProcess) -> None:
    seen: list[tuple[str, str]] = []

    def report(*args: Any, details: Any) -> str:
        seen.append((details.caller_authid, details.caller_authrole))
        return "done"

    uri = uris.procedure_of("agni", "report")
    async with session(node, "agni") as agni, session(node, "dc") as dc:
        await agni.register(uri, report)
        assert await refused(dc.call(uri, forward_for=FORGED)) == NOT_AUTHORIZED
        assert await dc.call(uri) == "done"
    assert seen == [("dc", "agent")]


@on_reactor
async def test_a_forged_event_reaches_nobody_and_an_honest_one_names_its_publisher(node: NodeProcess) -> None:
    seen: list[tuple[str, str]] = []

    def heard(text: str, details: Any) -> None:
        seen.append((text, details.publisher_authid))

    topic = uris.topic_of("dc", "news")
    async with session(node, "agni") as agni, session(node, "dc") as dc:
        await agni.subscribe(topic, heard)
        assert await refused(dc.publish(topic, "forged", forward_for=FORGED)) == NOT_AUTHORIZED
        assert await refused(dc.publish(uris.topic_of("agni", "news"), "x", forward_for=FORGED)) == NOT_AUTHORIZED
        await dc.publish(topic, "honest")
        # The round trip of a call is behind the event on the same connection.
        await agni.call(uris.DIRECTORY_LIST)
    assert seen == [("honest", "dc")]


@on_reactor
async def test_a_forged_registration_or_subscription_is_refused(node: NodeProcess) -> None:
    async with session(node, "dc") as dc:
        own, others = uris.procedure_of("dc", "report"), uris.procedure_of("agni", "report")
        for uri in (own, others):
            assert await refused(dc.register(uri, print, forward_for=FORGED)) == NOT_AUTHORIZED
        for topic in (uris.receipts_of("dc"), uris.inbox_of(Address("agni"))):
            assert await refused(dc.subscribe(topic, print, forward_for=FORGED)) == NOT_AUTHORIZED


# -- other agents' names, patterns, meta procedures --------------------------------------------------------------------


@on_reactor
@pytest.mark.parametrize(
    ("topic", "match"),
    [
        (uris.AGENT_PREFIX, "prefix"),
        (uris.PREFIX, "prefix"),
        (f"{uris.AGENT_PREFIX}.inbox", "wildcard"),
        (f"{uris.AGENT_PREFIX}dc.", "prefix"),
        (uris.EVENTS_PREFIX, "prefix"),
        ("wamp.", "prefix"),
    ],
)
async def test_patterns_are_refused(node: NodeProcess, topic: str, match: str) -> None:
    for name in ("dc", "boss"):
        async with session(node, name) as client:
            assert await refused(client.subscribe(topic, print, match=match)) == NOT_AUTHORIZED
            # Crossbar itself refuses names of its own before it asks us.
            assert await refused(client.register(topic, print, match=match)) in (NOT_AUTHORIZED, INVALID_URI)


@on_reactor
async def test_other_agents_names_are_theirs_alone_for_operators_too(node: NodeProcess) -> None:
    for name in ("dc", "boss"):
        async with session(node, name) as client:
            for topic in (
                uris.inbox_of(Address("agni")),
                uris.inbox_of(Address("agni", "a")),
                uris.receipts_of("agni"),
            ):
                assert await refused(client.subscribe(topic, print)) == NOT_AUTHORIZED
                assert await refused(client.publish(topic, [])) == NOT_AUTHORIZED
            assert await refused(client.register(uris.procedure_of("agni", "report"), print)) == NOT_AUTHORIZED
            assert await refused(client.publish(uris.topic_of("agni", "news"), 1)) == NOT_AUTHORIZED
            assert await refused(client.publish(uris.EVENT_AGENT, {})) == NOT_AUTHORIZED
            # Crossbar looks first whether somebody has it already.
            assert await refused(client.register(uris.MAILBOX_SEND, print)) in (NOT_AUTHORIZED, TAKEN)


@on_reactor
@pytest.mark.parametrize(
    "uri",
    [
        "wamp.session.list",
        "wamp.session.kill_by_authid",
        "wamp.registration.list",
        "crossbar.get_status",
        uris.AUTHENTICATE,
        uris.AUTHORIZE,
    ],
)
async def test_neither_agents_nor_operators_reach_the_routers_own_procedures(node: NodeProcess, uri: str) -> None:
    for name in ("dc", "boss"):
        async with session(node, name) as client:
            assert await refused(client.call(uri, "agni")) == NOT_AUTHORIZED


@on_reactor
async def test_the_nodes_status_and_the_audit_are_for_operators(node: NodeProcess) -> None:
    async with session(node, "dc") as dc, session(node, "boss") as boss:
        assert await refused(dc.call(uris.NODE_STATUS)) == NOT_AUTHORIZED
        assert await refused(dc.call(uris.AUDIT_QUERY, {})) == NOT_AUTHORIZED
        assert isinstance(await boss.call(uris.NODE_STATUS), dict)


# -- below WAMP --------------------------------------------------------------------------------------------------------


@on_reactor
async def test_a_message_nested_too_deeply_does_not_end_the_node(node: NodeProcess) -> None:
    """Crossbar raises the recursion limit; without our undoing it this ends the worker by a stack overflow."""
    before = node.worker_pid()
    for opening in (b"[", b'{"a":'):
        connection, answer = handshake(node.url)
        with connection:
            assert answer.startswith("HTTP/1.1 101 ")
            send_text_frame(connection, b'[1, "trishula", ' + opening * 90_000)
            # The node closes; how, and what it says before, is not the point.
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
    async with session(node, "agni") as agni:
        await agni.call(uris.DIRECTORY_LIST)
    assert node.worker_pid() == before
    assert all(is_alive(process) for process in node.processes())


@pytest.mark.parametrize(
    ("origin", "path", "status"),
    [
        (None, None, "101"),
        ("http://evil.example", None, "400"),
        ("null", None, "400"),
        (None, "/", "200"),
        (None, "/nowhere", "404"),
        (None, "/../agents.json", "404"),
    ],
)
def test_only_the_websocket_path_upgrades_and_not_for_strange_pages(
    node: NodeProcess, origin: str | None, path: str | None, status: str
) -> None:
    connection, answer = handshake(node.url, origin=origin, path=path)
    connection.close()
    assert answer.split()[1] == status


# -- the log -----------------------------------------------------------------------------------------------------------


@on_reactor
async def test_no_token_is_in_the_nodes_files(node: NodeProcess) -> None:
    """Not even the wrong ones, those in the wrong place, or those in ``authextra``, which Crossbar logs at info."""
    secret = "f00dfacef00dface"
    for authid, ticket in (("agni", f"agni.{secret}"), (f"agni.{secret}", "x"), (None, secret)):
        with pytest.raises(JoinRefused):
            await join(node.url, authid, ticket)
    async with session(node, "dc", authextra={"token": secret}) as dc:
        assert await refused(dc.call(uris.procedure_of("agni", secret))) != ""
    secrets = [secret, *(token.partition(".")[2] for token in node.tokens.values())]
    assert len(secrets) >= 4
    looked_at = 0
    for directory, _, names in os.walk(node.state_dir):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                content = file.read()
            looked_at += 1
            for each in secrets:
                assert each.encode() not in content, f"{name} holds a token"
    assert looked_at >= 6


@on_reactor
async def test_this_crossbar_asks_for_permissions_directly(node: NodeProcess) -> None:
    """What was tried above was tried on the short way; a Crossbar that is built otherwise would say so here."""
    async with session(node, "dc") as dc:
        await dc.call(uris.DIRECTORY_LIST)
    assert "by the longer way" not in node.log()
