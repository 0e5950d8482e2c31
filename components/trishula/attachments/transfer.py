"""The way of one attachment to a node, and from it: small pieces, two under way, gone on with wherever it broke off.

The node is asked how much it has, and what follows is sent; so it doesn't matter whether the connection, this process
or the node went in between, nor which node it is afterwards. It ends without an outcome when nothing has got on for so
long that nobody would wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from trishula.attachments.local_files import FetchedFile
from trishula.contract import uris
from trishula.contract.attached import AttachmentInfo
from trishula.errors import (
    AttachmentAway,
    AttachmentDamaged,
    AttachmentsOff,
    AttachmentUnknown,
    NodeStopping,
    NotAllowed,
    OutcomeUnknown,
    ProcedureUnknown,
    RateLimited,
    RemoteError,
)
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending
from trishula.runtime.waiting import sleep
from trishula.session.transport import AnswerLate, Link, LinkLost

__all__ = ["Outgoing", "Progress", "fetch", "in_thread", "none_at", "send"]

T = TypeVar("T")

#: Told how many bytes are there, of how many.
Progress = Callable[[int, int], object]

#: One is with the node while the next one is on its way; more would only stand in the way of messages.
_UNDER_WAY = 2
#: What a node may take to look through a file of a gigabyte on a slow disk.
_ANSWER_S = 120.0
#: After a refusal that passes.
_PAUSE_S = 0.5
#: The file at the node, or here, may be damaged, and be mended by sending it anew; not for ever.
_MOST_ANEW = 3


class _State(msgspec.Struct):
    """How much of it a node has."""

    size_bytes: int
    have_bytes: int
    complete: bool
    chunk_bytes: int


class _Piece(msgspec.Struct):
    """Some of it."""

    data: bytes
    offset: int
    size_bytes: int


async def in_thread(engine: Engine, work: Callable[[], T]) -> T:
    """Have something done that blocks."""
    results: list[T] = []
    await engine.around.in_thread(lambda: results.append(work()))
    return results[0]


class _Patience:
    """How long it may take until it gets on."""

    def __init__(self, engine: Engine, patience_s: float) -> None:
        self._seconds = engine.clock.seconds
        self._patience_s = patience_s
        self.got_on()

    def got_on(self) -> None:
        self._until_s = self._seconds() + self._patience_s

    @property
    def left_s(self) -> float:
        return self._until_s - self._seconds()


class Outgoing(Protocol):
    """A file on its way to a node: a :class:`.local_files.SentFile`, or a :class:`.sealing.SealedFile`."""

    @property
    def info(self) -> AttachmentInfo: ...

    def read(self, offset: int, most_bytes: int) -> bytes: ...

    def check_unchanged(self) -> None: ...


async def send(engine: Engine, file: Outgoing, patience_s: float, progress: Progress) -> None:
    """Send a file to the node that we are joined to, until it is complete there.

    Raises:
        AttachmentsOff, AttachmentTooLarge, AttachmentsFull: the node doesn't take it.
        ArgumentInvalid: the file changed meanwhile.
        BusUnreachable: no node was there for so long.
        OutcomeUnknown: it got no further for so long; what the node has is kept, and gone on with.
    """
    patience = _Patience(engine, patience_s)
    anew = 0
    while True:
        link, _ = await engine.member.link_within(max(patience.left_s, 0.0))
        try:
            await _send_on(engine, link, file, patience, progress)
            return
        except AttachmentDamaged:
            await in_thread(engine, file.check_unchanged)
            anew += 1
            if anew >= _MOST_ANEW:
                raise
        except (NotAllowed, ProcedureUnknown):
            raise AttachmentsOff(none_at(engine)) from None
        except (LinkLost, AnswerLate, NodeStopping, RateLimited, AttachmentUnknown) as error:
            if patience.left_s <= 0:
                raise OutcomeUnknown(
                    f"the attachment got no further for {patience_s:g} s: {error}; send it again"
                ) from None
            await sleep(engine.clock, _PAUSE_S if engine.member.link is link else 0.01)


async def _send_on(engine: Engine, link: Link, file: Outgoing, patience: _Patience, progress: Progress) -> None:
    info = file.info
    if engine.member.attached is not None and engine.member.limits.attachment_bytes is None:
        raise AttachmentsOff(none_at(engine))
    state = _state(await link.call(uris.ATTACHMENT_BEGIN, [info.digest, info.size_bytes], timeout_s=_ANSWER_S))
    under_way: deque[tuple[int, Pending[Any]]] = deque()
    offset, chunk_bytes = state.have_bytes, state.chunk_bytes
    try:
        while not state.complete:
            progress(state.have_bytes, info.size_bytes)
            while len(under_way) < _UNDER_WAY and offset < info.size_bytes:
                data = await in_thread(engine, partial(file.read, offset, chunk_bytes))
                offset += len(data)
                put = link.call(uris.ATTACHMENT_PUT, [info.digest, offset - len(data), data], timeout_s=_ANSWER_S)
                under_way.append((offset, put))
            if not under_way:
                raise AttachmentUnknown(f"the node has all of {info.digest}, and doesn't say that it is complete")
            expected, put = under_way.popleft()
            before, state = state.have_bytes, _state(await put)
            if state.have_bytes > before:
                patience.got_on()
            if not state.complete and state.have_bytes != expected:
                # Somebody else sends the same, or one that was under way before was counted.
                await _ended(under_way)
                offset = state.have_bytes
        progress(info.size_bytes, info.size_bytes)
    finally:
        for _, put in under_way:
            put.when_done(lambda outcome: outcome.error)


async def _ended(under_way: deque[tuple[int, Pending[Any]]]) -> None:
    while under_way:
        await under_way.popleft()[1]


async def fetch(
    engine: Engine, message_id: str, sender: str, file: FetchedFile, patience_s: float, progress: Progress
) -> None:
    """Fetch what follows of an attachment, until all is here.

    Raises:
        AttachmentsOff, AttachmentUnknown, AttachmentDamaged, AttachmentsFull: the node's refusal.
        AttachmentAway: it was at a linked node that was away for so long, or from which nothing came.
        ArgumentInvalid: it can't be written.
        BusUnreachable: no node was there for so long.
        OutcomeUnknown: it got no further for so long; what is here is kept, and gone on with.
    """
    patience = _Patience(engine, patience_s)
    while True:
        link, _ = await engine.member.link_within(max(patience.left_s, 0.0))
        try:
            await _fetch_on(engine, link, [message_id, sender], file, patience, progress)
            return
        except (NotAllowed, ProcedureUnknown):
            raise AttachmentsOff(none_at(engine)) from None
        except AttachmentAway as error:
            # Its node is at a linked one, or looks for it there.
            if patience.left_s <= 0:
                raise
            await sleep(engine.clock, max(error.retry_after_s or 0.0, _PAUSE_S))
        except (LinkLost, AnswerLate, NodeStopping, RateLimited) as error:
            if patience.left_s <= 0:
                raise OutcomeUnknown(
                    f"the attachment got no further for {patience_s:g} s: {error}; fetch it again"
                ) from None
            await sleep(engine.clock, _PAUSE_S if engine.member.link is link else 0.01)


async def _fetch_on(
    engine: Engine, link: Link, of: list[str], file: FetchedFile, patience: _Patience, progress: Progress
) -> None:
    message_id, sender = of
    size_bytes = file.info.size_bytes
    under_way: deque[Pending[Any]] = deque()
    offset = file.have_bytes
    try:
        while True:
            progress(file.have_bytes, size_bytes)
            # Also of an empty one the node is asked: it says whether we may.
            while len(under_way) < _UNDER_WAY and (offset < size_bytes or (not under_way and not file.have_bytes)):
                most_bytes = min(_PIECE_BYTES, max(size_bytes - offset, 1))
                options = {"from": sender, "offset": offset, "max_bytes": most_bytes}
                under_way.append(link.call(uris.ATTACHMENT_GET, [message_id, options], timeout_s=_ANSWER_S))
                offset += most_bytes
            if not under_way:
                return
            piece = _piece(await under_way.popleft())
            if piece.size_bytes != size_bytes or piece.offset != file.have_bytes:
                raise AttachmentDamaged(
                    f"the node tells an attachment of {piece.size_bytes} bytes, and the message one of {size_bytes}"
                )
            if not piece.data:
                return
            await in_thread(engine, partial(file.append, piece.data))
            patience.got_on()
    finally:
        for one in under_way:
            one.when_done(lambda outcome: outcome.error)


#: As nodes hand them out.
_PIECE_BYTES = 64 * 1024


def _state(raw: object) -> _State:
    try:
        return msgspec.convert(raw, _State)
    except msgspec.ValidationError as error:
        raise RemoteError(f"the node's answer can't be read: {error}", remote_uri=uris.ATTACHMENT_PUT) from None


def _piece(raw: object) -> _Piece:
    try:
        return msgspec.convert(raw, _Piece)
    except msgspec.ValidationError as error:
        raise RemoteError(f"the node's answer can't be read: {error}", remote_uri=uris.ATTACHMENT_GET) from None


def none_at(engine: Engine) -> str:
    """The sentence for who wants what the node doesn't have."""
    return (
        f"the node {engine.node or engine.url} takes and hands out no attachments: it is of an earlier release, or its "
        "operator has turned them off (attachments.on)"
    )
