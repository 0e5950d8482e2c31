"""The lives of messages out of a node's archive, for ``trishula why``: a segment at a time, and put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula.errors import KeyUnknown, NodeBusy

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["add_archived", "is_in_archive", "read_archive"]

#: How long a node may take for a segment, if it reads others first.
_ASK_S = 60.0
#: How often a node may have forgotten how far it was, because others ask for many ids.
_RESTARTS = 3

#: Of which message a life is.
_KEYS = ("from", "to", "node", "seq")


def is_in_archive(told: dict[str, Any]) -> bool:
    """Whether a node's answer says that a part of what it tells is in its own archive."""
    return any(life.get("archived_here") for life in told.get("messages", ()))


def read_archive(
    bus: Bus, message_id: str, sender: str | None, progress: Callable[[float], None]
) -> dict[str, Any] | None:
    """What a node's archive tells of a message; ``None`` if it has none, or the node is of a release before.

    Args:
        bus: asks.
        message_id: the id.
        sender: whose message.
        progress: told how far it is, from 0 to 1.

    Raises:
        NodeBusy: it forgets how far it was, again and again.
    """
    told: dict[str, Any] = {"messages": [], "archive_faults": [], "base": 0}
    options = {"archive": True} if sender is None else {"from": sender, "archive": True}
    after, more, restarts = 0, True, 0
    while more:
        try:
            page = bus.request(uris.AUDIT_WHY, message_id, {**options, "after": after}, timeout=_ASK_S)
        except KeyUnknown:
            return None
        add_archived(told, page)
        told["archive_faults"] += [one for one in page.get("archive_faults", ()) if one not in told["archive_faults"]]
        told["base"] = page["base"]
        restarts += page["after"] <= after and bool(page["more"])
        if restarts > _RESTARTS:
            raise NodeBusy("the node reads its archive for many others now; ask again in some minutes")
        after, more = page["after"], page["more"]
        progress(after / max(1, page["base"]))
    return told if told["base"] else None


def add_archived(told: dict[str, Any], page: dict[str, Any]) -> None:
    """Put the lives of a further answer into those of the first: each record once, in the order of time."""
    lives = {tuple(life.get(key) for key in _KEYS): life for life in told["messages"]}
    for new in page["messages"]:
        life = lives.get(tuple(new.get(key) for key in _KEYS))
        if life is None:
            told["messages"].append(dict(new))
            continue
        known = {(event["node"], event["seq"]) for event in life["events"]}
        events = [*life["events"], *(event for event in new["events"] if (event["node"], event["seq"]) not in known)]
        events.sort(key=lambda event: (event["kind"] != "accepted", event["at"], event["seq"]))
        if "archived_here" in life:
            # What the store still says of a message is the latest.
            said = {key: value for key, value in life.items() if value is not None}
            new = {key: value for key, value in {**new, **said}.items() if key not in ("archived", "archived_here")}
        life.clear()
        life.update({**new, "events": events})
