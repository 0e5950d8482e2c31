"""The permissions, as a table: who, in which role, does what, on which URI, with which options → allowed or why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from trishula import errors
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula_router.agents.authorizer import ACTIONS, OBSERVERS_ASK, Authorizer, Denial
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.realm import LINK_ROLE

P = uris.PREFIX
REPORT = uris.procedure_of("agni", "host_report")
NEWS = uris.topic_of("agni", "news")
FORWARDED = {"forward_for": [{"session": 1, "authid": "agni", "authrole": "operator"}]}


@pytest.fixture
def principals(tmp_path: Path) -> Principals:
    path = tmp_path / "agents.json"
    with update_agents(path) as agents:
        agents["agni"] = AgentEntry()
        agents["rushabdev"] = AgentEntry(call=("agni.host_report",))
        agents["dc"] = AgentEntry(operator=True)
        agents["wall"] = AgentEntry(observer=True)
        agents["both"] = AgentEntry(observer=True, operator=True)
    return Principals(path)


def reason(
    principals: Principals, authid: object, role: object, action: object, uri: object, options: dict[str, object]
) -> str | None:
    denial = Authorizer(principals).decide({"authid": authid, "authrole": role}, uri, action, options)
    return None if denial is None else denial.reason


ALLOWED = [
    ("agni", "agent", "call", uris.MAILBOX_SEND),
    ("agni", "agent", "call", uris.MAILBOX_ATTACH),
    ("agni", "agent", "call", uris.MAILBOX_ACK),
    ("agni", "agent", "call", uris.MAILBOX_NACK),
    ("agni", "agent", "call", uris.MAILBOX_WORKING),
    ("agni", "agent", "call", uris.MAILBOX_SURFACED),
    ("agni", "agent", "call", uris.MAILBOX_FETCH),
    ("agni", "agent", "call", uris.MAILBOX_PEEK),
    ("agni", "agent", "call", uris.MAILBOX_THREAD),
    ("agni", "agent", "call", uris.MAILBOX_SEARCH),
    ("agni", "agent", "call", uris.DIRECTORY_TURN),
    ("agni", "agent", "call", uris.ATTACHMENT_BEGIN),
    ("agni", "agent", "call", uris.ATTACHMENT_PUT),
    ("agni", "agent", "call", uris.ATTACHMENT_GET),
    ("agni", "agent", "call", uris.ATTACHMENT_OF),
    ("agni", "agent", "call", uris.MAILBOX_STATUS),
    ("agni", "agent", "call", uris.MAILBOX_ANSWER),
    ("agni", "agent", "call", uris.MAILBOX_CANCEL),
    ("agni", "agent", "call", uris.MAILBOX_CANARY),
    ("agni", "agent", "call", uris.DIRECTORY_LIST),
    ("agni", "agent", "call", uris.DIRECTORY_GET),
    ("agni", "agent", "call", uris.DIRECTORY_FIND),
    ("agni", "agent", "call", uris.DIRECTORY_BEAT),
    ("agni", "agent", "call", uris.LEASE_CLAIM),
    ("agni", "agent", "call", uris.LEASE_RENEW),
    ("agni", "agent", "call", uris.LEASE_RELEASE),
    ("agni", "agent", "call", uris.LEASE_LIST),
    ("agni", "agent", "call", uris.AUDIT_WHY),
    ("agni", "agent", "call", uris.procedure_of("dc", "report")),
    ("agni", "agent", "call", uris.procedure_of("dc", "report.full")),
    ("agni", "agent", "call", REPORT),
    ("rushabdev", "agent", "call", REPORT),
    ("agni", "agent", "register", REPORT),
    ("agni", "agent", "subscribe", uris.inbox_of(Address("agni"))),
    ("agni", "agent", "subscribe", uris.inbox_of(Address("agni", "7f3a"))),
    ("agni", "agent", "subscribe", uris.receipts_of("agni")),
    ("agni", "agent", "subscribe", NEWS),
    ("rushabdev", "agent", "subscribe", NEWS),
    ("rushabdev", "agent", "subscribe", uris.topic_of("agni", "news.today")),
    ("agni", "agent", "publish", NEWS),
    ("agni", "agent", "subscribe", uris.EVENT_AGENT),
    ("agni", "agent", "subscribe", uris.EVENT_NODE),
    ("agni", "agent", "subscribe", uris.EVENT_FALLBACK),
    ("dc", "operator", "call", uris.MAILBOX_SEND),
    ("dc", "operator", "call", uris.AUDIT_QUERY),
    ("dc", "operator", "call", uris.AUDIT_VERIFY),
    ("dc", "operator", "call", uris.NODE_STATUS),
    ("dc", "operator", "call", f"{uris.ADMIN_PREFIX}token.revoke"),
    ("dc", "operator", "register", uris.procedure_of("dc", "report")),
    ("wall", "agent", "call", uris.NODE_STATUS),
    ("wall", "agent", "call", uris.NODE_MAILBOXES),
    ("wall", "agent", "call", uris.NODE_READY),
    ("wall", "agent", "call", uris.AUDIT_QUERY),
    ("wall", "agent", "call", uris.AUDIT_WHY),
    ("wall", "agent", "call", uris.ADMIN_DEAD_LIST),
    ("wall", "agent", "call", uris.DIRECTORY_LIST),
    ("wall", "agent", "subscribe", uris.EVENT_AGENT),
    ("both", "operator", "call", uris.ADMIN_DEAD_SHOW),
    ("both", "operator", "call", uris.MAILBOX_SEND),
]


@pytest.mark.parametrize(("authid", "role", "action", "uri"), ALLOWED)
def test_allowed(principals: Principals, authid: str, role: str, action: str, uri: str) -> None:
    assert reason(principals, authid, role, action, uri, {}) is None
    assert reason(principals, authid, role, action, uri, {"match": "exact", "forward_for": None}) is None


NO_PROCEDURE = "it is no procedure that agents may call"
NOT_OWN = "an agent may {} nothing outside of its own names, and this is not one of them"
DENIED = [
    # questions and administration
    ("agni", "agent", "call", uris.AUDIT_QUERY, "it is for operators, and agni is none"),
    ("agni", "agent", "call", uris.AUDIT_VERIFY, "it is for operators, and agni is none"),
    ("agni", "agent", "call", uris.NODE_STATUS, "it is for operators, and agni is none"),
    ("agni", "agent", "call", f"{uris.ADMIN_PREFIX}drill", "it is for operators, and agni is none"),
    # an entry that was changed while the session lived, in either direction
    ("agni", "operator", "call", uris.NODE_STATUS, "it is for operators, and agni is none"),
    ("dc", "agent", "call", uris.NODE_STATUS, "it is for operators, and dc is none"),
    ("gone", "agent", "call", uris.MAILBOX_SEND, "gone is no registered agent any more"),
    # the router's own questions would tell an agent whether a token is right
    ("agni", "agent", "call", uris.AUTHENTICATE, NO_PROCEDURE),
    ("dc", "operator", "call", uris.AUTHORIZE, NO_PROCEDURE),
    ("agni", "agent", "register", uris.AUTHENTICATE, NOT_OWN.format("register")),
    ("agni", "agent", "register", uris.AUTHORIZE, NOT_OWN.format("register")),
    ("agni", "agent", "register", uris.MAILBOX_SEND, NOT_OWN.format("register")),
    ("dc", "operator", "register", uris.MAILBOX_SEND, NOT_OWN.format("register")),
    ("agni", "agent", "publish", uris.EVENT_AGENT, NOT_OWN.format("publish")),
    ("agni", "agent", "subscribe", f"{uris.EVENTS_PREFIX}other", NOT_OWN.format("subscribe")),
    ("agni", "agent", "subscribe", uris.MAILBOX_SEND, NOT_OWN.format("subscribe")),
    ("agni", "agent", "publish", f"{uris.PEER_PREFIX}agni.records", NOT_OWN.format("publish")),
    ("agni", "agent", "subscribe", f"{uris.PEER_PREFIX}agni.records", NOT_OWN.format("subscribe")),
    # Crossbar's and WAMP's own
    ("agni", "agent", "call", "wamp.session.list", NO_PROCEDURE),
    ("dc", "operator", "call", "wamp.session.kill_by_authid", NO_PROCEDURE),
    ("agni", "agent", "subscribe", "wamp.session.on_join", NOT_OWN.format("subscribe")),
    ("agni", "agent", "register", "wamp.x", NOT_OWN.format("register")),
    ("agni", "agent", "call", "crossbar.get_status", NO_PROCEDURE),
    ("agni", "agent", "call", "com.example.anything", NO_PROCEDURE),
    ("agni", "agent", "call", "", NO_PROCEDURE),
    # other agents' names
    ("agni", "agent", "register", uris.procedure_of("dc", "report"), "it lies under dc's name"),
    ("dc", "operator", "register", REPORT, "it lies under agni's name"),
    (
        "rushabdev",
        "agent",
        "call",
        uris.procedure_of("agni", "deploy"),
        "the grants of rushabdev don't cover agni.deploy",
    ),
    (
        "rushabdev",
        "agent",
        "call",
        uris.procedure_of("dc", "host_report"),
        "the grants of rushabdev don't cover dc.host_report",
    ),
    ("rushabdev", "agent", "publish", NEWS, "only agni publishes there"),
    ("dc", "operator", "subscribe", uris.inbox_of(Address("agni")), "it is agni's own"),
    ("dc", "operator", "subscribe", uris.inbox_of(Address("agni", "7f3a")), "it is agni's own"),
    ("dc", "operator", "subscribe", uris.receipts_of("agni"), "it is agni's own"),
    # the right agent, the wrong action or a name that is none
    ("agni", "agent", "publish", uris.inbox_of(Address("agni")), "only the node speaks there"),
    ("agni", "agent", "publish", uris.receipts_of("agni"), "only the node speaks there"),
    ("agni", "agent", "register", uris.inbox_of(Address("agni")), "only the node speaks there"),
    ("agni", "agent", "call", uris.receipts_of("agni"), "only the node speaks there"),
    ("agni", "agent", "publish", REPORT, "it is a procedure's name, and nobody may publish there"),
    ("agni", "agent", "subscribe", REPORT, "it is a procedure's name, and nobody may subscribe there"),
    ("agni", "agent", "call", NEWS, "it is a topic's name, and nobody may call there"),
    ("agni", "agent", "register", NEWS, "it is a topic's name, and nobody may register there"),
    ("agni", "agent", "subscribe", f"{uris.inbox_of(Address('agni'))}.a.b", "there is no such topic"),
    ("agni", "agent", "subscribe", f"{uris.inbox_of(Address('agni'))}.A", "there is no such topic"),
    ("agni", "agent", "subscribe", f"{uris.receipts_of('agni')}.x", "there is no such topic"),
    (
        "agni",
        "agent",
        "register",
        f"{uris.AGENT_PREFIX}agni.a..b",
        "it is no procedure's name: letters, digits and _, in parts joined by dots",
    ),
    (
        "agni",
        "agent",
        "register",
        f"{uris.AGENT_PREFIX}agni.report\n",
        "it is no procedure's name: letters, digits and _, in parts joined by dots",
    ),
    (
        "agni",
        "agent",
        "publish",
        f"{uris.AGENT_PREFIX}agni.topic",
        "it is no topic's name: letters, digits, _ and -, in parts joined by dots",
    ),
    ("agni", "agent", "register", f"{uris.AGENT_PREFIX}agni", NOT_OWN.format("register")),
    ("agni", "agent", "register", f"{uris.AGENT_PREFIX}agni.", NOT_OWN.format("register")),
    ("agni", "agent", "register", f"{uris.AGENT_PREFIX}agnix.report", "it lies under agnix's name"),
    # roles and questions that this authorizer does not know
    ("agni", "node", "call", uris.MAILBOX_SEND, "the role node has no rights here"),
    ("agni", "anonymous", "call", uris.MAILBOX_SEND, "the role anonymous has no rights here"),
    ("agni", None, "call", uris.MAILBOX_SEND, "the role None has no rights here"),
    (None, "agent", "call", uris.MAILBOX_SEND, "the question is not one that a session of an agent can ask"),
    ("agni", "agent", "cancel", uris.MAILBOX_SEND, "the question is not one that a session of an agent can ask"),
    ("agni", "agent", ["call"], uris.MAILBOX_SEND, "the question is not one that a session of an agent can ask"),
    ("agni", "agent", "call", None, "the question is not one that a session of an agent can ask"),
]


@pytest.mark.parametrize(("authid", "role", "action", "uri", "said"), DENIED)
def test_denied(principals: Principals, authid: object, role: object, action: object, uri: object, said: str) -> None:
    assert reason(principals, authid, role, action, uri, {}) == said


@pytest.mark.parametrize(("authid", "role", "action", "uri"), ALLOWED)
def test_nothing_that_is_allowed_is_allowed_with_forward_for(
    principals: Principals, authid: str, role: str, action: str, uri: str
) -> None:
    session = {"authid": authid, "authrole": role}
    for forward_for in (FORWARDED["forward_for"], [], "x"):
        assert Authorizer(principals).decide(session, uri, action, {"forward_for": forward_for}) == Denial(
            authid,
            action,
            uri,
            "it claims to be forwarded for somebody (forward_for), and only links between routers forward",
            errors.ForwardingForbidden,
        )


@pytest.mark.parametrize("match", ["prefix", "wildcard", "regex", ""])
@pytest.mark.parametrize(
    ("action", "uri"),
    [
        ("subscribe", uris.inbox_of(Address("agni"))),
        ("subscribe", uris.AGENT_PREFIX),
        ("subscribe", f"{P}agent..inbox"),
        ("subscribe", uris.EVENTS_PREFIX),
        ("subscribe", uris.EVENT_AGENT),
        ("subscribe", ""),
        ("register", f"{uris.AGENT_PREFIX}agni."),
        ("register", REPORT),
    ],
)
def test_patterns_are_refused(principals: Principals, action: str, uri: str, match: str) -> None:
    assert reason(principals, "agni", "agent", action, uri, {"match": match}) == (
        f"only exact names are allowed, no {match} patterns"
    )


def test_the_answer_discloses_the_caller_is_never_cached_and_tells_of_each_denial(principals: Principals) -> None:
    denials: list[Denial] = []
    authorizer = Authorizer(principals, denials.append)
    agni = {"authid": "agni", "authrole": "agent", "session": 1, "transport": None}
    assert authorizer.authorize(agni, uris.MAILBOX_SEND, "call", {}) == {
        "allow": True,
        "disclose": True,
        "cache": False,
    }
    assert denials == []
    assert authorizer.authorize(agni, uris.NODE_STATUS, "call", None) == {
        "allow": False,
        "disclose": True,
        "cache": False,
    }
    assert denials == [
        Denial("agni", "call", uris.NODE_STATUS, "it is for operators, and agni is none", errors.NotAllowed)
    ]


def test_no_agent_may_do_anything_that_the_table_does_not_name(principals: Principals) -> None:
    """Every URI of the contract × every action: what is not in the table of allowed things is denied."""
    known = sorted({value for value in vars(uris).values() if isinstance(value, str) and value.startswith(P)})
    allowed = {(action, uri) for authid, role, action, uri in ALLOWED if (authid, role) == ("agni", "agent")}
    assert len(known) > 20
    for uri in known:
        for action in ACTIONS:
            may = reason(principals, "agni", "agent", action, uri, {}) is None
            assert may is ((action, uri) in allowed), (action, uri)


OBSERVED = {("call", uri) for uri in OBSERVERS_ASK} | {
    ("subscribe", uri) for uri in (uris.EVENT_AGENT, uris.EVENT_NODE, uris.EVENT_FALLBACK)
}


def test_an_observer_may_ask_how_all_stands_and_nothing_else(principals: Principals) -> None:
    """No mailbox, no topic and no agent: what may have a payload in it is not for observers, not even their own."""
    own = [uris.inbox_of(Address("wall")), uris.receipts_of("wall"), uris.topic_of("wall", "x"), NEWS, REPORT]
    known = {value for value in vars(uris).values() if isinstance(value, str) and value.startswith(P)}
    for uri in (*known, *own, uris.procedure_of("wall", "x")):
        for action in ACTIONS:
            said = reason(principals, "wall", "agent", action, uri, {})
            assert (said is None) is ((action, uri) in OBSERVED), (action, uri)
            assert said in (None, "wall is an observer, which may look at figures and states, and nothing else")
    assert not {uris.ADMIN_DEAD_SHOW, uris.NODE_PEEK, uris.MAILBOX_PEEK, uris.MAILBOX_ANSWER} & OBSERVERS_ASK


@pytest.mark.parametrize(
    ("action", "uri"),
    [
        ("call", REPORT),
        ("publish", uris.topic_of("wall", "news")),
        ("register", uris.procedure_of("wall", "x")),
    ],
)
def test_who_is_an_observer_by_this_nodes_file_is_one_over_a_link_as_well(
    principals: Principals, action: str, uri: str
) -> None:
    """The file of the node that it is joined to may not say so yet."""
    for name, role in (("wall", "agent"), ("wall", "operator")):
        options: dict[str, object] = {"forward_for": [{"session": 1, "authid": name, "authrole": role}]}
        said = reason(principals, "rushabdev", LINK_ROLE, action, uri, options)
        assert said == "wall is an observer, which may look at figures and states, and nothing else"


# -- links -------------------------------------------------------------------------------------------------------------

FOR_AGNI: dict[str, object] = {"forward_for": [{"session": 1, "authid": "agni", "authrole": "agent"}]}
NEWS = uris.topic_of("agni", "news")
TO_PEER, TO_US = f"{uris.PEER_PREFIX}rushabdev.hello", f"{uris.PEER_PREFIX}agni.hello"


@pytest.mark.parametrize(
    ("action", "uri", "options"),
    [
        ("call", uris.LINK_NAMES, {}),
        ("subscribe", uris.LINK_CHANGED, {}),
        ("register", REPORT, {"invoke": "last"}),
        ("call", REPORT, FOR_AGNI),
        ("subscribe", NEWS, {}),
        ("publish", NEWS, FOR_AGNI),
        ("subscribe", uris.EVENT_AGENT, {"match": "exact"}),
        ("publish", uris.EVENT_AGENT, FOR_AGNI),
        ("subscribe", TO_PEER, {}),
        ("publish", TO_US, FOR_AGNI),
    ],
)
def test_a_link_may_carry_what_travels(
    principals: Principals, action: str, uri: str, options: dict[str, object]
) -> None:
    assert reason(principals, "rushabdev", LINK_ROLE, action, uri, options) is None
    # Nobody else may in its place.
    assert reason(principals, "rushabdev", "agent", action, uri, {**options, **FOR_AGNI}) is not None


@pytest.mark.parametrize(
    ("action", "uri", "options"),
    [
        ("call", uris.MAILBOX_SEND, FOR_AGNI),
        ("call", uris.DIRECTORY_LIST, FOR_AGNI),
        ("call", uris.NODE_STATUS, FOR_AGNI),
        ("call", uris.AUTHENTICATE, FOR_AGNI),
        ("call", "wamp.session.kill", {}),
        ("call", REPORT, {}),
        ("publish", NEWS, {}),
        ("publish", NEWS, {"forward_for": []}),
        ("publish", uris.receipts_of("agni"), FOR_AGNI),
        ("publish", uris.inbox_of(Address("agni")), FOR_AGNI),
        ("publish", uris.LINK_CHANGED, FOR_AGNI),
        ("publish", TO_PEER, FOR_AGNI),
        ("subscribe", TO_US, {}),
        ("subscribe", uris.inbox_of(Address("agni")), {}),
        ("subscribe", uris.receipts_of("agni"), {}),
        ("subscribe", uris.PEER_PREFIX, {"match": "prefix"}),
        ("subscribe", "wamp.session.on_join", {}),
        ("register", uris.MAILBOX_SEND, {}),
        ("register", uris.LINK_NAMES, {}),
        ("register", NEWS, {}),
        ("grant", NEWS, {}),
        # For one, who is registered here, about what is its own, within its grants; and nothing is left behind.
        ("call", REPORT, {"forward_for": [*FOR_AGNI["forward_for"], *FOR_AGNI["forward_for"]]}),  # type: ignore[misc]
        ("call", REPORT, {"forward_for": [{"session": 1, "authid": "ghost", "authrole": "operator"}]}),
        ("call", REPORT, {"forward_for": [{"session": 1, "authid": None, "authrole": "operator"}]}),
        ("call", REPORT, {"forward_for": ["agni"]}),
        ("call", uris.procedure_of("dc", "report"), {"forward_for": [{"session": 1, "authid": "rushabdev"}]}),
        ("publish", uris.topic_of("dc", "news"), FOR_AGNI),
        ("publish", NEWS, {"forward_for": [{"session": 1, "authid": "dc", "authrole": "agent"}]}),
        ("publish", NEWS, {**FOR_AGNI, "retain": True}),
        ("register", uris.procedure_of("ghost", "report"), {}),
    ],
)
def test_a_link_may_nothing_else(principals: Principals, action: str, uri: str, options: dict[str, object]) -> None:
    assert reason(principals, "rushabdev", LINK_ROLE, action, uri, options) is not None


@pytest.mark.parametrize(
    ("action", "uri", "options", "agent"),
    [
        ("call", uris.procedure_of("dc", "report"), FOR_AGNI, "agni"),
        ("publish", NEWS, FOR_AGNI, "agni"),
        ("register", REPORT, {}, "agni"),
    ],
)
def test_a_link_speaks_for_no_agent_for_which_its_peer_can_not_vouch(
    principals: Principals, action: str, uri: str, options: dict[str, object], agent: str
) -> None:
    asked: list[tuple[str, str]] = []

    def against_peer(peer: str, name: str) -> str:
        asked.append((peer, name))
        return f"{name} is elsewhere"

    authorizer = Authorizer(principals, against_peer=against_peer)
    denial = authorizer.decide({"authid": "rushabdev", "authrole": LINK_ROLE}, uri, action, options)
    assert denial is not None
    assert denial.reason == f"{agent} is elsewhere"
    assert asked == [("rushabdev", agent)]
