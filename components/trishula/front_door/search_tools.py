"""The tool by which a model finds messages again: those that it sent, and those that it was handed.

The node looks through its journal and answers each question within bounds; the tool asks a few times, so that a model
needs one call mostly. What is encrypted for us the node can't read: it is opened and looked into here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.binary import marked
from trishula.contract.encrypted import encrypted_for
from trishula.contract.message import Message
from trishula.contract.searched import says
from trishula.contract.units import parse_duration_s
from trishula.errors import ArgumentInvalid
from trishula.front_door.framing import NOTE, quoted, text_of

if TYPE_CHECKING:
    # Its type alone: the tools are built on these.
    from trishula.front_door.member import Member

__all__ = ["SEARCH_TOOLS", "SearchTools", "opened", "words_in"]

_ANSWER_S = 10.0
#: Questions to the node for one call of the tool, and when it asks no further.
_MOST_QUESTIONS = 8
_MOST_S = 15.0
#: Of a message so many characters are shown, around the first word that was found.
_EXCERPT_LETTERS = 300
_BEFORE_LETTERS = 100
_MOST_WORDS = 16

Instant = Annotated[
    str | None,
    Meta(description='A time such as "2026-11-29T10:00", or how long ago: "30m", "2h", "7d".'),
]


class SearchTools:
    """The tool; it is part of :class:`trishula.front_door.tools.Tools`.

    Attributes:
        member: the model's membership of the bus.
    """

    member: Member
    _letters: int

    async def search(
        self,
        words: Annotated[
            str, Meta(description='Each must occur in the subject or the text; "a phrase" in double quotes is one.')
        ] = "",
        agent: Annotated[str | None, Meta(description="Only what is between you and this agent.")] = None,
        thread: Annotated[str | None, Meta(description="Only in the thread of this message id.")] = None,
        since: Instant = None,
        until: Instant = None,
        most: Annotated[int, Meta(description="How many to show at most, the newest.", ge=1, le=50)] = 10,
        after: Annotated[
            str | None, Meta(description="Go on where an earlier search with the same words ended.")
        ] = None,
    ) -> str:
        """Find messages that you sent, or were given before, by words, agent, thread or time; the newest first.

        It shows the first words of each; thread shows them whole. It takes nothing: new mail comes by inbox.
        """
        now_ms = self.member.now_ms()
        asked: dict[str, Any] = {
            "words": words_in(words),
            "with": agent,
            "thread": thread,
            "since": _instant_ms(since, "since", now_ms),
            "until": _instant_ms(until, "until", now_ms),
            "encrypted": True,
        }
        asked = {key: value for key, value in asked.items() if value is not None}
        found: list[tuple[Message, str]] = []
        closed = 0
        until_s = self.member.clock.seconds() + _MOST_S
        for _ in range(_MOST_QUESTIONS):
            page = {"max": most - len(found), **({} if after is None else {"after": after})}
            told = await self.member.client.request(uris.MAILBOX_SEARCH, {**asked, **page}, timeout=_ANSWER_S)
            for one in told["messages"]:
                message = opened(self.member, one)
                if encrypted_for(message.payload) is not None and not _fits(message, asked["words"]):
                    closed += 1
                elif _fits(message, asked["words"]):
                    found.append((message, str(one["state"])))
            after = told["more"]
            if after is None or len(found) >= most or self.member.clock.seconds() >= until_s:
                break
        return found_told(found, asked["words"], closed, after, self._letters)


def opened(member: Member, told: Mapping[str, Any]) -> Message:
    """A message as a node told it again; one that is encrypted for us, and that we have the key of, decrypted."""
    message = msgspec.convert(told["message"], Message)
    if encrypted_for(message.payload) is None:
        return message
    # What we sent ourselves, and what we have no key for, stays as it is.
    return member.client.verified(message, told.get("signature")) or message


def _instant_ms(text: str | None, name: str, now_ms: int) -> int | None:
    if text is None:
        return None
    try:
        return now_ms - round(parse_duration_s(text) * 1000)
    except ValueError:
        pass
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ArgumentInvalid(
            f"{name} is {text!r}; it must be a time such as 2026-11-29T10:00, or how long ago, such as 2h"
        ) from None


def words_in(text: str) -> list[str]:
    """What is to be found: words, and phrases in double quotes."""
    found = [phrase or word for phrase, word in re.findall(r'"([^"]+)"|([^\s"]+)', text)]
    return [one[:200] for one in found[:_MOST_WORDS]]


def _fits(message: Message, words: Sequence[str]) -> bool:
    payload = msgspec.json.encode(marked(message.payload))
    return says(words, payload, subject=message.subject, procedure=message.procedure)


def found_told(
    found: Sequence[tuple[Message, str]], words: Sequence[str], closed: int, after: str | None, letters: int
) -> str:
    """What was found, a few lines each; another agent's text behind the mark."""
    lines, size, shown = [NOTE], len(NOTE) + 500, 0
    for message, state in found:
        told = _one_told(message, state, words)
        if shown and size + len(told) > letters:
            break
        lines.append(told)
        size += len(told)
        shown += 1
    if not found:
        lines = ["Nothing was found" + (" so far." if after else ".")]
    if shown < len(found):
        lines.append(f"({len(found) - shown} more have no room here: search with a smaller most)")
    if closed:
        lines.append(f"({closed} are encrypted, and can't be looked into here)")
    if after is not None:
        lines.append(f"There may be more: search with the same words and after={after}")
    return "\n".join(lines)


def _one_told(message: Message, state: str, words: Sequence[str]) -> str:
    when = "" if message.accepted_at is None else f", sent {local_time(message.accepted_at, 'seconds')}"
    answers = "" if message.reply_to is None else f", answers {message.reply_to}"
    head = f"{message.id} from {plain(message.sender or 'the node')} to {plain(message.to)} ({message.type}, {state}"
    lines = [f"{head}{answers}{when})"]
    if message.subject is not None:
        lines.append(quoted(f"subject: {message.subject}"))
    if text := _excerpt(text_of(message), words):
        lines.append(quoted(plain(text)))
    return "\n".join(lines)


def _excerpt(text: str, words: Sequence[str]) -> str:
    """The part of a text around the first word that stands in it."""
    places = [at.start() for word in words if (at := re.search(re.escape(word), text, re.IGNORECASE))]
    begin = max(0, min(places, default=0) - _BEFORE_LETTERS)
    part = text[begin : begin + _EXCERPT_LETTERS]
    return f"{'…' if begin else ''}{part}{'…' if begin + len(part) < len(text) else ''}"


#: In the order in which they are listed; it changes nothing.
SEARCH_TOOLS = ("search",)
