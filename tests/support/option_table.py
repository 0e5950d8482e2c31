"""What each option of a WAMP message does when an agent sets it: the table of the docs, as data.

The options are those that WAMP's specification names, and those that Autobahn and Crossbar read beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ROWS", "Row"]

HONOURED, IGNORED, REFUSED, ENDS = "honoured", "ignored", "refused", "ends the session"
_FOR = [{"session": 1, "authid": "boss", "authrole": "operator"}]
_NOT_AUTHORIZED = "refused wamp.error.not_authorized: "
_ENDED = "ended with the connection: WAMP Protocol Error "
_NOBODY_ELSE = "Only links forward"


@dataclass(frozen=True, slots=True)
class Row:
    """One option.

    Attributes:
        message: whose.
        option: its key; of one value alone with that value, ``key: value``.
        verdict: one of the four words.
        words: what happens.
        value: what a test sets it to.
        seen: what :meth:`.option_probe.Probing.see` sees then; of a refusal the beginning.
    """

    message: str
    option: str
    verdict: str
    words: str
    value: Any
    seen: str = "passed"

    @property
    def key(self) -> str:
        """The option's key on the wire."""
        return self.option.partition(":")[0]


def _ignored(message: str, words: str, /, **options: Any) -> list[Row]:
    return [Row(message, key.replace("resume_", "resume-"), IGNORED, words, value) for key, value in options.items()]


def _denied(message: str, option: str, words: str, value: Any, seen: str = _NOT_AUTHORIZED) -> Row:
    return Row(message, option, REFUSED, words, value, seen)


def _ending(message: str, option: str, words: str, value: Any, seen: str) -> Row:
    return Row(message, option, ENDS, words, value, _ENDED + seen)


_TOKEN_DECIDES = "Who a session is, its token says alone"
_NOT_READ = "Not read"
_CALLER_IS = "The callee is told whose session it is"
_AS_IT_IS = "Not read: the payload is passed on as it is"

