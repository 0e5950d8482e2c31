"""Questions about what happened: the states of messages, the whole life of one, the journal.

An agent may ask about messages it sent or received; an operator about all. Answers hold ids, sizes, states and times,
never bodies. A record is told by its node (``node``) and its number there (``seq``), as in receipts. Records of other
nodes are told from the copies that are here; ``missing`` names the nodes that can't be reached now, of which there may
be newer ones. Records that list messages name them by ``seq``, if this node accepted them, and else by the
``position`` that is told with the other node's record of their acceptance.

A record's ``at`` is what its node wrote, by its own clock (:mod:`.told_records`); the instants of a message are this
node's. How records are searched for is in :mod:`.journal_search`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from trishula.contract.addresses import BROADCAST, Address, is_capability, is_nodes_own
from trishula.errors import MessageUnknown
from trishula.evidence.archive import Archive
from trishula_router.archiving.tracing import MessageTraces
from trishula_router.archiving.walking import ArchiveWalk
from trishula_router.mail.archive_search import ArchiveSearch, InThread
from trishula_router.mail.archived_lives import ArchivedLives
from trishula_router.mail.endings import Endings
from trishula_router.mail.journal_search import JournalSearch
from trishula_router.mail.mailroom import is_party
from trishula_router.mail.told_records import ToldRecords, here_at
from trishula_router.store.identity import Key, key_of, latest_use
from trishula_router.store.interface import History, Store, Verification
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Record, is_own
from trishula_router.store.messages import State, StoredMessage

__all__ = ["Audit", "told_verification"]

#: Damages told in one answer: a page that can't be read may hit thousands, and an answer is one WebSocket message.
_TOLD_LIMIT = 10_000


class Audit:
    """Answers from the store.

    Args:
        node: the node's name.
        store: with the node's own journal, and copies of others.
        endings: cancels.
        missing: the nodes of whose journals there may be more than is here, see :meth:`Peering.missing`.
        ahead_ms: by how much the clock of a node is ahead of this one's; ``None`` if that isn't known.
        warning: of a capability: what to say if nobody who is present has it.
        unread: of a message's position: what to say if a model has not had it in time.
        archived_in: the archive segment that has a record of this node's, if one has it.
        archive: of this node's journal.
        in_thread: has that done.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        endings: Endings,
        *,
        missing: Callable[[], list[dict[str, Any]]],
        ahead_ms: Callable[[str], int | None],
        warning: Callable[[str], str | None],
        unread: Callable[[int], str | None],
        archived_in: Callable[[int], str | None] = lambda position: None,
        archive: Archive,
        in_thread: InThread,
    ) -> None:
        self._node = node
        self._store = store
        self._endings = endings
        self._missing = missing
        self._warning = warning
        self._unread = unread
        #: Of an open message, by its position and recipient: what to say if it is on its way to another cell.
        self.remark: Callable[[int, str], str | None] = lambda position, address: None
        self._archived_in = archived_in
        self._records = ToldRecords(node, store, ahead_ms)
        archived = ArchiveSearch(ArchiveWalk(archive), in_thread, store, self._records)
        self._search = JournalSearch(node, store, self._records, missing, archived)
        #: Answers what the store doesn't tell any more.
        self.archived_lives = ArchivedLives(node, MessageTraces(archive), in_thread, store, self._event)
        #: See :meth:`.ToldRecords.follow_clock`.
        self.follow_clock = self._records.follow_clock
        #: See :meth:`.JournalSearch.query`.
        self.query = self._search.query

    async def status(self, agent: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The states of messages that the agent sent or received; ids it has nothing to do with are left out.

        A broadcast has one entry with a state for each recipient, in ``recipients``; its own ``state`` is the one that
        is furthest from done. If several senders used an id, the entry tells of the agent's own message, or else of the
        latest that it received; if an id was used again after it was forgotten, of the latest use.
        """
        by_key: dict[Key, list[StoredMessage]] = {}
        for message in await self._store.with_ids(ids):
            if is_party(agent, message):
                by_key.setdefault(key_of(message), []).append(message)
        latest = {key: latest_use(found) for key, found in by_key.items()}

        def weight(key: Key) -> tuple[bool, int]:
            return key[0] == agent, latest[key][0].position

        return {key[1]: _state_of_all(latest[key]) for key in sorted(latest, key=weight)}

    async def cancel(self, agent: str, ids: Sequence[str]) -> list[bool]:
        """Cancel what the agent sent and is not settled; of a broadcast, for all recipients that are not."""
        own = [
            message
            for message in await self._store.with_ids(ids)
            # What the node says in an agent's name is not the agent's to take back.
            if Address.parse(message.sender).agent == agent and not is_nodes_own(message.id)
        ]
        cancelled = await self._endings.cancel([message.position for message in own])
        done = {message.id for message, was in zip(own, cancelled, strict=True) if was}
        return [message_id in done for message_id in ids]

    async def why(self, agent: str, message_id: str, sender: str | None, *, operator: bool) -> dict[str, Any]:
        """The life of each message of that id.

        Raises:
            MessageUnknown: there is none, or none that the caller may know of.
        """
        lives = [
            history
            for history in await self._store.history(message_id)
            if (operator or is_party(agent, history.message)) and sender in (None, history.message.sender)
        ]
        if not lives:
            known, more = ("", "") if operator else (f" that {agent} sent or received", ", or ask as an operator")
            raise MessageUnknown(
                f"there is no message {message_id}{known} at this node{self._before_base()}; check the id{more}"
            )
        return {"messages": [self._life(history) for history in lives], "missing": self._missing()}

    def _before_base(self) -> str:
        """What this node's store doesn't tell, because it is in its archive alone."""
        base = self._store.base().sequence
        if not base:
            return ""
        return f", whose records up to {base} are in its archive alone"

    def _archived(self, message: StoredMessage) -> dict[str, Any]:
        """Where the records of a message are if they are here no more."""
        node, sequence = self._store.place(message.position)
        if sequence > self._store.base(message.position >> ORIGIN_SHIFT).sequence:
            return {}
        if not is_own(message.position):
            return {"archived": f"its first records are in the archive of {node}: ask there"}
        name = self._archived_in(message.position)
        if name is None:
            return {"archived": "its first records were in an archive segment that is not there any more"}
        return {"archived": f"its first records are in the archive segment {name}", "archived_here": True}

    def _life(self, history: History) -> dict[str, Any]:
        message = history.message
        node, sequence = self._store.place(message.position)
        events = [self._event(record, message.position) for record in history.records]
        # What clocks nobody knows say of it: it was accepted before all else.
        events.sort(key=lambda event: ((event["node"], event["seq"]) != (node or self._node, sequence), here_at(event)))
        by_here = {event["at"]: here_at(event) for event in events}
        waits = message.state is State.OPEN and is_capability(message.recipient)
        warning = (self._warning(message.recipient) if waits else None) or self._unread(message.position)
        if warning is None and message.state is State.OPEN:
            warning = self.remark(message.position, message.recipient)
        return {
            **_state(message),
            "delivered_at": by_here.get(message.delivered_at, message.delivered_at),
            "settled_at": by_here.get(message.settled_at, message.settled_at),
            "surfaced_at": by_here.get(message.surfaced_at, message.surfaced_at),
            **({} if warning is None else {"warning": warning}),
            **(
                {}
                if any(record.position == message.position for record in history.records)
                else self._archived(message)
            ),
            "id": message.id,
            "type": message.type,
            "priority": message.priority,
            "node": node or self._node,
            "seq": sequence,
            "failures": message.failures,
            "expires_at": message.expires_at,
            "bytes": message.size_bytes,
            "events": events,
        }

    def _event(self, record: Record, position: int) -> dict[str, Any]:
        """A record as it concerns one message: without the others of its batch."""
        facts = msgspec.json.decode(record.facts)
        listed = facts.pop("messages", ())
        for name in _ONE_EACH.keys() & facts.keys():
            of_each = dict(zip(listed, facts.pop(name), strict=False))
            if position in of_each:
                facts[_ONE_EACH[name]] = of_each[position]
        for one in listed:
            if isinstance(one, list) and one[0] == position:
                if record.kind in ("delivered", "surfaced"):
                    facts["attempt"] = one[1]
                else:
                    facts["failures"], facts["due_at"] = one[1], one[2]
        if record.kind == "handed":
            facts["reason"] = f"handed to {facts.get('keeper')}, where an agent can do it"
        return self._records.told(record, facts)

    async def verify(self) -> dict[str, Any]:
        """Check the chain and the checksums of all bodies."""
        told = told_verification(await self._store.verify())
        more = len(told["damaged"]) - _TOLD_LIMIT
        if more > 0:
            del told["damaged"][_TOLD_LIMIT:]
            said = f"and {more} more: trishula node verify names them all"
            told["damaged"].append({"seq": 0, "what": said})
        return told


def told_verification(verification: Verification) -> dict[str, Any]:
    """A check's outcome as it is told: of each damage the record's number, a sentence, and whose message it hit."""
    return {
        "records": verification.records,
        "bodies": verification.bodies,
        "ok": not verification.damages,
        "damaged": [
            {"seq": damage.position & SEQUENCE_MASK, "what": damage.what}
            | ({} if damage.id is None else {"id": damage.id, "from": damage.sender})
            for damage in verification.damages
        ],
    }


#: Facts with a value for each message of the record's batch, and what the value of one is called.
_ONE_EACH = {"lives": "life", "expires_at": "expires_at", "hops": "hop"}

#: From the furthest from done to done.
_FURTHEST_FIRST = ("accepted", "delivered", "dead", "expired", "cancelled", "done")


def _state_of_all(messages: Sequence[StoredMessage]) -> dict[str, Any]:
    """The state of a message, as all its recipients have it."""
    furthest = min(messages, key=lambda message: _FURTHEST_FIRST.index(message.state_word))
    told = _state(furthest)
    if len(messages) > 1:
        told["to"] = BROADCAST
        told["recipients"] = {message.recipient: message.state_word for message in messages}
    return told


def _state(message: StoredMessage) -> dict[str, Any]:
    return {
        "state": message.state_word,
        "from": message.sender,
        "to": message.recipient,
        "accepted_at": message.accepted_at,
        "delivered_at": message.delivered_at,
        "settled_at": message.settled_at,
        "surfaced_at": message.surfaced_at,
        "attempts": message.attempts,
    }
