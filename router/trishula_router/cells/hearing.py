"""Hearing: what follows from the letters of other cells.

What was read at a time is worked off together: the messages of a cell are accepted by one transaction, and those that
are done settled by one. With one after the other a cell took some hundred messages a second, and spent most of its time
on news. The store carries out in order what it is asked for, and is asked for deliveries first. So a delivery is on
record before the end that came with it, and the messages of a cell are accepted in the order in which that cell sent
them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from trishula_router.background import run, together
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.canary import Canary
from trishula_router.cells.forwards import Forward, Forwards
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

    async def hear(self, parcels: Iterable[Parcel]) -> Deferred[None]:
        """Work letters off. When this is over, the messages among them are durable, and all else is begun.

        Returns:
            when all else is durable, too, but for deliveries. Who reads on meanwhile has no message wait for the
            settlements of others.

        Raises:
            StorageFull, StorageFailed: some of it is not durable; what is returned fails with them as well.
        """
        by_cell: dict[str, list[Letter]] = {}
        for parcel in parcels:
            if parcel.source == self._cell:
                self._hear_self(parcel.letters)
            else:
                by_cell.setdefault(parcel.source, []).extend(parcel.letters)
        taken = together(self._take(cell, letters) for cell, letters in by_cell.items())
        heard = together(self._hear(cell, letters) for cell, letters in by_cell.items())
        try:
            await taken
        except BaseException:
            # One fault is told.
            heard.addErrback(lambda _: None)
            raise
        return heard

    def _hear_self(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            if isinstance(letter, Beacon):
                self._canary.back(letter.number)

    async def _take(self, cell: str, letters: Iterable[Letter]) -> None:
        for mails in _parts([letter for letter in letters if isinstance(letter, Mail)]):
            for mail in mails:
                self._homes.hint(mail.sender, cell)
                # First: what is delivered at once is news, too.
                self._owed.owe(mail.key, cell, mail.ticket)
            for news in await self._acceptance.take(cell, mails):
                self._answer(cell, news)

    async def _hear(self, cell: str, letters: Iterable[Letter]) -> None:
        for others in _parts([letter for letter in letters if isinstance(letter, News | Ask | Recall)]):
            news = [letter for letter in others if isinstance(letter, News)]
            asked = [self._asked(cell, letter) for letter in others if not isinstance(letter, News)]
            await together([*self._heard(cell, news), *asked])

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

    def _heard(self, cell: str, letters: Iterable[News]) -> list[Coroutine[Deferred[Any], Any, Any]]:
        """What follows from news: what nobody waits for is begun, and the rest is to be."""
        onward, now_s = self._onward(), self._seconds()
        done, delivered = list[tuple[int, str]](), list[Forward]()
        steps: list[Coroutine[Deferred[Any], Any, Any]] = []
        for news in letters:
            heard = self._forwards.hear(news, cell, now_s)
            if heard is None:
                if news.state == "done" and self._forwards.of(news.key) is None:
                    steps.append(self._done_late(news))
                continue
            forward = heard.forward
            if heard.then == "off":
                onward.put_off(forward, news.retry_s)
                continue
            onward.goes_well(news.to)
            if heard.then == "delivered":
                delivered.append(forward)
            elif heard.then == "surfaced":
                steps.append(onward.surfaced(forward))
            elif heard.then == "lost":
                steps.append(onward.send_again([forward]))
            elif news.state == "done":
                done.append((forward.position, news.to))
            else:
                steps.append(onward.ended(forward.position, news.state, reason_of(news, cell)))
        if delivered:
            # The store keeps such notes back for a while, and nobody waits for them: as of an agent of this node. It is
            # asked for them first, so that they are on record before the ends that came with them.
            run(onward.delivered(delivered))
        return [*steps, onward.done(done)] if done else steps

    async def _done_late(self, news: News) -> None:
        """It was taken back since, or this node has started anew: that it is done is true all the same."""
        state, positions = await self._acceptance.how(news.key)
        if state not in ("done", UNKNOWN):
            await self._onward().done((position, news.to) for position in positions)


def _parts(letters: list[Any]) -> Iterator[list[Any]]:
    return (letters[begin : begin + _TOGETHER] for begin in range(0, len(letters), _TOGETHER))
