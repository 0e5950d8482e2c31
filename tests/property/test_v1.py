"""Any message survives being a file of v1, and any file is a message or one sentence."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.message import Message, MessageType
from trishula.errors import FileInvalid
from trishula.files.file_names import Kind, kind_of
from trishula.files.v1 import Names, decode_v1, encode_v1, file_name_of

NAMES = Names()
MOST_MS = (1 << 53) - 1

agents = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("mac", "broadcast", "capability")
)
addresses = agents | st.builds(lambda agent: f"{agent}/7f3a", agents)
ids = st.from_regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
payloads = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53) + 1, (1 << 53) - 1) | st.floats(allow_nan=False,
                                                                                        allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
kinds: st.SearchStrategy[MessageType] = st.sampled_from(["COMMAND", "STATUS", "RESULT", "ERROR", "HEARTBEAT"])
instants = st.integers(0, MOST_MS)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(kinds)
    maybe: dict[str, st.SearchStrategy[Any]] = {
        "timestamp": instants, "reply_to": ids, "seq": instants,
        "subject": st.sampled_from(["s", "Ärger 🙂", "x" * 200]),
        "ttl_ms": st.integers(1, MOST_MS), "deadline_at": instants, "accepted_at": instants,
        "traceparent": st.just("00-a-b-01"), "payload": payloads,
    }  # fmt: skip
    if kind == "COMMAND":
        maybe["procedure"] = st.just("host_report")
    more = {key: draw(values) for key, values in maybe.items() if draw(st.booleans())}
    to = draw(addresses | st.sampled_from(["broadcast", "capability:deploy"]))
    return Message(
        type=kind, id=draw(ids), sender=draw(addresses), to=to, priority=draw(st.integers(1, 5)), **more
    )  # fmt: skip


@given(messages())
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode_v1(encode_v1(message, NAMES), NAMES) == message


@given(st.binary(max_size=200) | payloads.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_in_a_file_it_is_a_message_or_one_sentence(data: bytes) -> None:
    try:
        decode_v1(data, NAMES)
    except FileInvalid as error:
        assert "\n" not in error.sentence


@given(st.lists(st.tuples(ids, agents), unique=True, min_size=2, max_size=2))
def test_two_messages_never_have_one_name_also_where_case_doesn_t_count(pair: list[tuple[str, str]]) -> None:
    names = [file_name_of(*one) for one in pair]
    assert all(kind_of(name) is Kind.MESSAGE and "/" not in name for name in names)
    if names[0].casefold() == names[1].casefold():
        # Of the bus's own ids and those of v1 alone: each is one sender's.
        assert pair[0][0] == pair[1][0] == names[0].removesuffix(".json")


KEYS = ("id", "from", "to", "type", "priority", "subject", "body", "timestamp", "reply_to", "trishula")


@given(st.dictionaries(st.sampled_from(KEYS), payloads | ids, max_size=10))
def test_any_object_is_a_message_or_one_sentence(fields: dict[str, Any]) -> None:
    try:
        message = decode_v1(json.dumps(fields).encode(), NAMES)
    except FileInvalid:
        return
    assert decode_v1(encode_v1(message, NAMES), NAMES) == message
