"""Acceptance: what other cells send goes into this cell's journal, under the identity that it has there.

The cell that sends vouches for the sender: it has proved at its door who that is. Whether that sender may write to that
recipient this cell decides by its own file of agents, as a node does for each message; so an agent must be registered
here with its grants, too. An answer needs no grant if this cell knows the COMMAND and whom it was given to. Rates and
budgets were the sender's cell's to count. Sizes and mailboxes are this one's: what has no room here stays where it is,
and is sent again later.

Each letter gets an answer: how the message stands now. A message that is known here is not accepted again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trishula.contract.addresses import BROADCAST, agent_of, is_nodes_own
from trishula.contract.binary import is_marked_json, unmarked
from trishula.contract.encrypted import encrypted_for
from trishula.contract.message import Message, parse
from trishula.errors import (
    NodeFailed,
    RecipientForbidden,
    SenderFalse,
    StorageFailed,
    StorageFull,
    TrishulaError,
)
from trishula_router.cells.letters import LATER, REFUSED, UNKNOWN, Key, Mail, News
from trishula_router.mail.conversations import Conversations
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.recipients import Recipients, is_reply
from trishula_router.mail.repeats import reused
from trishula_router.mail.replies import Judgement, Pledge, Replies
from trishula_router.mail.room import Room
from trishula_router.settings.limits import Limits
from trishula_router.store.identity import content_digest, latest_use
from trishula_router.store.interface import Store
from trishula_router.store.messages import Accepted, Draft, StoredMessage

__all__ = ["Acceptance"]

_to_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Passed:
    """A message that is taken, on its way into the store."""

    mail: Mail
    wire: dict[str, Any]
    draft: Draft
    pledge: Pledge | None


class Acceptance:
    """See the module's docstring.

    Args:
        store, mailroom, room, recipients, replies, conversations: the node's.
        limits: sizes.
        ids_since: from when on ids are known at an instant (ms).
        now: the wall clock in ms.

    Attributes:
        accepted: how many messages were stored.
    """

    def __init__(
        self,
        store: Store,
        mailroom: Mailroom,
        room: Room,
        recipients: Recipients,
        replies: Replies,
        conversations: Conversations,
        limits: Limits,
        *,
        ids_since: Callable[[int], int],
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._mailroom = mailroom
        self._room = room
        self._recipients = recipients
        self._replies = replies
        self._conversations = conversations
        self._limits = limits
        self._ids_since = ids_since
        self._now = now
        self.accepted = 0

    async def take(self, cell: str, mails: Sequence[Mail]) -> list[News]:
        """Accept messages of a cell, or say why not; durably, when this answers.

        Returns:
            the news of each, in order.
        """
        with self._replies.looking():
            answers: dict[int, News] = {}
            notices = await self._known_notices(mails)
            raws = {index: _raw(mail) for index, mail in enumerate(mails)}
            judgements = await self._judge(mails, raws)
            passed: dict[int, _Passed] = {}
            for index, mail in enumerate(mails):
                if index in notices:
                    answers[index] = _news(mail, "done")
                    continue
                try:
                    passed[index] = self._admit(cell, mail, raws[index], judgements, index)
                except TrishulaError as error:
                    answers[index] = _refusal(mail, error)
            answers.update(await self._append(passed))
        return [answers[index] for index in range(len(mails))]

    async def how(self, key: Key) -> tuple[str, list[int]]:
        """How a message stands here, :data:`UNKNOWN` if it doesn't; and its positions."""
        found = latest_use(await self._with_key(key))
        return (found[-1].state_word, [one.position for one in found]) if found else (UNKNOWN, [])

    async def _with_key(self, key: Key) -> list[StoredMessage]:
        sender, message_id, to = key
        return [
            one
            for one in await self._store.with_ids([message_id])
            if agent_of(one.sender) == agent_of(sender) and one.recipient == to
        ]

    async def _known_notices(self, mails: Sequence[Mail]) -> set[int]:
        """Notices of other cells about messages that this cell has too: it writes its own."""
        notices = {index: mail for index, mail in enumerate(mails) if is_nodes_own(mail.id)}
        if not notices:
            return set()
        about: dict[int, object] = {index: _raw(mail).get("reply_to") for index, mail in notices.items()}
        found = await self._store.with_ids(list({text for text in about.values() if isinstance(text, str)}))
        known = {(one.id, agent_of(one.sender), agent_of(one.recipient)) for one in found}
        ends = {index: (about[index], agent_of(mail.to), agent_of(mail.sender)) for index, mail in notices.items()}
        return {index for index, end in ends.items() if end in known}

    async def _judge(self, mails: Sequence[Mail], raws: Mapping[int, Mapping[str, Any]]) -> dict[int, Judgement]:
        judgements: dict[int, Judgement] = {}
        for index, mail in enumerate(mails):
            if raws[index].get("reply_to") is None or is_nodes_own(mail.id):
                continue
            agent = agent_of(mail.sender)
            if self._replies.unclear(agent, [raws[index]]):
                judgements.update(await self._replies.judge(agent, {index: raws[index]}))
        return judgements

    def _admit(
        self,
        cell: str,
        mail: Mail,
        raw: Mapping[str, Any],
        judgements: Mapping[int, Judgement],
        index: int,
    ) -> _Passed:
        now = self._now()
        message = parse(raw, path="message", payload_limit_bytes=self._limits.payload_bytes)
        if (message.sender, message.id) != (mail.sender, mail.id):
            raise SenderFalse(f"the letter is about {mail.id} from {mail.sender}, and the message in it is another one")
        agent, pledge = agent_of(mail.sender), None
        if not is_nodes_own(mail.id):
            if is_reply(message):
                pledge = self._replies.pledge(agent, message, index, judgements)
            try:
                self._check_recipient(agent, mail, message, as_answer=pledge is not None and pledge.to_asker)
            except TrishulaError:
                if pledge is not None:
                    self._replies.withdrawn(pledge)
                raise
        wire = message.to_wire()
        wire["accepted_at"] = now
        envelope = _to_json(wire)
        try:
            self._room.take(mail.sender, (mail.to,), len(envelope), message.priority)
        except TrishulaError:
            if pledge is not None:
                self._replies.withdrawn(pledge)
            raise
        draft = Draft(
            mail.sender,
            mail.id,
            (mail.to,),
            message.type,
            message.priority,
            now + max(0, mail.left_ms),
            envelope,
            mail.by_deadline,
            "" if is_nodes_own(mail.id) else content_digest(wire),
            message.reply_to,
            mail.signature,
            encrypted_for(message.payload) is not None,
            f"cell {cell}",
            apart=message.to == BROADCAST,
        )
        if mail.signature:
            wire["signature"] = mail.signature
        return _Passed(mail, wire, draft, pledge)

    def _check_recipient(self, agent: str, mail: Mail, message: Message, *, as_answer: bool) -> None:
        found = self._recipients.find(agent, message, 0, as_answer=as_answer)
        if mail.to not in found:
            raise RecipientForbidden(f"the message is to {message.to}, and {mail.to} is none of those at this cell")

    async def _append(self, passed: Mapping[int, _Passed]) -> dict[int, News]:
        if not passed:
            return {}
        those, now = list(passed.values()), self._now()
        try:
            outcomes = await self._store.append([one.draft for one in those], now, ids_since=self._ids_since(now))
        except Exception as error:
            known = error if isinstance(error, StorageFull | StorageFailed) else NodeFailed("its log says why")
            for one in those:
                self._room.give_back(one.draft)
                self._fulfil(one, is_stored=False)
            if error is not known:
                raise
            return {index: _refusal(one.mail, known) for index, one in passed.items()}
        arrived: list[Entry] = []
        for one, outcome in zip(those, outcomes, strict=True):
            if outcome.duplicate or outcome.earlier is not None:
                self._room.give_back(one.draft)
            else:
                arrived.append(Entry.of_draft(one.draft, outcome, one.wire))
                reply_to = one.draft.reply_to
                if one.pledge is None:
                    self._conversations.note(one.draft.sender, one.draft.id, one.wire["to"], reply_to, now)
            self._fulfil(one, is_stored=outcome.earlier is None)
        self.accepted += len(arrived)
        self._mailroom.arrived(arrived)
        repeats = [outcome.positions[0] for outcome in outcomes if outcome.duplicate]
        stored = await self._store.at_positions(repeats) if repeats else {}
        return {
            index: _outcome(one, outcome, stored)
            for (index, one), outcome in zip(passed.items(), outcomes, strict=True)
        }

    def _fulfil(self, one: _Passed, *, is_stored: bool) -> None:
        if one.pledge is not None:
            (self._replies.stored if is_stored else self._replies.withdrawn)(one.pledge)


