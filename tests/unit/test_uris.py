"""The wire contract's URIs: fixed, because clients in other languages spell them out."""

from __future__ import annotations

import re

import pytest

from trishula.contract import uris
from trishula.contract.addresses import Address

CONTRACT = {
    "MAILBOX_SEND": "trishula.mailbox.send",
    "MAILBOX_ATTACH": "trishula.mailbox.attach",
    "MAILBOX_ACK": "trishula.mailbox.ack",
    "MAILBOX_NACK": "trishula.mailbox.nack",
    "MAILBOX_WORKING": "trishula.mailbox.working",
    "MAILBOX_FETCH": "trishula.mailbox.fetch",
    "MAILBOX_STATUS": "trishula.mailbox.status",
    "MAILBOX_CANCEL": "trishula.mailbox.cancel",
    "DIRECTORY_LIST": "trishula.directory.list",
    "DIRECTORY_GET": "trishula.directory.get",
    "DIRECTORY_FIND": "trishula.directory.find",
    "DIRECTORY_BEAT": "trishula.directory.beat",
    "EVENT_AGENT": "trishula.event.agent",
    "EVENT_NODE": "trishula.event.node",
    "EVENT_FALLBACK": "trishula.event.fallback",
    "AUDIT_QUERY": "trishula.audit.query",
    "AUDIT_WHY": "trishula.audit.why",
    "AUDIT_VERIFY": "trishula.audit.verify",
    "NODE_STATUS": "trishula.node.status",
    "NODE_READY": "trishula.node.ready",
    "NODE_FALLBACK": "trishula.node.fallback",
    "ADMIN_FALLBACK": "trishula.admin.fallback",
}


@pytest.mark.parametrize(("name", "uri"), CONTRACT.items())
def test_the_contract(name: str, uri: str) -> None:
    assert getattr(uris, name) == uri


def test_realm_port_and_path() -> None:
    assert (uris.REALM, uris.DEFAULT_PORT, uris.WEBSOCKET_PATH) == ("trishula", 8765, "ws")


def test_every_uri_lies_below_the_prefix_and_none_is_there_twice() -> None:
    found = [
        value for name, value in vars(uris).items() if name.isupper() and not name.startswith("_") and "." in str(value)
    ]
    assert len(found) == len(set(found))
    assert [uri for uri in found if not re.fullmatch(r"trishula\.([a-z_]+\.)*([a-z_]+)?", uri)] == []


def test_inbox() -> None:
    assert uris.inbox_of(Address("agni")) == "trishula.agent.agni.inbox"
    assert uris.inbox_of(Address("agni", "7f3a")) == "trishula.agent.agni.inbox.7f3a"


def test_receipts_and_topics() -> None:
    assert uris.receipts_of("agni") == "trishula.agent.agni.receipts"
    assert uris.topic_of("agni", "load") == "trishula.agent.agni.topic.load"


def test_procedure() -> None:
    assert uris.procedure_of("agni", "host_report") == "trishula.agent.agni.host_report"
    assert uris.procedure_of("agni", "disk.usage") == "trishula.agent.agni.disk.usage"


@pytest.mark.parametrize("name", ["inbox", "receipts", "topic", "inbox.7f3a", "topic.load"])
def test_a_procedure_never_falls_on_a_topic(name: str) -> None:
    sentence = f"a procedure can't be named '{name}': that is the name of one of the agent's topics"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        uris.procedure_of("agni", name)


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("trishula.agent.agni.inbox", uris.AgentUri("agni", "inbox", "")),
        ("trishula.agent.agni.inbox.7f3a", uris.AgentUri("agni", "inbox", "7f3a")),
        ("trishula.agent.agni.receipts", uris.AgentUri("agni", "receipts", "")),
        ("trishula.agent.agni.topic.load", uris.AgentUri("agni", "topic", "load")),
        ("trishula.agent.agni.topic.load.cpu", uris.AgentUri("agni", "topic", "load.cpu")),
        ("trishula.agent.agni.host_report", uris.AgentUri("agni", "procedure", "host_report")),
        ("trishula.agent.agni.inboxes", uris.AgentUri("agni", "procedure", "inboxes")),
        ("trishula.agent.agni.disk.inbox", uris.AgentUri("agni", "procedure", "disk.inbox")),
        ("trishula.agent.agni", None),
        ("trishula.agent.agni.", None),
        ("trishula.agent..inbox", None),
        ("trishula.agent.", None),
        ("trishula.agents.agni.inbox", None),
        ("trishula.mailbox.send", None),
        ("", None),
    ],
)
def test_uris_of_an_agent(uri: str, parsed: uris.AgentUri | None) -> None:
    assert uris.parse_agent_uri(uri) == parsed


@pytest.mark.parametrize(
    ("topic", "of", "uri"),
    [
        ("load", None, "trishula.agent.dc.topic.load"),
        ("load", "agni", "trishula.agent.agni.topic.load"),
        ("load.cpu", "agni", "trishula.agent.agni.topic.load.cpu"),
        (uris.EVENT_AGENT, None, uris.EVENT_AGENT),
        (uris.topic_of("agni", "load"), None, uris.topic_of("agni", "load")),
    ],
)
def test_a_topic_as_programs_name_it(topic: str, of: str | None, uri: str) -> None:
    assert uris.topic_named(topic, of, "dc") == uri


@pytest.mark.parametrize(
    ("topic", "of", "sentence"),
    [
        (uris.EVENT_AGENT, "agni", 'leave out of="agni"'),
        ("", None, "can't be a topic's name"),
        ("two words", "agni", "can't be a topic's name"),
        ("load.", None, "can't be a topic's name"),
        ("load", "agni/7f3a", "can't have a topic"),
    ],
)
def test_no_topic(topic: str, of: str | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        uris.topic_named(topic, of, "dc")
