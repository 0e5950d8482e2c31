"""Hearing: what follows from the letters of other cells.

What was read at a time is worked off together, so that it shares commits of the store: with one after the other each
word of news had a transaction of its own, and a cell took some hundred messages a second. Steps begin in the order of
the letters, and the store carries out in order what it is asked for. So a delivery is on record before the end that
came with it, and the messages of a cell are accepted in the order in which that cell sent them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from trishula_router.background import run
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.canary import Canary
from trishula_router.cells.forwards import Forwards
from trishula_router.cells.homes import Homes
from trishula_router.cells.letters import UNKNOWN, Ask, Beacon, Letter, Mail, News, Parcel, Recall
from trishula_router.cells.onward import Onward, reason_of
from trishula_router.cells.owed import Owed

__all__ = ["Hearing"]

#: Messages that are accepted in one transaction, and letters that are worked off together.
_TOGETHER = 1024


class Hearing:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        homes, forwards, owed, acceptance, canary: the cell's.
        onward: settles what is out.
        post: sends a letter: (cell, letter).
        cancel: cancels messages by position.
        seconds: the steady clock.
    """

    def __init__(
        self,
        cell: str,
        homes: Homes,
        forwards: Forwards,
        owed: Owed,
        acceptance: Acceptance,
        canary: Canary,
        onward: Callable[[], Onward],
        post: Callable[[str, Letter], None],
        cancel: Callable[[Sequence[int]], Deferred[list[bool]]],
        seconds: Callable[[], float],
    ) -> None:
        self._cell = cell
        self._homes = homes
        self._forwards = forwards
        self._owed = owed
        self._acceptance = acceptance
        self._canary = canary
        self._onward = onward
        self._post = post
        self._cancel = cancel
        self._seconds = seconds

    async def hear(self, parcels: Iterable[Parcel]) -> None:
        """Work letters off; what they say is durable when this is over, but for deliveries.

        Raises:
            StorageFull, StorageFailed: some of it is not.
        """
        by_cell: dict[str, list[Letter]] = {}
        for parcel in parcels:
            if parcel.source == self._cell:
                self._hear_self(parcel.letters)
            else:
                by_cell.setdefault(parcel.source, []).extend(parcel.letters)
        await _together(self._hear(cell, letters) for cell, letters in by_cell.items())

    def _hear_self(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            if isinstance(letter, Beacon):
                self._canary.back(letter.number)

    async def _hear(self, cell: str, letters: Sequence[Letter]) -> None:
        for mails in _parts([letter for letter in letters if isinstance(letter, Mail)]):
            for mail in mails:
                self._homes.hint(mail.sender, cell)
                # First: what is delivered at once is news, too.
                self._owed.owe(mail.key, cell, mail.ticket)
            for news in await self._acceptance.take(cell, mails):
                self._answer(cell, news)
        for others in _parts([letter for letter in letters if isinstance(letter, News | Ask | Recall)]):
            await _together(
                self._heard(cell, one) if isinstance(one, News) else self._asked(cell, one) for one in others
            )

    async def _asked(self, cell: str, letter: Ask | Recall) -> None:
        state, positions = await self._acceptance.how(letter.key)
        if isinstance(letter, Recall) and state in ("accepted", "delivered"):
            await self._cancel(positions)
            state, _ = await self._acceptance.how(letter.key)
        self._owed.owe(letter.key, cell, letter.ticket)
        sender, message_id, to = letter.key
        self._answer(cell, News(ticket=letter.ticket, sender=sender, id=message_id, to=to, state=state))

    def _answer(self, cell: str, news: News) -> None:
        if news.state not in ("accepted", "delivered", "surfaced"):
            # Nothing more follows.
            self._owed.forget(news.key, cell)
        self._post(cell, news)

    async def _heard(self, cell: str, news: News) -> None:
        heard, onward = self._forwards.hear(news, cell, self._seconds()), self._onward()
        if heard is None:
            if news.state == "done" and self._forwards.of(news.key) is None:
                await self._done_late(news)
            return
        forward = heard.forward
        if heard.then == "off":
            onward.put_off(forward, news.retry_s)
            return
        onward.goes_well(news.to)
        if heard.then == "ended":
            await onward.ended(forward.position, news.to, news.state, reason_of(news, cell))
        elif heard.then == "delivered":
            # The store keeps such notes back for a while, and nobody waits for them: as of an agent of this node.
            run(onward.delivered(forward))
        elif heard.then == "surfaced":
            await onward.surfaced(forward)
        else:
            await onward.send_again([forward])

    async def _done_late(self, news: News) -> None:
        """It was taken back since, or this node has started anew: that it is done is true all the same."""
        state, positions = await self._acceptance.how(news.key)
        if state not in ("done", UNKNOWN):
            for position in positions:
                await self._onward().ended(position, news.to, "done", None)


def _parts(letters: list[Any]) -> Iterator[list[Any]]:
    return (letters[begin : begin + _TOGETHER] for begin in range(0, len(letters), _TOGETHER))


async def _together(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Begin all, wait for all, and raise what the first of them that failed has raised."""
    begun = [Deferred.fromCoroutine(step) for step in steps]
    outcomes: list[tuple[bool, Any]] = await DeferredList(begun, consumeErrors=True)
    for is_well, outcome in outcomes:
        if not is_well:
            outcome.raiseException()
