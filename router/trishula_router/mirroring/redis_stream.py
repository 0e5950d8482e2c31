"""A stream of Redis, one entry a record: fields ``kind``, ``seq``, ``epoch`` and ``record``, the line of JSON.

Entries have explicit ids, ``<generation>-<sequence>`` (:mod:`.place`), which grow: Redis takes none twice, whatever was
written before a connection broke. A page is one transaction, so that a Redis that runs out of memory takes all of it or
none. Before each page the stream is asked for its last id: one that was flushed, or that came back from an older state,
has another one than it was left with. ``NOMKSTREAM`` keeps a flush in between from going unseen.

Each step waits for :data:`TIMEOUT_S` at most, and the connection is thrown away after a fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula_router.mirroring.pages import Entry
from trishula_router.mirroring.place import Has, Place
from trishula_router.mirroring.target import TargetFailed
from trishula_router.redis_client import connect, sentence_of
from trishula_router.settings.mirror import MirrorOptions

if TYPE_CHECKING:
    import redis

__all__ = ["TIMEOUT_S", "RedisStream"]

TIMEOUT_S = 5.0
#: In what Redis answers to an id that is not greater than the last one.
_NOT_GREATER = "equal or smaller"


class RedisStream:
    """See the module's docstring, and :class:`.target.Target`.

    Args:
        options: with ``redis``.
        node: the node's name.
        base: the state directory, where relative paths start.
        made: makes a client, which tests replace.
    """

    name = "redis"

    def __init__(
        self,
        options: MirrorOptions,
        node: str,
        base: Path,
        made: Callable[[], redis.Redis] | None = None,
    ) -> None:
        self._options = options
        self._base = base
        self._address = options.redis_address
        self._stream = options.stream or f"trishula:audit:{node}"
        self._make = self._new_client if made is None else made
        self._client: redis.Redis | None = None
        self._expected: Has | None = None

    @property
    def where(self) -> str:
        """Host, port and stream; no user."""
        return f"{self._address.host}:{self._address.port} {self._stream}"

    @property
    def keeps(self) -> int:
        """``maxlen``."""
        return self._options.maxlen

    def has(self, place: Place) -> Has | None:
        """The stream's last id; see :class:`.target.Target`."""
        with self._told():
            self._expected = self._last()
        return self._expected

    def write(self, entries: Sequence[Entry], place: Place) -> None:
        """Append entries; see :class:`.target.Target`."""
        with self._told():
            last = self._last()
            if last != self._expected:
                self._close()
                raise TargetFailed("the stream was flushed, or came back from an older state: what it lacks follows")
            self._add(entries, place, is_there=last is not None)
            self._expected = Has(place.generation, entries[-1].sequence)

    def _add(self, entries: Sequence[Entry], place: Place, *, is_there: bool) -> None:
        pipeline = self._connected().pipeline(transaction=True)
        for entry in entries:
            fields: dict[Any, Any] = {
                "kind": entry.kind,
                "seq": entry.sequence,
                "epoch": place.epoch,
                "record": entry.line,
            }
            pipeline.xadd(
                self._stream,
                fields,
                id=f"{place.generation}-{entry.sequence}",
                maxlen=self._options.maxlen,
                approximate=True,
                nomkstream=is_there,
            )
            is_there = True
        answers = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and _NOT_GREATER not in str(answer):
                raise answer
        if None in answers:
            self._close()
            raise TargetFailed("the stream was deleted: what it lacks follows")
        if any(isinstance(answer, Exception) for answer in answers):
            # A connection that broke left a page that Redis has read only now: then all of it is there.
            last = self._last()
            if last is None or last.generation != place.generation or last.sequence < entries[-1].sequence:
                self._close()
                raise TargetFailed("somebody else writes to the stream; give each node a stream of its own")

    def _last(self) -> Has | None:
        import redis

        try:
            told = self._connected().xinfo_stream(self._stream)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        last = told["last-generated-id"]
        generation, _, sequence = (last.decode() if isinstance(last, bytes) else str(last)).partition("-")
        return Has(int(generation), int(sequence))

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = self._make()
        return self._client

    def _new_client(self) -> redis.Redis:
        options = self._options
        return connect(self._address, options.redis_password, options.redis_ca, self._base, timeout_s=TIMEOUT_S)

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return _Told(self._close)

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()


class _Told(contextlib.AbstractContextManager[None]):
    """Makes a :class:`TargetFailed` of what goes wrong, and closes the connection."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is None or isinstance(error, TargetFailed):
            return
        self._close()
        if isinstance(error, Exception) and (why := sentence_of(error, "mirror.redis_password", TIMEOUT_S)) is not None:
            raise TargetFailed(why) from None
