"""The records of a page that fit a question: what must be read for that, and no more of it than there is room for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trishula.contract.addresses import is_capability
from trishula_router.mail.record_filter import RecordFilter, read_heading
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind, Record
from trishula_router.store.messages import StoredMessage

__all__ = ["Fitting", "Looked"]

#: Messages read from the store at a time.
_PAGE = 2000
#: Bodies read from the store at a time.
_BODIES_BYTES = 4 * 1024 * 1024

#: Finds messages that the store has no more, by their positions.
Elsewhere = Callable[[set[int]], Awaitable[dict[int, StoredMessage]]]


class Looked:
    """How far a search has looked.

    Attributes:
        records: how many records it has looked at.
        without_body: the positions of the messages whose bodies are gone, so that nobody knows what they were about.
    """

    def __init__(self) -> None:
        self.records = 0
        self.without_body: set[int] = set()

    def told(self) -> dict[str, int]:
        """The same, as it travels."""
        gone = {"bodies_gone": len(self.without_body)} if self.without_body else {}
        return {"looked": self.records, **gone}


class Fitting:
    """Judges pages of records.

    Args:
        store: has the messages that records list by position.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(
        self, page: Sequence[Record], asked: RecordFilter, looked: Looked, elsewhere: Elsewhere | None = None
    ) -> list[tuple[Record, dict[str, Any]]]:
        """Those that fit, with their facts. ``elsewhere``: asked for messages that the store doesn't know."""
        decoded = [(record, msgspec.json.decode(record.facts)) for record in page]
        if not asked.asks_for_messages:
            return decoded
        by_itself = {record.position for record, facts in decoded if asked.fits_by_itself(record.kind, facts)}
        told_of = {
            record.position: asked.messages_of(record.kind, record.position, facts)
            for record, facts in decoded
            if record.position not in by_itself
        }
        wanted = {position for positions in told_of.values() for position in positions}
        messages = await self._messages(wanted, decoded)
        if elsewhere is not None and (gone := {position for position in wanted if _is_gone(messages.get(position))}):
            messages.update(await elsewhere(gone))
        fitting = {position for position, message in messages.items() if asked.is_asked_for(message)}
        if asked.asks_for_headings:
            fitting = await self._about({position: messages[position] for position in fitting}, asked, looked)
        return [
            (record, facts)
            for record, facts in decoded
            if record.position in by_itself or not fitting.isdisjoint(told_of[record.position])
        ]

    async def _messages(
        self, positions: set[int], page: Iterable[tuple[Record, dict[str, Any]]]
    ) -> dict[int, StoredMessage]:
        """Messages by the positions that records have for them.

        Where several nodes accepted one message, it has one row, at the position of one of its accepted records; the
        others find it by what they name.
        """
        found: dict[int, StoredMessage] = {}
        ordered = sorted(positions)
        for begin in range(0, len(ordered), _PAGE):
            found.update(await self._store.at_positions(ordered[begin : begin + _PAGE]))
        others = {
            record.position: (facts.get("from"), facts.get("id"), facts.get("to"), facts.get("use", 0))
            for record, facts in page
            if record.kind == Kind.ACCEPTED and record.position in positions and record.position not in found
        }
        if others:
            ids = sorted({str(message_id) for _, message_id, _, _ in others.values()})
            by_name = {
                (message.sender, message.id, message.recipient, message.use): message
                for message in await self._store.with_ids(ids)
            }
            found.update({position: by_name[name] for position, name in others.items() if name in by_name})
        return found

    async def _about(self, messages: Mapping[int, StoredMessage], asked: RecordFilter, looked: Looked) -> set[int]:
        """Those of the messages that are about what is asked for, as their bodies say."""
        about: set[int] = set()
        for some in _few_bytes(messages):
            # Bodies are found under the positions of the rows.
            bodies = await self._store.bodies([messages[position].position for position in some])
            for position in some:
                heading = read_heading(bodies.get(messages[position].position))
                if heading is None:
                    looked.without_body.add(messages[position].position)
                elif asked.is_about(heading):
                    about.add(position)
        return about


def _is_gone(message: StoredMessage | None) -> bool:
    """Whether the store doesn't know a message any more, or not to whom it was handed: only a record tells that."""
    return message is None or (message.holder is None and is_capability(message.recipient))


def _few_bytes(messages: Mapping[int, StoredMessage]) -> Iterator[list[int]]:
    """The positions of messages, in runs whose bodies take little memory."""
    run: list[int] = []
    size_bytes = 0
    for position, message in messages.items():
        if run and size_bytes + message.size_bytes > _BODIES_BYTES:
            yield run
            run, size_bytes = [], 0
        run.append(position)
        size_bytes += message.size_bytes
    if run:
        yield run
