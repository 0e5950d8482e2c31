"""Permission: what Crossbar's dynamic authorizer asks us for each call, registration, publication and subscription.

What is not allowed by a line below is denied. Policy lives in :meth:`Authorizer.decide`; no I/O.

==============================================  ==========  ==============================================
URI                                             action      who
==============================================  ==========  ==============================================
``mailbox.*``, ``directory.*``, ``lease.*``,    call        every agent (the services look at whose message, lease
``attachment.*``, ``audit.why``                             or attachment)
other ``audit.*``, ``node.*``, ``admin.*``      call        operators
``agent.<a>.<procedure>``                       register    ``<a>``
``agent.<a>.<procedure>``                       call        ``<a>``, and whom its grants let
``agent.<a>.inbox[.<instance>]``, ``receipts``  subscribe   ``<a>``
``agent.<a>.topic.<name>``                      publish     ``<a>``
``agent.<a>.topic.<name>``                      subscribe   ``<a>``, and whom its grants let
``event.agent``, ``event.node``, ``…fallback``  subscribe   every agent
``agent.<a>.<procedure>``                       register    links whose peer vouches for ``<a>``
``agent.<a>.<procedure>``                       call        links, for a caller for whom their peer vouches, and whose
                                                            grants here let it
``agent.<a>.topic.<name>``, ``event.*``         subscribe   links
``agent.<a>.topic.<name>``                      publish     links, for ``<a>``, if their peer vouches for it
``event.*``                                     publish     links, for their node
``peer.<node>.*``                               subscribe   the link of ``<node>``
``peer.<node>.*``                               publish     the links of others, for their node
``internal.link.names``                         call        links
``internal.link.changed``                       subscribe   links
==============================================  ==========  ==============================================

An *observer* is an agent that looks and sees no payloads. It may call what :data:`OBSERVERS_ASK` names and hear the
events, and nothing else of the table: no mailbox, no agent and no topic is for it. Who is an operator as well is no
observer.

Three refusals come before the table:

- A name of more than 512 characters: the router keeps the names that it knows.

- ``forward_for`` among the options. With it a client makes Crossbar show the callee or subscriber another session,
  authid and role than its own; Crossbar checks nothing. It belongs to the links between routers alone: sessions in the
  role ``rlink``, whom the node's own key or their place inside of the router got that role.
- ``match`` other than exact. The permission of a prefix or a wildcard would be the permission of all that it matches.

For whom a peer vouches is said by :meth:`.presence_exchange.Neighbourhood.against`: for agents of this node's own file
that are at its side. What a peer says of an agent's role counts for nothing.

The answer is never cached: Crossbar's cache knows neither the options nor the authid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trishula import errors
from trishula.contract import uris
from trishula.contract.addresses import is_instance_name
from trishula_router.agents.principals import Principal, Principals
from trishula_router.agents.procedure_names import is_procedure_name, is_topic_name
from trishula_router.realm import AGENT_ROLE, LINK_ROLE, OPERATOR_ROLE, travels_as_procedure, travels_as_topic

__all__ = ["ACTIONS", "OBSERVERS_ASK", "Authorizer", "Denial"]

ACTIONS = ("call", "register", "publish", "subscribe")

_NODE_SERVES_AGENTS = frozenset(
    {
        uris.MAILBOX_SEND,
        uris.MAILBOX_ATTACH,
        uris.MAILBOX_ACK,
        uris.MAILBOX_NACK,
        uris.MAILBOX_WORKING,
        uris.MAILBOX_SURFACED,
        uris.MAILBOX_FETCH,
        uris.MAILBOX_PEEK,
        uris.MAILBOX_THREAD,
        uris.MAILBOX_SEARCH,
        uris.MAILBOX_STATUS,
        uris.MAILBOX_ANSWER,
        uris.MAILBOX_CANCEL,
        uris.MAILBOX_CANARY,
        # Whose attachment, and who may fetch it, the service itself looks at.
        uris.ATTACHMENT_BEGIN,
        uris.ATTACHMENT_PUT,
        uris.ATTACHMENT_GET,
        uris.ATTACHMENT_OF,
        uris.DIRECTORY_LIST,
        uris.DIRECTORY_GET,
        uris.DIRECTORY_FIND,
        uris.DIRECTORY_BEAT,
        uris.DIRECTORY_TURN,
        uris.LEASE_CLAIM,
        uris.LEASE_RENEW,
        uris.LEASE_RELEASE,
        uris.LEASE_LIST,
        # Of a message that the caller neither sent nor received, the service itself says nothing.
        uris.AUDIT_WHY,
    }
)
_NODE_SERVES_OPERATORS = (uris.AUDIT_PREFIX, uris.NODE_PREFIX, uris.ADMIN_PREFIX)
#: What observers may ask: who is there, and how all stands, in figures, states and times. Nothing of this has a payload
#: in it, or changes anything but what is known of the observer's own clock.
OBSERVERS_ASK = frozenset(
    {
        uris.DIRECTORY_LIST,
        uris.DIRECTORY_GET,
        uris.DIRECTORY_FIND,
        uris.DIRECTORY_BEAT,
        uris.LEASE_LIST,
        uris.AUDIT_QUERY,
        uris.AUDIT_WHY,
        uris.NODE_STATUS,
        uris.NODE_MAILBOXES,
        uris.NODE_READY,
        uris.NODE_OBJECTIVES,
        uris.NODE_FALLBACK,
        uris.ADMIN_DEAD_LIST,
    }
)
_PUBLIC_EVENTS = frozenset({uris.EVENT_AGENT, uris.EVENT_NODE, uris.EVENT_FALLBACK})

#: The longest names of ours have 150; a procedure's or a topic's own part is up to its agent.
_URI_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Denial:
    """What was refused, fit for a log and for the audit: names and reasons, no payloads, no secrets.

    Attributes:
        authid: whose session asked.
        action: ``call``, ``register``, ``publish`` or ``subscribe``.
        uri: on what.
        reason: why not.
        error: the class that describes it on the wire.
    """

    authid: str
    action: str
    uri: str
    reason: str
    error: type[errors.TrishulaError]

    @property
    def detail(self) -> str:
        """All of it but who, in one line."""
        # A client can put a lone surrogate into a URI, and the journal is UTF-8.
        uri = self.uri[:200].encode("utf-8", "backslashreplace").decode()
        return f"{self.action} {uri}: {self.reason}"


class Authorizer:
    """Decides what a session of an agent, an operator or a link may do.

    Args:
        principals: who there is, with what grants.
        on_denied: told about each refusal; it must not raise.
        against_peer: (peer, agent) → why that peer can't vouch for that agent; ``None`` if it can.
    """

    def __init__(
        self,
        principals: Principals,
        on_denied: Callable[[Denial], None] | None = None,
        against_peer: Callable[[str, str], str | None] = lambda peer, agent: None,
    ) -> None:
        self._principals = principals
        self._on_denied = on_denied
        self._against_peer = against_peer

    def authorize(
        self, session: Mapping[str, object], uri: object, action: object, options: Mapping[str, object] | None
    ) -> dict[str, bool]:
        """Crossbar's answer to its question. Never raises: what can't be understood is denied."""
        denial = self.decide(session, uri, action, options or {})
        if denial is not None and self._on_denied is not None:
            self._on_denied(denial)
        # disclose: a callee and a subscriber always learn who it was; a bus without that has no senders.
        return {"allow": denial is None, "disclose": True, "cache": False}

    def decide(
        self, session: Mapping[str, object], uri: object, action: object, options: Mapping[str, object]
    ) -> Denial | None:
        """Whether the session may; ``None`` if so, else why not."""
        authid, role = session.get("authid"), session.get("authrole")
        asked = (str(authid), str(action), str(uri))
        if isinstance(uri, str) and len(uri) > _URI_LENGTH:
            # Crossbar keeps each that is registered or subscribed to, and it can be as long as a message.
            return Denial(*asked, f"its name is longer than {_URI_LENGTH} characters", errors.NotAllowed)
        if role == LINK_ROLE:
            against = _against_link(authid, uri, action, options) or self._against_agent_of(
                authid, uri, action, options
            )
            return None if against is None else Denial(*asked, against, errors.NotAllowed)
        if options.get("forward_for") is not None:
            reason = "it claims to be forwarded for somebody (forward_for), and only links between routers forward"
            return Denial(*asked, reason, errors.ForwardingForbidden)
        against = self._reason_against(authid, role, uri, action, options)
        return None if against is None else Denial(*asked, against, errors.NotAllowed)

    def _reason_against(
        self, authid: object, role: object, uri: object, action: object, options: Mapping[str, object]
    ) -> str | None:
        if not isinstance(authid, str) or not isinstance(uri, str) or action not in ACTIONS:
            return "the question is not one that a session of an agent can ask"
        if role not in (AGENT_ROLE, OPERATOR_ROLE):
            return f"the role {role} has no rights here"
        if options.get("match") not in (None, "exact"):
            return f"only exact names are allowed, no {options.get('match')} patterns"
        principal = self._principals.get(authid)
        if principal is None:
            # Its token was taken away together with its entry, while its session lived.
            return f"{authid} is no registered agent any more"
        if principal.only_looks:
            return _against_observer(principal, uri, str(action))
        own = uris.parse_agent_uri(uri)
        if own is not None:
            return _against_agent_uri(principal, own, str(action))
        if action == "call":
            return _against_call_to_node(principal, role == OPERATOR_ROLE, uri)
        if action == "subscribe" and uri in _PUBLIC_EVENTS:
            return None
        return f"an agent may {action} nothing outside of its own names, and this is not one of them"

    def _against_agent_of(self, peer: object, uri: object, action: object, options: Mapping[str, object]) -> str | None:
        """Why a link that may do such things may not do this one for the agent that it is about."""
        at = uris.parse_agent_uri(str(uri))
        if at is None or action == "subscribe":
            return None
        agent = at.agent if action == "register" else _forwarded_authid(options)
        principal = None if agent is None else self._principals.get(agent)
        if agent is None or principal is None:
            return f"a link may {action} only for agents of this node's own file, and {agent} is none"
        if principal.only_looks:
            # By this node's file; that of the node that it is joined to may not say so yet.
            return _against_observer(principal, str(uri), str(action))
        if action == "publish" and agent != at.agent:
            return f"only {at.agent} publishes there, and the link speaks for {agent}"
        if action == "call" and not principal.may_call(at.agent, at.rest):
            return f"the grants of {agent} at this node don't cover {at.agent}.{at.rest}"
        return self._against_peer(str(peer), agent)


def _forwarded_authid(options: Mapping[str, object]) -> str | None:
    """For whom a link says that it forwards."""
    forwarded = options.get("forward_for")
    first = forwarded[0] if isinstance(forwarded, list) and len(forwarded) == 1 else None
    authid = first.get("authid") if isinstance(first, Mapping) else None
    return authid if isinstance(authid, str) else None


def _against_link(peer: object, uri: object, action: object, options: Mapping[str, object]) -> str | None:
    """What a link may: carry what travels, as somebody else's, and ask for the names that it shall carry."""
    if not isinstance(peer, str) or not isinstance(uri, str) or action not in ACTIONS:
        return "the question is not one that a link can ask"
    if options.get("match") not in (None, "exact"):
        return f"a link carries exact names, no {options.get('match')} patterns"
    if (action, uri) in (("call", uris.LINK_NAMES), ("subscribe", uris.LINK_CHANGED)):
        return None
    if action in ("register", "call"):
        travels = travels_as_procedure(uri)
    else:
        # What is for the peer goes out by its link, and what is for others comes in by it.
        out = action == "subscribe"
        travels = travels_as_topic(uri) and (
            not uri.startswith(uris.PEER_PREFIX) or uri.startswith(f"{uris.PEER_PREFIX}{peer}.") == out
        )
    if not travels:
        return f"a link may {action} nothing there: it is no name that travels between nodes"
    if action in ("call", "publish"):
        forwarded = options.get("forward_for")
        if not isinstance(forwarded, list) or len(forwarded) != 1:
            # What came over a link is not sent on, so there is one that it is for.
            return f"a link may {action} only for somebody else (forward_for), and for one"
        if options.get("retain"):
            return "a link carries events, and leaves none behind"
    return None


