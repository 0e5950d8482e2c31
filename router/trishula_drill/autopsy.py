"""What a node's store holds when the node is stopped, in the words of the checker."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula_drill.final import Final, Stored
from trishula_drill.history import digest_of
from trishula_router.store.interface import Store
from trishula_router.store.journal import ORIGIN_SHIFT, Kind, Record
from trishula_router.store.messages import StoredMessage
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.opening import open_store

__all__ = ["autopsies", "autopsy", "examine", "size_of_store"]

T = TypeVar("T")

_PAGE = 10_000
_ENDS = frozenset({Kind.DONE, Kind.DEAD, Kind.EXPIRED, Kind.CANCELLED})
_PATIENCE_S = 600.0


class _Answers:
    """Stands in for the reactor's thread: what the store's threads hand over runs while we wait."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def put(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def of(self, deferred: Deferred[T]) -> T:
        """The outcome, or its error raised."""
        box: list[Any] = []
        deferred.addBoth(box.append)
        while not box:
            self._calls.get(timeout=_PATIENCE_S)()
        if isinstance(box[0], Failure):
            box[0].raiseException()
        found: T = box[0]
        return found


def autopsy(state: Path, ids: Sequence[str]) -> Final:
    """Examine the store of a state directory on which no node runs.

    Args:
        ids: of the messages that are asked for.
    """
    answers = _Answers()
    store = open_store(state, new_epoch=lambda: "", call_in_reactor=answers.put, limit_bytes=1 << 50)
    try:
        return examine(store, ids, answers.of)
    finally:
        answers.of(store.close())


def autopsies(states: Mapping[str, Path], ids: Sequence[str], marks: Mapping[str, int]) -> list[Final]:
    """The same of linked nodes, with what each has copied of the others' journals.

    Args:
        states: by the node's name.
        ids: of the messages that are asked for.
        marks: the sequence up to which each node's journal must be held by the others.
    """
    answers = _Answers()
    stores = {
        name: open_store(state, new_epoch=lambda: "", call_in_reactor=answers.put, limit_bytes=1 << 50)
        for name, state in states.items()
    }
    try:
        return [
            replace(final, node=name, damages=[*final.damages, *_gaps(name, stores, marks, answers.of)])
            for name, store in stores.items()
            for final in [examine(store, ids, answers.of)]
        ]
    finally:
        for store in stores.values():
            answers.of(store.close())


def _gaps(
    holder: str, stores: Mapping[str, Store], marks: Mapping[str, int], answer: Callable[[Deferred[Any]], Any]
) -> Iterator[str]:
    """What is wrong with a store's copies of the others' journals."""
    origins = {origin.epoch: origin for origin in stores[holder].origins()}
    for name, store in stores.items():
        origin = origins.get(store.epoch)
        if name == holder:
            continue
        held = 0 if origin is None else origin.sequence
        if origin is None or held < marks[name]:
            yield f"the copy of {name}'s journal ends at {held}, before {marks[name]}"
            continue
        if store.high_water < marks[name]:
            yield f"{name}'s own journal ends at {store.high_water}, before {marks[name]}"
            continue
        # Of nodes that run, the store that was looked at later may hold more. The chain makes one digest stand for all
        # records before it.
        last = min(held, store.high_water)
        (copied,) = answer(
            stores[holder].records(after=(origin.number << ORIGIN_SHIFT) + last - 1, limit=1, origin=origin.number)
        )
        (written,) = answer(store.records(after=last - 1, limit=1))
        if copied.digest != written.digest:
            yield f"record {last} of {name}'s journal is another one than was written"


def size_of_store(state: Path) -> int:
    """How many bytes the store of a state directory takes, with all that its log still holds."""
    answers = _Answers()
    store = open_store(state, new_epoch=lambda: "", call_in_reactor=answers.put, limit_bytes=1 << 50)
    # Closing it brings the log into the file.
    answers.of(store.close())
    return (state / FILE_NAME).stat().st_size


def examine(store: Store, ids: Sequence[str], answer: Callable[[Deferred[Any]], Any]) -> Final:
    """The same of an open store.

    Args:
        answer: waits for what the store answers.
    """
    messages: list[StoredMessage] = []
    for begin in range(0, len(ids), _PAGE):
        messages += answer(store.with_ids(ids[begin : begin + _PAGE]))
    # A message's end stands behind it in the journal, but another one's can stand anywhere.
    own_only = len(store.origins()) == 1
    first = min((message.position for message in messages), default=0) if own_only else 0
    ends = _ends(_records(store, first, answer))
    digests: dict[int, str] = {}
    for begin in range(0, len(messages), _PAGE):
        bodies = answer(store.bodies([message.position for message in messages[begin : begin + _PAGE]]))
        digests |= {position: digest for position, body in bodies.items() if (digest := _digest(body)) is not None}
    stored = [
        Stored(
            message.sender,
            message.id,
            message.recipient,
            message.position,
            message.state_word,
            digests.get(message.position),
            tuple(ends.get(message.position, ())),
        )
        for message in messages
    ]
    verification = answer(store.verify())
    return Final(stored, [damage.what for damage in verification.damages], store.epoch)


def _digest(body: bytes) -> str | None:
    try:
        return digest_of(msgspec.json.decode(body).get("payload"))
    except (msgspec.DecodeError, AttributeError):
        return None


def _records(store: Store, after: int, answer: Callable[[Deferred[Any]], Any]) -> Iterator[Record]:
    while page := answer(store.records(after=after, limit=_PAGE, origin=None)):
        yield from page
        after = page[-1].position


def _ends(records: Iterator[Record]) -> dict[int, list[tuple[int, str]]]:
    """Of each message the final states on record, since it was last brought back from the dead letters."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for record in records:
        if record.kind == Kind.REPLAYED:
            for position in msgspec.json.decode(record.facts).get("messages", ()):
                found.pop(position, None)
        if record.kind in _ENDS:
            for position in msgspec.json.decode(record.facts).get("messages", ()):
                found[position].append((record.position, record.kind))
    return found
