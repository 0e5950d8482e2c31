"""The wire contract as a table, for tests: each procedure, its arguments, right ones of them and their rules.

The rules of values are in ``rules``; what is made of all this is in ``abuse``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.rules import (
    AGENTS,
    MAX_MS,
    Rule,
    integer,
    is_copies,
    is_id,
    is_json,
    is_mailbox,
    is_place,
    is_recipient,
    is_text,
    is_token,
    like,
    line,
    list_of,
    number,
    one_of,
    or_none,
    text,
)
from trishula.contract import uris
from trishula.contract.addresses import is_agent_name
from trishula.contract.message import MESSAGE_TYPES
from trishula_router.store.journal import Kind

__all__ = ["LONG_WAIT_S", "PROCEDURES", "WAIT", "Field", "Param", "Procedure"]

#: limits.ttl, as it is by default.
TTL_MS = 30 * 86_400_000
KINDS = tuple(map(str, Kind))
#: Longer polls are right, and would take the test's time.
LONG_WAIT_S = 0.02


def _is_kind(value: object) -> bool:
    return isinstance(value, str) and value in KINDS


@dataclass(frozen=True)
class Field:
    """A key of a map.

    Attributes:
        name: the key.
        good: values that are right.
        rule: which others are.
        required: whether it may be absent.
        plain: a right value, of one that may not.
    """

    name: str
    good: st.SearchStrategy[Any]
    rule: Rule
    required: bool = False
    plain: Any = None


@dataclass(frozen=True)
class Param:
    """A positional argument: a map, a list of maps, or a value by itself.

    Attributes:
        name: what refusals call it.
        fields: the keys of the map, or of each of the maps.
        many: whether it is a list of maps.
        good: of a value by itself: right ones.
        rule: of a value by itself: which others are.
        plain: of a value by itself: a right one.
    """

    name: str
    fields: tuple[Field, ...] = ()
    many: bool = False
    good: st.SearchStrategy[Any] | None = None
    rule: Rule | None = None
    plain: Any = None


@dataclass(frozen=True)
class Procedure:
    """A procedure of the node.

    Attributes:
        uri: its name.
        params: its positional arguments.
        least: how many of them must be there.
        shape: whether an answer is as documented.
        states: the errors (below ``trishula.error.``) with which a right call may end.
        for_operators: whether agents may not call it.
    """

    uri: str
    params: tuple[Param, ...]
    least: int
    shape: Callable[[Any], bool]
    states: frozenset[str] = frozenset()
    for_operators: bool = False


ids = st.from_regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,11}", fullmatch=True).filter(is_id)
instances = st.sampled_from(["a", "b1", "c_2"])
tokens = st.sampled_from(["1.1", "2.3", "999999999.1", "7.1.0123abcd", f"{2**63 - 1}.1", "0.0"])
positions = st.integers(0, 40) | st.just(2**63 - 1)
instants = st.integers(0, MAX_MS)
texts = st.text(max_size=40).filter(is_text)
lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
_INSTANT = or_none(integer(0, MAX_MS))
_POSITION = integer(0, 2**63 - 1)
_EPOCH = or_none(text(1, 64))
_INSTANCE = or_none(like(r"[a-z0-9][a-z0-9_]{0,31}"))
_CAPABILITY = r"[a-z][a-z0-9_.-]{0,62}"

MESSAGE = (
    # An ACK and an answer depend on what they name.
    Field(
        "type",
        st.just("STATUS"),
        lambda v: None if v == "ACK" else one_of(*MESSAGE_TYPES)(v),
        required=True,
        plain="STATUS",
    ),
    Field("id", ids, is_id, required=True, plain="plain"),
    Field("to", st.just("vault"), is_recipient, required=True, plain="vault"),
    Field("from", st.none(), lambda v: None if isinstance(v, str) and v.partition("/")[0] in AGENTS else v is None),
    Field("timestamp", instants, _INSTANT),
    Field("payload", values, is_json),
    Field("priority", st.integers(1, 5), integer(1, 5)),
    Field("reply_to", ids, or_none(like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"))),
    # Only a COMMAND has one.
    Field("procedure", st.none(), lambda v: v is None or (None if like(r"[A-Za-z_][A-Za-z0-9_.]*")(v) else False)),
    Field("seq", instants, or_none(integer(0, MAX_MS))),
    Field("subject", lines, or_none(line(1, 256))),
    Field("ttl_ms", st.integers(60_000, TTL_MS), or_none(integer(1, TTL_MS))),
    Field("deadline_at", st.integers(2**42, MAX_MS), _INSTANT),
    Field("traceparent", lines, or_none(line(1, 256))),
)
_PLACE = (Field("epoch", lines, _EPOCH), Field("position", positions, or_none(_POSITION)))
_TOKENS = Param("tokens", good=st.lists(tokens, max_size=4), rule=list_of(is_token, 1024), plain=["1.1"])
_IDS = Param(
    "ids",
    good=st.lists(ids, max_size=4),
    rule=list_of(like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), 1000),
    plain=["plain"],
)
_SEQS = list_of(_POSITION, 1000)


def _keys(*names: str) -> Callable[[Any], bool]:
    return lambda answer: isinstance(answer, dict) and set(names) <= set(answer)


def _each(shape: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda answer: isinstance(answer, list) and all(shape(one) for one in answer)


def _is_receipt(one: Any) -> bool:
    if not _keys("id", "status", "node", "seq", "copies")(one):
        return False
    if one["status"] in ("accepted", "duplicate"):
        return isinstance(one["id"], str) and isinstance(one["seq"], int) and isinstance(one["copies"], int)
    return one["status"] == "refused" and isinstance(one["error"], str) and bool(one["detail"])


def _is_bool(one: Any) -> bool:
    return isinstance(one, bool)


_IS_ENTRY = _keys("agent", "presence", "since", "node", "capabilities")
_IS_LETTER = _keys("seq", "from", "id", "to", "type", "reason", "failures", "attempts", "dead_at", "bytes")
_IS_MODE = _keys("node", "mode", "sends", "reason", "by", "since")
_IS_PART = _keys("size_bytes", "have_bytes", "complete", "chunk_bytes")
_DIGEST = Param(
    "digest", good=st.just(f"sha256:{'7' * 64}"), rule=like(r"sha256:[0-9a-f]{64}"), plain=f"sha256:{'7' * 64}"
)
_IS_LEASE = _keys("id", "state", "scope", "holder", "shared", "fence", "provisional", "ttl_s", "claimed_at", "node")
_scopes = st.sampled_from(["task:a", "role:b", "path:src/**", "path:web:*.py", "task:\u00e4"])


def _is_scope(value: Any) -> bool | None:
    """Written once more; of others that begin like a scope it is open here, and tried in the tests of scopes."""
    if not isinstance(value, str) or len(value) > 500 or value.partition(":")[0] not in ("task", "role", "path"):
        return False
    return True if value in ("task:a", "role:b", "path:src/**", "path:web:*.py", "task:\u00e4") else None


def _is_search_place(value: Any) -> bool | None:
    if value is None or value == "agni:01234567:7":
        return True
    return None if like(r"[!-~]{1,16384}")(value) else False


def _is_piece(value: Any) -> bool:
    return isinstance(value, bytes) and 0 < len(value) <= 65_536


def _is_lease_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 500


WAIT = Field("wait_s", st.floats(0, LONG_WAIT_S), number(0, 60))
_OPTIONS = "options"
_UNKNOWN = frozenset({"message_unknown"})
_NODE_UNKNOWN = frozenset({"node_unknown"})

PROCEDURES = (
    Procedure(
        uris.MAILBOX_SEND,
        (
            Param("messages", MESSAGE, many=True),
            Param(_OPTIONS, (Field("copies", st.just(1), is_copies), Field("sent_at", instants, _INSTANT))),
        ),
        1,
        _each(_is_receipt),
    ),
    Procedure(
        uris.MAILBOX_ATTACH,
        (
            Param(
                _OPTIONS,
                (
                    Field("instance", instances, _INSTANCE),
                    Field(
                        "capabilities",
                        st.lists(st.from_regex(r"[a-z][a-z0-9_.-]{0,5}", fullmatch=True), max_size=3),
                        list_of(like(_CAPABILITY), 256),
                    ),
                    Field("window", st.integers(1, 1024), or_none(integer(1, 1024))),
                    Field("heartbeat_s", st.floats(0.1, 3600), or_none(number(0, 3600, above=True))),
                    *_PLACE,
                ),
            ),
        ),
        0,
        _keys("node", "epoch", "high_water", "lease_s", "limits"),
        frozenset({"instances_exceeded"}),
    ),
    Procedure(uris.MAILBOX_ACK, (_TOKENS,), 1, _each(_is_bool)),
    Procedure(
        uris.MAILBOX_NACK,
        (
            Param(
                "items",
                (
                    Field("token", tokens, is_token, required=True, plain="1.1"),
                    Field("reason", texts, text(0, 2000)),
                    Field("requeue", st.booleans(), _is_bool),
                ),
                many=True,
            ),
        ),
        1,
        _each(_is_bool),
    ),
    Procedure(
        uris.MAILBOX_WORKING,
        (
            Param("token", good=tokens, rule=is_token, plain="1.1"),
            Param("for_s", good=st.floats(0.1, 86400), rule=number(0, 86400, above=True), plain=1),
        ),
        2,
        _keys("lease_until_at"),
        _UNKNOWN,
    ),
    Procedure(
        uris.MAILBOX_SURFACED,
        (_TOKENS,),
        1,
        _each(_is_bool),
    ),
    Procedure(
        uris.MAILBOX_FETCH,
        (
            Param(
                _OPTIONS,
                (
                    Field("max", st.integers(1, 1000), integer(1, 1000)),
                    WAIT,
                    Field("instance", instances, _INSTANCE),
                    *_PLACE,
                ),
            ),
        ),
        0,
        _keys("deliveries", "epoch", "high_water", "pending", "in_flight"),
        frozenset({"mailbox_busy", "instances_exceeded", "fetches_exceeded"}),
    ),
    Procedure(
        uris.MAILBOX_PEEK,
        (
            Param(
                _OPTIONS,
                (
                    Field("max", st.integers(1, 1000), integer(1, 1000)),
                    Field("after", st.lists(positions, min_size=2, max_size=2), or_none(is_place)),
                    Field("instance", instances, _INSTANCE),
                ),
            ),
        ),
        0,
        _keys("messages", "more", "after", "epoch", "high_water", "pending", "in_flight"),
    ),
    Procedure(
        uris.MAILBOX_THREAD,
        (
            Param("id", good=ids, rule=is_id, plain="plain"),
            Param(_OPTIONS, (Field("max", st.integers(1, 200), integer(1, 200)),)),
        ),
        1,
        _keys("messages", "left_out"),
        _UNKNOWN,
    ),
    Procedure(
        uris.MAILBOX_SEARCH,
        (
            Param(
                _OPTIONS,
                (
                    Field("words", st.lists(lines, max_size=3), list_of(text(1, 200), 16)),
                    Field("with", texts, or_none(is_text)),
                    Field("id", ids, or_none(is_id)),
                    Field("thread", ids, or_none(is_id)),
                    Field("since", instants, _INSTANT),
                    Field("until", instants, _INSTANT),
                    Field("encrypted", st.booleans(), _is_bool),
                    # Which places there are is the node's to know.
                    Field("after", st.just("agni:01234567:7"), _is_search_place),
                    Field("max", st.integers(1, 100), integer(1, 100)),
                ),
            ),
        ),
        0,
        _keys("messages", "more", "looked", "encrypted", "without_body"),
        _UNKNOWN | {"argument_invalid"},
    ),
    Procedure(uris.MAILBOX_STATUS, (_IDS,), 1, lambda answer: isinstance(answer, dict)),
    Procedure(
        uris.MAILBOX_ANSWER,
        (Param("id", good=ids, rule=is_id, plain="plain"),),
        1,
        lambda answer: isinstance(answer, dict) and answer.keys() in ({"state"}, {"state", "message"}),
        _UNKNOWN,
    ),
    Procedure(uris.MAILBOX_CANCEL, (_IDS,), 1, _each(_is_bool)),
    Procedure(
        uris.MAILBOX_CANARY,
        (Param("canary", (Field("id", ids, text(1, 128), required=True, plain="c-1"),)),),
        1,
        _is_bool,
    ),
    Procedure(uris.DIRECTORY_LIST, (), 0, _each(_IS_ENTRY)),
    Procedure(
        uris.DIRECTORY_GET,
        # What is no agent's name is told by its value.
        (Param("", good=st.sampled_from(AGENTS), rule=lambda v: isinstance(v, str) and v in AGENTS, plain="jay"),),
        1,
        _IS_ENTRY,
        frozenset({"agent_unknown"}),
    ),
    Procedure(
        uris.DIRECTORY_FIND,
        (
            Param(
                _OPTIONS,
                (
                    Field("capability", texts, or_none(is_text)),
                    Field(
                        "presence",
                        st.sampled_from(["online", "busy", "stale", "offline"]),
                        or_none(one_of("online", "busy", "stale", "offline")),
                    ),
                ),
            ),
        ),
        0,
        _each(_IS_ENTRY),
    ),
    Procedure(
        uris.DIRECTORY_BEAT,
        (
            Param(
                "beat",
                (
                    Field("sent_at", instants, integer(0, MAX_MS), required=True, plain=0),
                    Field("state", lines, or_none(line(1, 64))),
                    Field("busy_until", instants, _INSTANT),
                    Field("load", st.floats(0, 1e9), or_none(number(0, sys.float_info.max))),
                    Field("progress", lines, or_none(line(1, 1000))),
                ),
            ),
        ),
        1,
        _keys("received_at", "answered_at"),
    ),
    Procedure(
        uris.DIRECTORY_TURN,
        (
            Param(
                _OPTIONS,
                (
                    Field(
                        "state",
                        st.sampled_from(["open", "blocked", "closed"]),
                        or_none(one_of("open", "blocked", "closed")),
                    ),
                    Field("doing", lines, or_none(line(1, 900))),
                    Field("for_s", st.floats(0.1, 86400), number(0, 86400, above=True)),
                ),
            ),
        ),
        0,
        _keys("state", "doing", "since", "until"),
    ),
    Procedure(
        uris.AUDIT_QUERY,
        (
            Param(
                _OPTIONS,
                (
                    *(Field(name, texts, or_none(is_text)) for name in ("agent", "id", "node")),
                    Field(
                        "kind", st.sampled_from(KINDS), or_none(lambda value: isinstance(value, str) and value in KINDS)
                    ),
                    *(Field(name, instants, _INSTANT) for name in ("since", "until")),
                    Field("after", positions, _POSITION),
                    Field("limit", st.integers(1, 20), integer(1, 1000)),
                ),
            ),
        ),
        0,
        _keys("records", "more", "after"),
        _NODE_UNKNOWN,
        for_operators=True,
    ),
    Procedure(
        uris.AUDIT_RECORDS,
        (
            Param(
                _OPTIONS,
                (
                    Field("node", texts, or_none(is_text)),
                    # What is behind the newest record is refused, and how many there are is not known here.
                    Field("after", st.just(0), lambda value: None if _POSITION(value) else False),
                    Field("limit", st.integers(1, 20), integer(1, 1000)),
                    Field("bodies", st.booleans(), _is_bool),
                ),
            ),
        ),
        0,
        _keys("node", "origin", "epoch", "key", "previous", "records", "signature", "high_water"),
        _NODE_UNKNOWN,
        for_operators=True,
    ),
    Procedure(
        uris.ATTACHMENT_BEGIN,
        (_DIGEST, Param("size_bytes", good=st.just(5), rule=integer(0, 2**30), plain=5)),
        2,
        _IS_PART,
        # What is right by itself may be another size than was begun with, or more than there is room for.
        frozenset({"argument_invalid", "attachments_full", "attachment_damaged", "rate_limited"}),
    ),
    Procedure(
        uris.ATTACHMENT_PUT,
        (
            _DIGEST,
            Param("offset", good=st.integers(0, 5), rule=integer(0, 2**30), plain=0),
            Param("data", good=st.binary(min_size=1, max_size=5), rule=_is_piece, plain=b"12345"),
        ),
        3,
        _IS_PART,
        frozenset({"argument_invalid", "attachment_unknown", "attachment_damaged", "rate_limited"}),
    ),
    Procedure(
        uris.ATTACHMENT_OF,
        (
            Param("id", good=ids, rule=like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), plain="plain"),
            Param(_OPTIONS, (Field("from", texts, or_none(is_text)),)),
        ),
        1,
        _keys("digest", "size_bytes", "from", "chunk_bytes"),
        frozenset({"attachment_unknown"}),
    ),
    Procedure(
        uris.ATTACHMENT_GET,
        (
            Param("id", good=ids, rule=like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), plain="plain"),
            Param(
                _OPTIONS,
                (
                    Field("from", texts, or_none(is_text)),
                    Field("offset", st.integers(0, 9), integer(0, 2**30)),
                    Field("max_bytes", st.integers(1, 9), integer(1, 65_536)),
                ),
            ),
        ),
        1,
        _keys("data", "offset", "size_bytes"),
        frozenset({"attachment_unknown", "rate_limited"}),
    ),
    Procedure(
        uris.AUDIT_WHY,
        (
            Param("id", good=ids, rule=like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), plain="plain"),
            Param(_OPTIONS, (Field("from", texts, or_none(is_text)),)),
        ),
        1,
        _keys("messages"),
        _UNKNOWN,
    ),
    Procedure(
        uris.AUDIT_REDACT,
        (
            Param("id", good=ids, rule=like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), plain="plain"),
            Param(
                _OPTIONS,
                (
                    Field("reason", lines, line(1, 500), required=True, plain="because"),
                    Field("from", texts, or_none(is_text)),
                ),
            ),
        ),
        2,
        _keys("redacted", "already", "messages", "at", "by", "reason"),
        # Several senders may use an id; whose is meant must be said then.
        _UNKNOWN | {"argument_invalid"},
        for_operators=True,
    ),
    Procedure(uris.AUDIT_VERIFY, (), 0, _keys("records", "bodies", "ok", "damaged"), for_operators=True),
    Procedure(uris.NODE_STATUS, (), 0, _keys("node", "pid", "epoch", "high_water"), for_operators=True),
    Procedure(uris.NODE_READY, (), 0, _keys("ready", "node", "version", "checks"), for_operators=True),
    Procedure(
        uris.NODE_MAILBOXES,
        (
            Param(
                _OPTIONS,
                (
                    Field("agent", st.sampled_from(AGENTS), or_none(is_mailbox)),
                    Field("limit", st.integers(1, 1000), integer(1, 1000)),
                ),
            ),
        ),
        0,
        _each(_keys("address", "pending", "in_flight", "bytes", "oldest_at", "consumer", "senders")),
        for_operators=True,
    ),
    Procedure(
        uris.NODE_PEEK,
        (
            Param("address", good=st.sampled_from(AGENTS), rule=is_mailbox, plain="jay"),
            Param(
                _OPTIONS,
                (
                    Field("max", st.integers(1, 1000), integer(1, 1000)),
                    Field("after", st.lists(positions, min_size=2, max_size=2), or_none(is_place)),
                ),
            ),
        ),
        1,
        _keys("messages", "more", "after", "epoch", "high_water", "pending", "in_flight"),
        for_operators=True,
    ),
    Procedure(
        uris.NODE_OBJECTIVES,
        (
            Param(
                _OPTIONS,
                (
                    Field(
                        "windows",
                        st.lists(st.sampled_from(["5m", "1h", "30d"]), max_size=3),
                        or_none(list_of(one_of("5m", "1h", "24h", "7d", "30d"), 5)),
                    ),
                    Field("since", instants, _INSTANT),
                    Field("until", instants, _INSTANT),
                    Field("step_s", st.integers(60, 604_800), integer(60, 604_800)),
                ),
            ),
        ),
        0,
        _keys("node", "now", "targets", "verdicts", "windows", "outages", "maintenance", "triggers"),
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_MAINTENANCE,
        (
            Param("act", good=st.sampled_from(["start", "end"]), rule=one_of("start", "end"), plain="end"),
            Param(
                _OPTIONS,
                (
                    Field("for_s", st.integers(1, 60), number(1, 604_800)),
                    Field("reason", st.just("a new disk") | st.just(""), line(0, 200)),
                ),
            ),
        ),
        1,
        _keys("node", "maintenance"),
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_ARCHIVE,
        (
            Param(
                _OPTIONS,
                (
                    Field("older_than_s", st.just(86_400), or_none(number(10, 3650 * 86_400))),
                    Field("dry_run", st.booleans(), _is_bool),
                ),
            ),
        ),
        0,
        _keys("node", "records", "first", "last", "first_at", "last_at", "file"),
        for_operators=True,
    ),
    Procedure(
        uris.LEASE_CLAIM,
        (
            Param("scope", good=_scopes, rule=_is_scope, plain="task:plain"),
            Param(
                _OPTIONS,
                (
                    Field("shared", st.booleans(), _is_bool),
                    Field("note", st.just("renames"), line(0, 200)),
                    Field("ttl_s", st.integers(1, 60), number(1, 30 * 86_400)),
                    Field("wait_s", st.just(LONG_WAIT_S), number(0, 60)),
                    Field("queue", st.just(False), _is_bool),
                    Field("sure", st.booleans(), _is_bool),
                    Field("take_over", st.booleans(), _is_bool),
                    Field("use", st.just("renames"), line(0, 100)),
                ),
            ),
        ),
        1,
        _IS_LEASE,
        states=frozenset({"leases_exceeded", "lease_unsure", "rate_limited"}),
    ),
    Procedure(
        uris.LEASE_RENEW,
        (
            Param("lease", good=texts.filter(bool), rule=_is_lease_id, plain="plain"),
            Param(
                _OPTIONS,
                (
                    Field("ttl_s", st.integers(1, 60), or_none(number(1, 30 * 86_400))),
                    Field("use", st.just("renames"), line(0, 100)),
                ),
            ),
        ),
        1,
        _IS_LEASE,
        states=frozenset({"lease_unknown", "rate_limited"}),
    ),
    Procedure(
        uris.LEASE_RELEASE,
        (
            Param("lease", good=texts.filter(bool), rule=_is_lease_id, plain="plain"),
            Param(_OPTIONS, (Field("use", st.just("renames"), line(0, 100)),)),
        ),
        1,
        _IS_LEASE,
        states=frozenset({"lease_unknown"}),
    ),
    Procedure(
        uris.LEASE_LIST,
        (
            Param(
                _OPTIONS,
                (
                    Field("scope", _scopes, lambda v: None if _is_scope(v) else v is None),
                    Field("mine", st.booleans(), _is_bool),
                ),
            ),
        ),
        0,
        _each(_IS_LEASE),
        states=frozenset({"rate_limited"}),
    ),
    Procedure(
        uris.ADMIN_LEASE_RELEASE,
        (
            Param("lease", good=texts.filter(bool), rule=_is_lease_id, plain="plain"),
            Param(_OPTIONS, (Field("reason", st.just("the demo begins"), line(1, 400), required=True, plain="why"),)),
        ),
        2,
        _IS_LEASE,
        for_operators=True,
        states=frozenset({"lease_unknown"}),
    ),
    Procedure(uris.NODE_LOOPS, (), 0, _each(lambda one: isinstance(one, dict)), for_operators=True),
    Procedure(
        uris.ADMIN_LOOP_RELEASE,
        (Param("id", good=ids, rule=is_id, plain="plain"),),
        1,
        lambda answer: isinstance(answer, int),
        for_operators=True,
    ),
    Procedure(uris.NODE_ALERTS, (), 0, lambda answer: isinstance(answer, dict), for_operators=True),
    Procedure(uris.NODE_ALERT_TEST, (), 0, _each(lambda one: isinstance(one, dict)), for_operators=True),
    Procedure(
        uris.ADMIN_DEAD_LIST,
        (
            Param(
                _OPTIONS,
                (
                    Field("agent", texts, or_none(is_text)),
                    Field("limit", st.integers(1, 1000), integer(1, 1000)),
                    Field("after", positions, _POSITION),
                ),
            ),
        ),
        0,
        lambda answer: _keys("letters", "more")(answer) and _each(_IS_LETTER)(answer["letters"]),
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_DEAD_SHOW,
        (Param("seq", good=positions, rule=_POSITION, plain=1),),
        1,
        lambda answer: _IS_LETTER(answer) and "message" in answer,
        _UNKNOWN,
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_DEAD_REPLAY,
        (Param("seqs", good=st.lists(positions, max_size=3), rule=_SEQS, plain=[1]),),
        1,
        _each(_is_bool),
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_DEAD_PURGE,
        # A list, or a map in its place; DESIGN has no word for which.
        (
            Param(
                "",
                good=st.lists(positions, max_size=3),
                rule=lambda v: None if isinstance(v, dict) else _SEQS(v),
                plain=[1],
            ),
        ),
        1,
        lambda answer: isinstance(answer, int),
        for_operators=True,
    ),
    Procedure(uris.NODE_FALLBACK, (), 0, _IS_MODE, for_operators=True),
    Procedure(
        uris.ADMIN_FALLBACK,
        # Never "on": that others' messages are taken is part of what is tried here.
        (
            Param("mode", good=st.just("off"), rule=one_of("off"), plain="off"),
            Param(
                _OPTIONS,
                (
                    Field("reason", lines, line(1, 500), required=True, plain="tried"),
                    Field("sends", st.none(), lambda v: v is None),
                ),
            ),
        ),
        2,
        _IS_MODE,
        for_operators=True,
    ),
    Procedure(
        uris.ADMIN_MAILBOX_PURGE,
        # Names of nobody: the mail that others look for later must not end.
        (Param("agent", good=st.sampled_from(["nobody", "nobody_else"]), rule=is_agent_name, plain="nobody"),),
        1,
        lambda answer: isinstance(answer, int),
        for_operators=True,
    ),
)