def _outcome(one: _Passed, outcome: Accepted, stored: Mapping[int, StoredMessage]) -> News:
    mail = one.mail
    if outcome.earlier is not None:
        return _refusal(mail, reused(agent_of(mail.sender), mail.id, 0, outcome.earlier))
    if not outcome.duplicate:
        return _news(mail, "accepted")
    known = stored.get(outcome.positions[0])
    if known is None or known.recipient != mail.to:
        sentence = f"the id {mail.id} of {mail.sender} names a message to another recipient at this cell"
        return _news(mail, REFUSED, sentence)
    return _news(mail, known.state_word)


def _news(mail: Mail, state: str, reason: str | None = None, retry_s: float | None = None) -> News:
    return News(
        ticket=mail.ticket,
        sender=mail.sender,
        id=mail.id,
        to=mail.to,
        state=state,
        reason=reason,
        retry_s=retry_s,
    )


def _refusal(mail: Mail, error: TrishulaError) -> News:
    return _news(mail, LATER if error.temporary else REFUSED, error.sentence, error.retry_after_s)


def _raw(mail: Mail) -> dict[str, Any]:
    """A message as its sender sent it: without what its cell put in, and with bytes for what is marked as such."""
    try:
        raw = msgspec.json.decode(mail.envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(raw, dict):
        return {}
    raw.pop("accepted_at", None)
    return {**raw, "payload": unmarked(raw.get("payload"))} if is_marked_json(mail.envelope) else raw
