"""The resources of the front door: what a client can read and show its user or its model, without a call of a tool.

A client reads a resource when it likes, and may show it to nobody; so reading one settles nothing, takes nothing, and
never counts as *surfaced*: no sender is told that a model has a message because of it. So that no model gets by a
resource what it would then get again as new mail, ``inbox`` says who wrote and not what, and ``message`` and
``thread`` have what the agent sent, or was handed before. Text of others is framed as in the tools' answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.addresses import is_message_id
from trishula.errors import ArgumentInvalid, MessageUnknown
from trishula.front_door.framing import NOTE, framed
from trishula.front_door.search_tools import opened
from trishula.front_door.tools import Tools
from trishula.front_door.wording import open_told

__all__ = ["RESOURCES", "SCHEME", "TEMPLATES", "Described", "read_resource"]

SCHEME = "trishula"
_ANSWER_S = 10.0
_MOST_HEADS = 50


@dataclass(frozen=True, slots=True)
class Described:
    """A resource, or a template of some, as a client lists it."""

    uri: str
    name: str
    description: str


RESOURCES = (
    Described(f"{SCHEME}://inbox", "inbox", "How much mail waits for you, and from whom; the tool inbox takes it."),
    Described(f"{SCHEME}://agents", "agents", "The agents of the bus: who is there, and what each can do."),
)
TEMPLATES = (
    Described(
        f"{SCHEME}://message/{{id}}",
        "message",
        "A message that you sent or were handed; the rest of a long one: ?begin=N.",
    ),
    Described(
        f"{SCHEME}://thread/{{id}}", "thread", "What a message belongs to, as far as you sent it or were handed it."
    ),
)


async def read_resource(tools: Tools, uri: str) -> str:
    """What a resource says.

    Raises:
        ArgumentInvalid: there is no such resource.
        MessageUnknown: there is no such message that the agent sent or was handed.
        TrishulaError: the node says no, or there is none.
    """
    parts = urlsplit(uri)
    place, query = parts.path.strip("/"), parse_qs(parts.query)
    if parts.scheme == SCHEME and not place and parts.netloc in _WHOLE:
        return await _WHOLE[parts.netloc](tools)
    message_id = unquote(place)
    if parts.scheme == SCHEME and parts.netloc in ("message", "thread") and is_message_id(message_id):
        if parts.netloc == "thread":
            return await tools.thread(message_id)
        begin = query.get("begin", ["0"])[-1]
        if begin.isascii() and begin.isdigit():
            return await _message(tools, message_id, int(begin))
    known = ", ".join(one.uri for one in (*RESOURCES, *TEMPLATES))
    raise ArgumentInvalid(f"there is no resource {plain(uri)}; there are {known}")


async def _inbox(tools: Tools) -> str:
    member = tools.member
    told = await member.client.request(uris.MAILBOX_PEEK, {"max": _MOST_HEADS}, timeout=_ANSWER_S)
    lines = [f"{told['pending']} messages wait for you on the node, as of its record {told['high_water']}."]
    for one in told["messages"]:
        head = one["message"]
        if one["state"] != "delivered":
            sender, priority = plain(head.get("from") or "the node"), head.get("priority", 3)
            at = head.get("accepted_at")
            when = "" if at is None else f", sent {local_time(at, 'seconds')}"
            lines.append(f"{head['id']} from {sender} ({head['type']}, priority {priority}{when})")
    if told["pending"]:
        lines.append("Take them by the tool inbox.")
    return "\n".join(filter(None, [*lines, open_told(member.desk.open)]))


async def _agents(tools: Tools) -> str:
    return await tools.agents()


async def _message(tools: Tools, message_id: str, begin: int) -> str:
    member, pages = tools.member, []
    if any(item.message.id == message_id for item in member.desk.waiting):
        raise MessageUnknown(f"{message_id} was not shown yet: the tool inbox shows it")
    told = await member.client.request(uris.MAILBOX_SEARCH, {"id": message_id}, timeout=_ANSWER_S)
    letters = tools.letters // max(1, len(told["messages"])) - 500
    for one in told["messages"]:
        pages += [framed(opened(member, one), 1, begin=begin, letters=letters), f"It is {one['state']}."]
    if not pages:
        raise MessageUnknown(
            f"there is no message {message_id} that you sent or were handed; new mail comes by the tool inbox"
        )
    return "\n".join([NOTE, *pages])


_WHOLE: dict[str, Callable[[Tools], Awaitable[str]]] = {"inbox": _inbox, "agents": _agents}
