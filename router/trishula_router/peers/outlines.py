"""How much a peer's word holds, before it is read: from the heads of its lists and maps alone.

A word of a peer is msgpack, and to make objects of all that a megabyte can hold takes a tenth of a second, in one go,
while everybody waits. What is beyond anything that a node tells is found out in a hundredth of that.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["excess_of_journal", "excess_of_presence"]

#: So much is believed of a node: mailboxes that it delivers, processes that consume them; instances, which are only
#: looked up; agents, beside twice as many as are registered here; and of each the capabilities that an attach may have.
_MOST_TOLD = {"claims": 10_000, "holders": 10_000, "canaries": 10_000, "instances": 50_000}
_MOST_AGENTS = 1000
_CAPABILITIES_OF_AGENT = 256
#: Of a run: four times the records that nodes put into one. One record may tell of many messages that were replayed.
_MOST_IN_RUN = {
    "bodies": 2048,
    "origins": 4096,
    "revived": 100_000,
    "renewed": 100_000,
}
#: Records and messages of a run, beside two for each agent registered here: a broadcast, also one to agents of which we
#: know nothing yet, stays together in a run.
_MOST_RECORDS = 8192
_NO_LIST, _NO_MAP = msgspec.Raw(b"\x90"), msgspec.Raw(b"\x80")


class _Presence(msgspec.Struct):
    agents: msgspec.Raw
    claims: msgspec.Raw
    instances: msgspec.Raw
    capabilities: msgspec.Raw = _NO_LIST
    holders: msgspec.Raw = _NO_MAP
    canaries: msgspec.Raw = _NO_LIST


class _Run(msgspec.Struct):
    records: msgspec.Raw
    messages: msgspec.Raw
    bodies: msgspec.Raw
    revived: msgspec.Raw
    origins: msgspec.Raw
    renewed: msgspec.Raw = _NO_MAP


class _Journal(msgspec.Struct):
    extract: _Run


def excess_of_presence(text: bytes, registered: int) -> str | None:
    """Why a presence is not read: it holds more than a node has to tell; ``None`` if it holds no more.

    Args:
        text: msgpack.
        registered: how many agents this node knows.

    Raises:
        msgspec.MsgspecError: it is no presence.
    """
    agents = _MOST_AGENTS + 2 * registered
    most = {"agents": agents, "capabilities": _CAPABILITIES_OF_AGENT * agents, **_MOST_TOLD}
    return _excess(msgspec.msgpack.decode(text, type=_Presence), most)


def excess_of_journal(text: bytes, registered: int) -> str | None:
    """The same of a run of records.

    Args:
        text: msgpack.
        registered: how many agents this node knows.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    most = {**_MOST_IN_RUN, **dict.fromkeys(("records", "messages"), _MOST_RECORDS + 2 * registered)}
    return _excess(msgspec.msgpack.decode(text, type=_Journal).extract, most)


def _excess(outline: msgspec.Struct, most_of: Mapping[str, int]) -> str | None:
    for name, most in most_of.items():
        count = _count(getattr(outline, name))
        if count > most:
            return f"it tells of {count} {name}, and at most {most} mean anything"
    return None


def _count(raw: msgspec.Raw) -> int:
    """How many values a list or map of msgpack holds, by its head alone; 0 if it is neither."""
    head = bytes(memoryview(raw)[:5])
    if 0x80 <= head[0] <= 0x9F:
        return head[0] & 0x0F
    size = {0xDC: 2, 0xDE: 2, 0xDD: 4, 0xDF: 4}.get(head[0], 0)
    return int.from_bytes(head[1 : 1 + size], "big")
