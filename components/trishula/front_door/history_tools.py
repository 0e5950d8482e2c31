"""The tools about what was before: threads, and for models of operators what became dead.

They take nothing, and say to nobody that the model has read something: what a thread shows the model sent, or was
handed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.front_door.arguments import MessageId
from trishula.front_door.framing import NOTE, framed, quoted

if TYPE_CHECKING:
    # Its type alone: the tools are built on these.
    from trishula.front_door.member import Member

__all__ = ["HISTORY_READS", "HISTORY_TOOLS", "HistoryTools"]

_ANSWER_S = 10.0
#: Of a thread each message may have so many characters; read shows the rest of one that is open.
_MESSAGE_LETTERS = 4000


class HistoryTools:
    """The tools; they are part of :class:`trishula.front_door.tools.Tools`.

    Attributes:
        member: the model's membership of the bus.
    """

    member: Member
    _letters: int

    def _cut(self, text: str) -> str:
        raise NotImplementedError

    async def thread(
        self,
        message_id: MessageId,
        most: Annotated[int, Meta(description="How many messages at most, the newest.", ge=1, le=100)] = 20,
    ) -> str:
        """Read again what a message belongs to: what it answers, what that answers, and all the answers.

        It shows what you sent and what you were given before, and takes nothing: new mail comes by inbox.
        """
        told = await self.member.client.request(uris.MAILBOX_THREAD, message_id, {"max": most}, timeout=_ANSWER_S)
        return thread_told(told, self._letters)

    async def dead_letters(
        self,
        agent: Annotated[str | None, Meta(description="Only those that were to this agent.")] = None,
        after: Annotated[int, Meta(description="Go on behind this number.", ge=0)] = 0,
    ) -> str:
        """Messages that nobody could deal with, and why; for operators only."""
        options: dict[str, Any] = {"after": after, "limit": 50}
        if agent is not None:
            options["agent"] = agent
        told = await self.member.client.request(uris.ADMIN_DEAD_LIST, options, timeout=_ANSWER_S)
        return self._cut(dead_told(told["letters"], more=bool(told["more"])))

    async def dead_replay(
        self,
        numbers: Annotated[list[int], Meta(description="Numbers that dead_letters shows.", min_length=1)],
    ) -> str:
        """Put dead letters back into their mailboxes, to be delivered anew; for operators only.

        Find out first why they died, or they die again.
        """
        replayed = await self.member.client.request(uris.ADMIN_DEAD_REPLAY, list(numbers), timeout=_ANSWER_S)
        return "\n".join(
            f"{number}: {'back in its mailbox' if was else 'no dead letter (any more), or its recipient is gone'}"
            for number, was in zip(numbers, replayed, strict=True)
        )


def thread_told(told: Mapping[str, Any], letters: int) -> str:
    """A thread in its frames, the oldest message first; what has no room is left out at the beginning."""
    pages: list[str] = []
    left, size = int(told["left_out"]), len(NOTE) + 200
    for number, one in enumerate(reversed(told["messages"])):
        message = msgspec.convert(one["message"], Message)
        page = f"{framed(message, 1, letters=_MESSAGE_LETTERS)}\nIt is {one['state']}."
        if pages and size + len(page) > letters:
            left += len(told["messages"]) - number
            break
        pages.append(page)
        size += len(page) + 1
    before = [f"({left} more of this thread are not shown: they are older, or gone)"] if left else []
    return "\n".join([NOTE, *before, *reversed(pages)])


def dead_told(found: Sequence[Mapping[str, Any]], *, more: bool) -> str:
    """The dead letters, two lines each."""
    if not found:
        return "No dead letters."
    lines = []
    for one in found:
        facts = f"{one['type']} {plain(one['id'])} from {plain(one['from'])} to {plain(one['to'])}"
        lines.append(f"{one['seq']}: {facts}, dead since {local_time(one.get('dead_at'), 'seconds')}")
        lines.append(quoted(plain(one.get("reason"))))
    if more:
        lines.append(f"There are more: dead_letters with after={found[-1]['seq']}.")
    return "\n".join(lines)


#: In the order in which they are listed.
HISTORY_TOOLS = ("thread", "dead_letters", "dead_replay")
#: Those that change nothing.
HISTORY_READS = frozenset({"thread", "dead_letters"})