ROWS: tuple[Row, ...] = (
    # -- coming and going
    Row("HELLO", "roles", HONOURED, "Those that a client has, of WAMP's four", {"caller": {}}),
    _ending("HELLO", "roles: others", "Routers are none here", {"broker": {}}, "(\"invalid role 'broker'"),
    _denied("HELLO", "authid", "It must be the token's", "boss", "refused trishula.error.token_invalid: "),
    *_ignored("HELLO", _TOKEN_DECIDES, authrole="operator"),
    _denied(
        "HELLO",
        "authmethods",
        "Others than ``ticket`` and ``cryptosign`` are not offered to agents",
        ["anonymous", "scram"],
        "refused wamp.error.no_auth_method: ",
    ),
    *_ignored("HELLO", _TOKEN_DECIDES, authextra={"authrole": "operator", "x_cb_node": "a", "x_cb_pid": 1}),
    *_ignored("HELLO", "Sessions are not resumed", resumable=True, resume_token="x"),
    _ending("HELLO", "resume-session", "Sessions are not resumed", 1, "('resume-token must be provided"),
    *_ignored("HELLO", _NOT_READ, realm="x", session=1, transport={"cookie": "x"}, authprovider="x", forward_for=_FOR),
    *_ignored("AUTHENTICATE", _TOKEN_DECIDES, authid="boss", authrole="operator", role="operator", realm="x"),
    *_ignored("AUTHENTICATE", _NOT_READ, channel_binding="tls-unique", forward_for=_FOR),
    *_ignored("GOODBYE", "Nobody is told", message="x"),
    *_ignored("GOODBYE", "Sessions are not resumed", resumable=True),
    *_ignored("GOODBYE", _NOT_READ, forward_for=_FOR),
    # -- calls
    Row(
        "CALL",
        "timeout",
        HONOURED,
        "The callee is told; ``limits.call_wait`` holds all the same",
        2**53,
        'passed {"timeout": 9007199254740992}',
    ),
    Row("CALL", "receive_progress", HONOURED, "The callee is told", True, 'passed {"receive_progress": true}'),
    Row(
        "CALL",
        "transaction_hash",
        HONOURED,
        "The callee is told: a text of the caller's",
        "x",
        'passed {"transaction_hash": "x"}',
    ),
    _denied("CALL", "forward_for", _NOBODY_ELSE, _FOR),
    *_ignored("CALL", _CALLER_IS, caller=1, caller_authid="boss", caller_authrole="operator", disclose_me=False),
    *_ignored(
        "CALL", _NOT_READ, progress=True, procedure="x", rkey="x", runmode="all", trustlevel=9, correlation_id="x"
    ),
    *_ignored("CALL", _NOT_READ, mode="kill", match="prefix", invoke="all"),
    *_ignored("CALL", _AS_IT_IS, ppt_scheme="wamp", ppt_serializer="cbor", ppt_cipher="x", ppt_keyid="x"),
    *_ignored("CALL", _AS_IT_IS, enc_algo="cryptobox", enc_key="x", enc_serializer="cbor"),
    Row(
        "CANCEL",
        "mode: kill",
        HONOURED,
        "The callee is interrupted, and answers",
        "kill",
        "passed: the caller waits for the callee, who is told",
    ),
    Row(
        "CANCEL",
        "mode: killnowait",
        HONOURED,
        "The callee is interrupted, and the call is over",
        "killnowait",
        "passed: the caller has an error at once, who is told",
    ),
    Row(
        "CANCEL",
        "mode: skip",
        HONOURED,
        "The callee is not told, and its answer counts",
        "skip",
        "passed: the caller waits for the callee, who is not told",
    ),
    _ending("CANCEL", "mode: others", "There are three", "none", "(\"invalid value 'none' for 'mode'"),
    Row("CANCEL", "reason", IGNORED, _NOT_READ, "x", "passed: the caller has an error at once, who is told"),
    _ending("CANCEL", "forward_for", _NOBODY_ELSE, _FOR, "('it asked as if for somebody else"),
    Row(
        "YIELD", "progress", HONOURED, "A part of the answer, to who asked for parts", True, 'passed {"progress": true}'
    ),
    _ending("YIELD", "forward_for", _NOBODY_ELSE + "; on record", _FOR, "('it answered a call as if for somebody else"),
    *_ignored(
        "YIELD", "The caller is told whose session answered", callee=1, callee_authid="boss", callee_authrole="operator"
    ),
    *_ignored("YIELD", _NOT_READ, caller=1, disclose_me=True),
    *_ignored("YIELD", _AS_IT_IS, ppt_scheme="wamp", enc_algo="cryptobox"),
    _ending("ERROR", "forward_for", _NOBODY_ELSE + "; on record", _FOR, "('it answered a call as if for somebody else"),
    *_ignored(
        "ERROR", "Whose session answered, the node says", callee=1, callee_authid="boss", callee_authrole="operator"
    ),
    *_ignored("ERROR", _NOT_READ, progress=True, message="x"),
    *_ignored("ERROR", _AS_IT_IS, ppt_scheme="wamp", enc_algo="cryptobox"),
    # -- events, of topics of one's own
    Row("PUBLISH", "acknowledge", HONOURED, "Whether the publisher has an answer", False),
    Row(
        "PUBLISH",
        "exclude_me",
        HONOURED,
        "Whether the publisher hears itself",
        False,
        "passed, and by its publisher too",
    ),
    Row("PUBLISH", "exclude", HONOURED, "Sessions that don't hear an event of one's own topic", [1]),
    Row("PUBLISH", "exclude_authid", HONOURED, "Agents that don't", ["dc"], "unheard"),
    Row("PUBLISH", "exclude_authrole", HONOURED, "Roles that don't", ["agent"], "unheard"),
    Row("PUBLISH", "eligible", HONOURED, "The sessions that do", [1], "unheard"),
    Row("PUBLISH", "eligible_authid", HONOURED, "The agents that do", ["agni"], "unheard"),
    Row("PUBLISH", "eligible_authrole", HONOURED, "The roles that do", ["operator"], "unheard"),
    Row("PUBLISH", "retain", HONOURED, "Kept for who subscribes later; bounded, and goes with its agent", True),
    Row(
        "PUBLISH",
        "transaction_hash",
        HONOURED,
        "Subscribers are told: a text of the publisher's",
        "x",
        'passed {"transaction_hash": "x"}',
    ),
    _denied("PUBLISH", "forward_for", _NOBODY_ELSE, _FOR),
    *_ignored(
        "PUBLISH",
        "Subscribers are told whose session it is",
        publisher=1,
        publisher_authid="boss",
        publisher_authrole="operator",
        disclose_me=False,
    ),
    *_ignored(
        "PUBLISH",
        _NOT_READ,
        topic="x",
        retained=True,
        x_acknowledged_delivery=True,
        rkey="x",
        trustlevel=9,
        match="prefix",
    ),
    *_ignored("PUBLISH", _AS_IT_IS, ppt_scheme="wamp", ppt_serializer="cbor", ppt_cipher="x", ppt_keyid="x"),
    *_ignored("PUBLISH", _AS_IT_IS, enc_algo="cryptobox", enc_key="x", enc_serializer="cbor"),
    Row("SUBSCRIBE", "match: exact", HONOURED, "As without it", "exact"),
    _denied("SUBSCRIBE", "match: prefix", "Exact names alone", "prefix"),
    _denied("SUBSCRIBE", "match: wildcard", "Exact names alone", "wildcard"),
    _ending("SUBSCRIBE", "match: others", "There are three", "regex", "(\"invalid value regex for 'match'"),
    Row("SUBSCRIBE", "get_retained", HONOURED, "The retained event comes, if it is for this agent", True),
    _denied("SUBSCRIBE", "forward_for", _NOBODY_ELSE, _FOR),
    *_ignored("SUBSCRIBE", _NOT_READ, nkey="x", disclose_publisher=False, eligible_authid=["x"]),
    _ending("UNSUBSCRIBE", "forward_for", _NOBODY_ELSE, _FOR, "('it asked as if for somebody else"),
    *_ignored("UNSUBSCRIBE", _NOT_READ, reason="x"),
    # -- procedures, under one's own name
    Row("REGISTER", "match: exact", HONOURED, "As without it", "exact"),
    _denied("REGISTER", "match: prefix", "Exact names alone", "prefix"),
    _denied("REGISTER", "match: wildcard", "Exact names alone", "wildcard"),
    *(
        Row("REGISTER", f"invoke: {policy}", HONOURED, "Which of the agent's own sessions is called", policy)
        for policy in ("single", "first", "last", "roundrobin", "random")
    ),
    _ending("REGISTER", "invoke: others", "There are five", "all", "(\"invalid value all for 'invoke'"),
    Row("REGISTER", "concurrency", HONOURED, "How many calls its session has at once", 10**6),
    _ending("REGISTER", "concurrency: 0", "At least 1", 0, "(\"invalid value 0 for 'concurrency'"),
    Row("REGISTER", "force_reregister", HONOURED, "In the place of the agent's own other sessions", True),
    _denied("REGISTER", "forward_for", _NOBODY_ELSE, _FOR),
    *_ignored("REGISTER", "Callees are always told who calls", disclose_caller=False),
    *_ignored("REGISTER", _NOT_READ, pkeys=["x"], restrict_to=["x"]),
    _ending("UNREGISTER", "forward_for", _NOBODY_ELSE, _FOR, "('it asked as if for somebody else"),
    *_ignored("UNREGISTER", _NOT_READ, reason="x"),
)
