"""Questions to the journal against the plainest model: the test's own book of what it sent, and what became of it.

Histories of sends, deliveries, acks, failures, cancels and refusals run through a node; then questions of all options
are asked, small pages at a time, and the answer must be the records that the book picks by hand.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula_router.agents.file import AgentEntry
from trishula_router.store.memory import MemoryStore

AGENTS = ("agni", "dc", "rushabdev")
SUBJECTS = (None, "Deploy it", "weekly report")
PROCEDURES = ("deploy", "plan")

_send = st.tuples(
    st.just("send"),
    st.sampled_from(AGENTS),
    st.sampled_from(AGENTS),
    st.sampled_from(["COMMAND", "STATUS"]),
    st.sampled_from(SUBJECTS),
    st.sampled_from(PROCEDURES),
)
_end = st.tuples(st.sampled_from(["ack", "return", "dead", "cancel"]), st.integers(0, 30), st.integers(1, 4))
_STEPS = st.lists(st.one_of(_send, _send, _end, st.tuples(st.just("refuse"), st.sampled_from(AGENTS))), max_size=25)


def maybe(values: Any) -> Any:
    return st.none() | st.sampled_from(values)


_QUESTIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "agent": st.sampled_from(AGENTS),
            "with": st.sampled_from(AGENTS),
            "id": st.sampled_from([f"m{index}" for index in range(8)]),
            "type": st.sampled_from(["COMMAND", "STATUS", "ERROR"]),
            "outcome": st.sampled_from(["done", "dead", "cancelled", "refused"]),
            "procedure": st.sampled_from(PROCEDURES),
            "subject": st.sampled_from(["DEPLOY", "report", "x"]),
            "kinds": st.lists(
                st.sampled_from(["accepted", "done", "dead", "refused", "joined", "delivered"]), max_size=3
            ),
        },
    ),
    min_size=1,
    max_size=6,
)


class Book:
    """What the test did, by id."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.sessions = {agent: rig.join(agent) for agent in AGENTS}
        self.messages: dict[str, dict[str, Any]] = {}
        self.out: list[tuple[str, str, str]] = []

    def step(self, step: tuple[Any, ...]) -> None:
        if step[0] == "send":
            _, sender, to, kind, subject, procedure = step
            one = {"id": f"m{len(self.messages)}", "to": to, "type": kind}
            one |= {} if subject is None else {"subject": subject}
            one |= {"procedure": procedure, "payload": {"args": [], "kwargs": {}}} if kind == "COMMAND" else {}
            self.messages[one["id"]] = {**one, "from": sender}
            self.rig.send(self.sessions[sender], one)
            told = self.rig.fetch(self.sessions[to])["deliveries"]
            self.out += [(one["message"]["id"], to, one["token"]) for one in told]
        elif step[0] == "refuse":
            self.rig.send(self.sessions[step[1]], {"id": "never", "to": "nobody_at_all"})
        else:
            for message_id, holder, token in [
                self.out.pop(step[1] % len(self.out)) for _ in range(step[2]) if self.out
            ]:
                if step[0] == "ack":
                    self.rig.ack(self.sessions[holder], token)
                elif step[0] == "cancel" and message_id in self.messages:
                    self.rig.call(self.sessions[self.messages[message_id]["from"]], uris.MAILBOX_CANCEL, [message_id])
                else:
                    self.rig.nack(self.sessions[holder], token, requeue=step[0] == "return")


def of_book(record: dict[str, Any], asked: dict[str, Any], messages: dict[int, dict[str, Any]]) -> bool:
    """Whether a record is one of those asked for, by the book."""
    if asked.get("kinds") and record["kind"] not in asked["kinds"]:
        return False
    parties = [asked[key] for key in ("agent", "with") if key in asked]
    rest = {key: asked[key] for key in ("id", "type", "outcome", "procedure", "subject") if key in asked}
    if not parties and not rest:
        return True
    listed = [one[0] if isinstance(one, list) else one for one in record.get("messages", ())]
    for position in [record["seq"], *listed]:
        one = messages.get(position)
        if (
            one is not None
            and all(party in (one["from"], one["to"]) for party in parties)
            and rest.get("id") in (None, one["id"])
            and rest.get("type") in (None, one["type"])
            and rest.get("outcome") in (None, one["state"])
            and rest.get("procedure") in (None, one.get("procedure"))
            and ("subject" not in rest or rest["subject"].lower() in (one.get("subject") or "").lower())
        ):
            return True
    if record["kind"] == "accepted" or set(rest) - {"outcome"} or rest.get("outcome", "refused") != "refused":
        return False
    if rest and record["kind"] != "refused":
        return False
    return all(party in (record.get("agent"), record.get("to"), record.get("by")) for party in parties)


@given(_STEPS, _QUESTIONS, st.integers(1, 4))
@settings(max_examples=150)
def test_answers_are_those_of_the_book(steps: list[Any], questions: list[dict[str, Any]], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        registered = {**dict.fromkeys(AGENTS, AgentEntry()), "boss": AgentEntry(operator=True)}
        rig = Rig(Path(folder), MemoryStore("epoch-1"), Clock(), agents=registered).start()
        book = Book(rig)
        for step in steps:
            book.step(step)
        boss = rig.join("boss", operator=True)
        everything = rig.call(boss, uris.AUDIT_QUERY, {"limit": 1000})["records"]
        messages = {}
        for record in everything:
            if record["kind"] == "accepted":
                known = book.messages.get(record["id"], {})
                (told,) = [
                    life["state"]
                    for life in rig.call(boss, uris.AUDIT_WHY, record["id"])["messages"]
                    if life["seq"] == record["seq"]
                ]
                messages[record["seq"]] = {
                    **known,
                    **{key: record[key] for key in ("from", "to", "id", "type")},
                    "state": told,
                }
        for question in questions:
            found: list[dict[str, Any]] = []
            after, more = 0, True
            while more:
                told = rig.call(boss, uris.AUDIT_QUERY, {**question, "after": after, "limit": limit})
                found += told["records"]
                more, after = told["more"], told["after"]
            assert found == [record for record in everything if of_book(record, question, messages)], question
        rig.crash()
