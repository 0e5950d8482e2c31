"""Repeats: what a sender is told of a message whose id its agent has used already.

An equal message is a repeat and gets the receipt of the first one, also if the node would refuse it by now: a sender
that lost its receipt must not be told that its message was refused because, since then, the mailbox filled up or the
recipient's instance is gone. Another message is refused for good, with a sentence that names the first one. What is
equal, and for how long an id is known, is decided in :mod:`trishula_router.store.identity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.logger import Logger

from trishula.contract.addresses import BROADCAST
from trishula.contract.message import Message
from trishula.errors import IdReused, StorageFailed, StorageFull
from trishula_router.mail.receipts import Receipts
from trishula_router.store.identity import Key, content_digest, earlier, is_known, key_of, latest_use, repeated
from trishula_router.store.interface import Store
from trishula_router.store.messages import Draft, Earlier, StoredMessage

__all__ = ["Repeats", "reused"]

log = Logger()

#: The last second of the year 9999: a peer's clock may claim any.
_LAST_S = 253_402_300_799


class Repeats:
    """Looks for them among what is stored.

    Args:
        store: what is durable.
        receipts: writes what senders are told.
        everybody: who gets a broadcast of an agent now.
        ids_since: from when on ids are known at an instant (ms).
    """

    def __init__(
        self,
        store: Store,
        receipts: Receipts,
        everybody: Callable[[str], Iterable[str]],
        ids_since: Callable[[int], int],
    ) -> None:
        self._store = store
        self._receipts = receipts
        self._everybody = everybody
        self._ids_since = ids_since

    async def among(self, agent: str, refused: Mapping[int, Message], now: int) -> dict[int, dict[str, Any]]:
        """The receipts of those that were refused and whose ids are known.

        Args:
            agent: the sender's.
            refused: messages by their place in the call.
            now: ms.
        """
        stored = await self._with_ids([message.id for message in refused.values()])
        told: dict[int, dict[str, Any]] = {}
        broadcasts: dict[int, str] = {}
        for index, message in refused.items():
            known = latest_use(stored.get((agent, message.id), ()))
            if not is_known(known, self._ids_since(now), now):
                continue
            same = repeated(known, _draft_of(message, known))
            if not same:
                error = reused(agent, message.id, index, earlier(known))
                told[index] = self._receipts.refusal(message.id, error)
                continue
            told[index] = self._receipts.of(message.id, "duplicate", same[0].position)
            if message.to == BROADCAST:
                broadcasts[index] = message.id
        for index, missed in self._missed(agent, broadcasts, stored).items():
            told[index]["missed"] = missed
        return told

    async def missed(self, agent: str, broadcasts: Mapping[int, str]) -> dict[int, list[dict[str, Any]]]:
        """Of repeated broadcasts, by their place in the call: who has no copy, as receipts say it."""
        stored = await self._with_ids(list(broadcasts.values())) if broadcasts else {}
        return self._missed(agent, broadcasts, stored) if stored else {}

    async def _with_ids(self, ids: Sequence[str]) -> dict[Key, list[StoredMessage]]:
        found: dict[Key, list[StoredMessage]] = {}
        try:
            for stored in await self._store.with_ids(ids):
                found.setdefault(key_of(stored), []).append(stored)
        except (StorageFull, StorageFailed):
            log.failure("the node could not look whether messages are repeats")
        return found

    def _missed(
        self, agent: str, broadcasts: Mapping[int, str], stored: Mapping[Key, Sequence[StoredMessage]]
    ) -> dict[int, list[dict[str, Any]]]:
        told: dict[int, list[dict[str, Any]]] = {}
        for index, message_id in broadcasts.items():
            have = {copy.recipient for copy in latest_use(stored.get((agent, message_id), ()))}
            reason = "has no copy of it: its mailbox was full, or it was registered later"
            missed = [{"to": to, "detail": f"{to} {reason}"} for to in self._everybody(agent) if to not in have]
            if missed:
                told[index] = missed
        return told


def reused(agent: str, message_id: str, index: int, first: Earlier) -> IdReused:
    """The refusal of another message under an id, which names the one that was first."""
    at = datetime.fromtimestamp(min(first.accepted_at // 1000, _LAST_S), UTC)
    return IdReused(
        f'messages[{index}].id is "{message_id}", and {agent} has used it already, for the {first.type} to {first.to} '
        f"that was accepted at {at:%Y-%m-%d %H:%M:%S} UTC; this is another message: take another id for it"
    )


def _draft_of(message: Message, known: Sequence[StoredMessage]) -> Draft:
    """A message that was refused, as far as it takes to tell whether it repeats what is known under its key."""
    # Who a broadcast goes to now is not who it went to then.
    recipients = [stored.recipient for stored in known] if message.to == BROADCAST else [message.to]
    digest = content_digest(message.to_wire())
    return Draft(str(message.sender), message.id, tuple(recipients), message.type, 0, 0, b"", digest=digest)