def _against_call_to_node(principal: Principal, as_operator: bool, uri: str) -> str | None:
    if uri in _NODE_SERVES_AGENTS:
        return None
    if uri.startswith(_NODE_SERVES_OPERATORS):
        # Both: who is no operator any more, and who has become one since it joined, must join anew.
        if as_operator and principal.operator:
            return None
        return f"it is for operators, and {principal.name} is none"
    return "it is no procedure that agents may call"


def _against_observer(principal: Principal, uri: str, action: str) -> str | None:
    if (action == "call" and uri in OBSERVERS_ASK) or (action == "subscribe" and uri in _PUBLIC_EVENTS):
        return None
    return f"{principal.name} is an observer, which may look at figures and states, and nothing else"


def _against_agent_uri(principal: Principal, at: uris.AgentUri, action: str) -> str | None:
    own = at.agent == principal.name
    if at.kind == "procedure":
        if not is_procedure_name(at.rest):
            return "it is no procedure's name: letters, digits and _, in parts joined by dots"
        if action == "register":
            return None if own else f"it lies under {at.agent}'s name"
        if action == "call":
            if principal.may_call(at.agent, at.rest):
                return None
            return f"the grants of {principal.name} don't cover {at.agent}.{at.rest}"
        return f"it is a procedure's name, and nobody may {action} there"
    if at.kind == "topic":
        if not is_topic_name(at.rest):
            return "it is no topic's name: letters, digits, _ and -, in parts joined by dots"
        if action == "subscribe":
            if principal.may_subscribe(at.agent, at.rest):
                return None
            return f"the grants of {principal.name} don't cover the topic {at.rest} of {at.agent}"
        if action == "publish":
            return None if own else f"only {at.agent} publishes there"
        return f"it is a topic's name, and nobody may {action} there"
    # The inbox and the receipts: the node alone publishes.
    if action != "subscribe":
        return "only the node speaks there"
    if not own:
        return f"it is {at.agent}'s own"
    if at.rest and (at.kind != "inbox" or not is_instance_name(at.rest)):
        return "there is no such topic"
    return None
