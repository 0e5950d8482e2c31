"""What a node's router answers to a call, as the client's own errors: above all, which of them a repeat can help."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import Call
from autobahn.wamp.serializer import MsgPackSerializer
from autobahn.websocket.protocol import WebSocketProtocol
from OpenSSL import SSL

from trishula.contract import uris
from trishula.errors import (
    BusUnreachable,
    CallFailed,
    NodeBusy,
    NodeStopping,
    NotAllowed,
    ProcedureUnknown,
    RecipientUnknown,
)
from trishula.session import trust
from trishula.session.wamp_errors import error_of_answer, error_of_leaving
from trishula.session.web_socket import WebSocket

RPC = uris.procedure_of("agni", "host_report")


@pytest.mark.parametrize(
    ("uri", "wamp_error", "kind"),
    [
        # A node that stops in order takes its procedures back before it closes its sessions.
        (uris.MAILBOX_SEND, ApplicationError.NO_SUCH_PROCEDURE, NodeStopping),
        (uris.MAILBOX_ATTACH, ApplicationError.CANCELED, NodeStopping),
        (uris.MAILBOX_SEND, ApplicationError.AUTHORIZATION_FAILED, NodeStopping),
        (uris.MAILBOX_SEND, ApplicationError.NOT_AUTHORIZED, NotAllowed),
        (uris.MAILBOX_SEND, RecipientUnknown.uri, RecipientUnknown),
        (RPC, ApplicationError.NO_SUCH_PROCEDURE, ProcedureUnknown),
        (RPC, ApplicationError.CANCELED, CallFailed),
        (RPC, ApplicationError.NOT_AUTHORIZED, NotAllowed),
    ],
)
def test_the_routers_errors(uri: str, wamp_error: str, kind: type[Exception]) -> None:
    error = error_of_answer(uri, ApplicationError(wamp_error, "a sentence"))
    assert type(error) is kind
    assert error.temporary == (kind is NodeStopping)


@pytest.mark.parametrize("uri", [uris.AUDIT_QUERY, uris.NODE_STATUS, uris.ADMIN_DEAD_LIST, RPC, uris.MAILBOX_SEND])
def test_a_refusal_is_not_in_the_routers_words(uri: str) -> None:
    said = 'session (session_id=8, authid="dc", authrole="agent") is not authorized to call procedure'
    sentence = str(error_of_answer(uri, ApplicationError(ApplicationError.NOT_AUTHORIZED, said)))
    assert uri in sentence
    assert "session" not in sentence
    assert ("needs an operator's token" in sentence) == (uri not in (RPC, uris.MAILBOX_SEND))


def test_what_is_sent_while_the_connection_closes_is_lost() -> None:
    protocol = WebSocket()
    protocol._session = ApplicationSession()
    protocol._serializer = MsgPackSerializer()
    protocol.state = WebSocketProtocol.STATE_CLOSING
    with pytest.raises(TransportLost):
        protocol.send(Call(1, uris.MAILBOX_ACK))


def test_a_busy_node_says_in_its_abort_when_our_turn_is() -> None:
    error = error_of_leaving("ws://one/ws", NodeBusy.uri, "64 clients join this node just now; try again in 1.5 s")
    assert (type(error), error.retry_after_s) == (NodeBusy, 1.5)
    other = error_of_leaving("ws://one/ws", "wamp.close.normal", "good-bye; try again in 1.5 s")
    assert type(other) is BusUnreachable


@pytest.mark.parametrize(
    ("code", "ca_file", "said"),
    [
        (10, None, "its certificate has ended, and the node needs a new one, or the clock of this machine is wrong"),
        (9, None, "its certificate is not valid yet: is the clock of this machine right?"),
        (20, Path("/etc/ca.crt"), "its certificate is of another authority than those in ca_file /etc/ca.crt"),
        (7, Path("/etc/ca.crt"), "its certificate is of another authority than those in ca_file /etc/ca.crt"),
        (
            18,
            None,
            "its certificate is of an authority that this system doesn't know; if it is your own, name the file ",
        ),
        (0, None, None),
        (26, None, None),
    ],
)
def test_why_a_certificate_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, code: int, ca_file: Path | None, said: str | None
) -> None:
    handle = SimpleNamespace(_ssl="the connection")
    monkeypatch.setattr(SSL, "_lib", SimpleNamespace(SSL_get_verify_result={"the connection": code}.get))
    found = trust.why_not_trusted(handle, ca_file)
    assert found == said if said is None else (found or "").startswith(said)


def test_who_has_no_reason_says_none() -> None:
    # Another pyOpenSSL may keep it elsewhere.
    assert trust.why_not_trusted(object(), None) is None
