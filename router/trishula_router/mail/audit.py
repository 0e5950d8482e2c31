"""Questions about what happened: the states of messages, the whole life of one, the journal.

An agent may ask about messages it sent or received; an operator about all. Answers hold ids, sizes, states and times,
never bodies. A record is told by its node (``node``) and its number there (``seq``), as in receipts. Records of other
nodes are told from the copies that are here; ``missing`` names the nodes that can't be reached now, of which there may
be newer ones. Records that list messages name them by ``seq``, if this node accepted them, and else by the
``position`` that is told with the other node's record of their acceptance.

A record's ``at`` is what its node wrote, by its own clock. Where that clock is known to differ from this node's now,
the record says by how much (``clock_ahead_ms``); records of several nodes are ordered by that, and the instants of a
message are this node's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from trishula.contract.addresses import BROADCAST, Address, is_capability, is_nodes_own
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, MessageUnknown, NodeUnknown
from trishula_router.clocks.peer_clocks import TOLERATED_MS
from trishula_router.mail.endings import Endings
from trishula_router.mail.mailroom import got, is_of
from trishula_router.store.facts import POSITION_LISTS
from trishula_router.store.identity import Key, key_of, latest_use
from trishula_router.store.interface import History, Store, Verdict
from trishula_router.store.journal import SEQUENCE_MASK, Kind, Record
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.origins import position_in

__all__ = ["Audit", "told_verdict"]

#: Records read from the store at a time, while looking for those that a question asks for.
_PAGE = 2000
#: The kinds of records that a question may name.
_KINDS = frozenset(map(str, Kind))
#: Records looked at for one question; then the answer says where to go on.
_LOOK_LIMIT = 50_000

#: As a question's ``node``: the journals of all.
ALL_NODES = "*"

#: Damages told in one answer: a page that can't be read may hit thousands, and an answer is one WebSocket message.
_TOLD_LIMIT = 10_000


def _is_party(agent: str, message: StoredMessage) -> bool:
    return is_of(agent, message.sender) or got(agent, message)


class Query(Protocol):
    """What is asked of the journal: records that fit all that is not ``None``; see ``trishula.audit.query``."""

    @property
    def agent(self) -> str | None: ...

    @property
    def id(self) -> str | None: ...

    @property
    def kind(self) -> str | None: ...

    @property
    def since(self) -> int | None: ...

    @property
    def until(self) -> int | None: ...

    @property
    def after(self) -> int: ...

    @property
    def limit(self) -> int: ...

    @property
    def node(self) -> str | None: ...


class Audit:
    """Answers from the store.

    Args:
        node: the node's name.
        store: with the node's own journal, and copies of others.
        endings: cancels.
        missing: the nodes of whose journals there may be more than is here, see :meth:`Peering.missing`.
        ahead_ms: by how much the clock of a node is ahead of this one's; ``None`` if that isn't known.
        warning: of a capability: what to say if nobody who is present has it.
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
    ) -> None:
        self._node = node
        self._store = store
        self._endings = endings
        self._missing = missing
        self._ahead_ms = ahead_ms
        #: (of the record that tells it, by how much) each time that this node's clock was set since its start.
        self._set_by: list[tuple[int, int]] = []
        self._since = store.high_water
        self._warning = warning

    def follow_clock(self, by_ms: int, position: int) -> None:
        """The node's clock was set: it is ahead by so much behind the record at a position."""
        self._set_by.append((position, by_ms))

    async def status(self, agent: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The states of messages that the agent sent or received; ids it has nothing to do with are left out.

        A broadcast has one entry with a state for each recipient, in ``recipients``; its own ``state`` is the one that
        is furthest from done. If several senders used an id, the entry tells of the agent's own message, or else of the
        latest that it received; if an id was used again after it was forgotten, of the latest use.
        """
        by_key: dict[Key, list[StoredMessage]] = {}
        for message in await self._store.with_ids(ids):
            if _is_party(agent, message):
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
            if (operator or _is_party(agent, history.message)) and sender in (None, history.message.sender)
        ]
        if not lives:
            raise MessageUnknown(
                f"there is no message {message_id} that {agent} sent or received at this node; check the id, or ask as "
                "an operator"
            )
        return {"messages": [self._life(history) for history in lives], "missing": self._missing()}

    async def query(self, options: Query) -> dict[str, Any]:
        """Records of a journal, oldest first, behind ``after``; of all nodes' journals: by time, without ``after``.

        A question about an agent or a message finds the records that name it, and those of what became of its messages.

        Raises:
            NodeUnknown: no journal of that node is here.
            ArgumentInvalid: ``after`` is given for all nodes, or there is no such kind of record.
        """
        if options.kind is not None and options.kind not in _KINDS:
            # Of a slip "no records" would be no true answer.
            raise ArgumentInvalid(
                f"options.kind is {show_value(options.kind)}, and the journal has no such kind of record; there are: "
                f"{', '.join(sorted(_KINDS))}"
            )
        if options.node == ALL_NODES:
            return {**await self._query_all(options), "missing": self._missing()}
        answer = await self._query_one(options, self._newest_of(options.node))
        return answer if options.node is None else {**answer, "missing": self._missing()}

    def _newest_of(self, node: str | None) -> int:
        """The number of the journal that a node writes, or wrote last as far as this one knows."""
        if node in (None, self._node):
            return 0
        numbers = [origin.number for origin in self._store.origins() if origin.node == node]
        if not numbers:
            raise NodeUnknown(
                f"there is no journal of a node {show_value(node)} here; `trishula node status` names the peers of "
                "this one"
            )
        return max(numbers)

    async def _query_all(self, options: Query) -> dict[str, Any]:
        if options.after:
            raise ArgumentInvalid(
                f'options.after is {options.after}, and records of all nodes have no common numbers; leave "after" out '
                'and narrow the question by "since"'
            )
        found: list[dict[str, Any]] = []
        more = False
        for origin in self._store.origins():
            answer = await self._query_one(options, origin.number)
            found += answer["records"]
            more = more or answer["more"]
        found.sort(key=_here_at)
        return {"records": found[: options.limit], "more": more or len(found) > options.limit}

    async def _query_one(self, options: Query, number: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        after, looked = position_in(number, options.after), 0
        while True:
            page = await self._store.records(
                after=after,
                limit=_PAGE,
                kind=options.kind,
                since=options.since,
                until=options.until,
                origin=number,
            )
            decoded = [(record, msgspec.json.decode(record.facts)) for record in page]
            asked_for = await self._asked_for([facts for _, facts in decoded], options)
            for record, facts in decoded:
                after = record.position
                if _concerns(facts, options) or not asked_for.isdisjoint(_positions_in(facts)):
                    told = self._told(record, facts)
                    # By its position other records list a message.
                    found.append({**told, "position": after} if number and record.kind == Kind.ACCEPTED else told)
                    if len(found) == options.limit:
                        return {"records": found, "more": True, "after": after & SEQUENCE_MASK}
            looked += len(page)
            if len(page) < _PAGE or looked >= _LOOK_LIMIT:
                return {"records": found, "more": len(page) == _PAGE, "after": after & SEQUENCE_MASK}

    async def _asked_for(self, many_facts: Iterable[dict[str, Any]], options: Query) -> set[int]:
        """Of the messages that records list by position, those that the question is about; none if it is about all."""
        if options.agent is None and options.id is None:
            return set()
        listed = sorted({position for facts in many_facts for position in _positions_in(facts)})
        asked_for: set[int] = set()
        for begin in range(0, len(listed), _PAGE):
            for position, message in (await self._store.at_positions(listed[begin : begin + _PAGE])).items():
                is_theirs = options.agent is None or _is_party(options.agent, message)
                if is_theirs and options.id in (None, message.id):
                    asked_for.add(position)
        return asked_for

    def _life(self, history: History) -> dict[str, Any]:
        message = history.message
        node, sequence = self._store.place(message.position)
        events = [self._event(record, message.position) for record in history.records]
        # What clocks nobody knows say of it: it was accepted before all else.
        events.sort(
            key=lambda event: ((event["node"], event["seq"]) != (node or self._node, sequence), _here_at(event))
        )
        here_at = {event["at"]: _here_at(event) for event in events}
        waits = message.state is State.OPEN and is_capability(message.recipient)
        warning = self._warning(message.recipient) if waits else None
        return {
            **_state(message),
            "delivered_at": here_at.get(message.delivered_at, message.delivered_at),
            "settled_at": here_at.get(message.settled_at, message.settled_at),
            **({} if warning is None else {"warning": warning}),
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
                if record.kind == "delivered":
                    facts["attempt"] = one[1]
                else:
                    facts["failures"], facts["due_at"] = one[1], one[2]
        if record.kind == "handed":
            facts["reason"] = f"handed to {facts.get('keeper')}, where an agent can do it"
        return self._told(record, facts)

    def _told(self, record: Record, facts: dict[str, Any]) -> dict[str, Any]:
        node, sequence = self._store.place(record.position)
        told = {"seq": sequence, "node": node or self._node, "at": record.at, "kind": record.kind, **facts}
        ahead_ms = self._ahead_ms(node) if node else self._was_ahead_ms(record.position)
        return told if ahead_ms is None or abs(ahead_ms) < TOLERATED_MS else {**told, "clock_ahead_ms": ahead_ms}

    def _was_ahead_ms(self, position: int) -> int:
        """By how much this node's clock was ahead of what it is now when it wrote a record, in this run of the node."""
        if position <= self._since:
            return 0
        return -sum(by_ms for at, by_ms in self._set_by if position < at)

    async def verify(self) -> dict[str, Any]:
        """Check the chain and the checksums of all bodies."""
        told = told_verdict(await self._store.verify())
        more = len(told["damaged"]) - _TOLD_LIMIT
        if more > 0:
            del told["damaged"][_TOLD_LIMIT:]
            said = f"and {more} more: trishula node verify names them all"
            told["damaged"].append({"seq": 0, "what": said})
        return told


def _here_at(told: dict[str, Any]) -> int:
    """When a record was written, by this node's clock as far as the difference is known."""
    return int(told["at"]) - int(told.get("clock_ahead_ms", 0))


def told_verdict(verdict: Verdict) -> dict[str, Any]:
    """A check's outcome as it is told: of each damage the record's number, a sentence, and whose message it hit."""
    return {
        "records": verdict.records,
        "bodies": verdict.bodies,
        "ok": not verdict.damages,
        "damaged": [
            {"seq": damage.position & SEQUENCE_MASK, "what": damage.what}
            | ({} if damage.id is None else {"id": damage.id, "from": damage.sender})
            for damage in verdict.damages
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
        "attempts": message.attempts,
    }


def _positions_in(facts: dict[str, Any]) -> list[int]:
    """The messages that a record tells of and doesn't name: ends, returns and deliveries list their positions."""
    listed = (one for name in POSITION_LISTS for one in facts.get(name, ()))
    return [one[0] if isinstance(one, list) else one for one in listed]


def _concerns(facts: dict[str, Any], options: Query) -> bool:
    """Whether a record itself names what the question is about."""
    if options.id is not None and facts.get("id") != options.id:
        return False
    if options.agent is None:
        return True
    parties = (facts.get(key) for key in ("agent", "from", "to"))
    return any(isinstance(party, str) and party.partition("/")[0] == options.agent for party in parties)
