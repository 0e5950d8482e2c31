"""A model's membership of the bus: fetches its mail when it asks, keeps what it has in hand, and settles it.

Mail is pulled and not pushed. What the model has not asked for waits on the node, in the order of its urgency, and
costs no attempt when this process ends, as processes that a coding tool starts often do. What was fetched is leased,
and the lease is extended as long as the model has the message: a model that thinks for an hour is no failure.

A message is acknowledged when the model says so, by its token or, where the session that gave the token is gone, by an
ACK message that names it. That it is done is on record here before the node is told, so a message whose acknowledgement
got lost is acknowledged again and not shown again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trishula.client import Client
from trishula.contract.addresses import is_nodes_own
from trishula.contract.message import Message
from trishula.contract.uris import DIRECTORY_TURN, MAILBOX_PEEK
from trishula.errors import BusUnreachable, OutcomeUnknown, RateLimited, TrishulaError
from trishula.front_door.desk import Desk, InHand
from trishula.front_door.keeping import Memory
from trishula.front_door.turns import Head, TurnState, doing_of, head_of, progress_of, turn_of
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import Surroundings, real
from trishula.runtime.waiting import ended_within, sleep
from trishula.session.transport import Connection
from trishula.settings import Settings

__all__ = ["Counts", "Member"]

_log = logging.getLogger("trishula")

#: How many messages a model has in hand at most; more than a few dozen nobody keeps track of.
MOST_IN_HAND = 64
#: One long poll; a node allows up to a minute.
_POLL_S = 30.0
#: A lease is 60 s unless a node says otherwise; it is extended to that, four times as often.
_LEASE_S = 60.0
_TICK_S = 15.0
#: How long a model waits for a node's answer.
ANSWER_S = 10.0
#: A model that works is told of urgent mail this often at most: to look costs the node a read.
_LOOK_EVERY_S = 5.0
_LOOK_S = 2.0
#: How many that are in hand already are passed over.
_MOST_LOOKS = 5
#: How long for an acknowledgement: it goes out later as well.
_ACK_S = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the node has for the agent.

    Attributes:
        pending: messages that wait on the node.
        in_flight: messages that were handed out and are not settled, those in hand here included.
        high_water: the node's newest record, as of which this is so.
    """

    pending: int
    in_flight: int
    high_water: int


class Member:
    """See the module's docstring. All of it belongs to one loop.

    Args:
        settings: where the bus is, and whose token.
        state: the directory of what outlives the process; ``None`` for the usual one, ``False`` for none.
        around: clocks and randomness; the real ones if absent.
        connection: how to get links; a WAMP connection if absent.

    Attributes:
        client: the agent on the bus.
        desk: the mail in hand.
        turn: whether the model is in a turn.
        denial: why a node doesn't even look at the token: too many wrong ones came from here. ``None`` since it joined.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        state: str | os.PathLike[str] | bool | None = None,
        around: Surroundings | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._around = around = around or real()
        self.clock = around.clock
        self.now_ms = around.now_ms
        # Tokens of one node mean nothing to the other, so it stays where it is.
        self.client = Client(replace(settings, failback_s=None), around=around, connection=connection, observer=self)
        self.client.beat()
        self.client.declare_model()
        self._memory = Memory(settings, state, around)
        self.desk = Desk(self._memory.ids)
        self._fetching: Pending[Any] | None = None
        self._is_over = False
        self._looked_s: float | None = None
        self.turn: TurnState = "closed"
        self.denial: RateLimited | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> Pending[None]:
        """Begin to join, for as long as it takes; the outcome is there when a node let us in, or refused us.

        Whoever uses the member need not wait for it: each verb waits for a node by itself, and says if there is none.
        """
        joining = start(self.client.start())
        # What ended it is told by each verb.
        joining.when_done(lambda pending: pending.error)
        start(self._keep())
        return joining

    async def stop(self) -> None:
        """Leave. What is in hand is delivered again, to the next session of the agent."""
        self._is_over = True
        if self.client.is_ready:
            await self.client.drained(1.0)
        await self.client.stop()
        await self._memory.close()

    # What the client tells (trishula.session.attachment.Observer).

    def joined(self, url: str) -> None:
        self.denial = None
        self._memory.joined()
        if self.desk.misses_tokens:
            # What the model has is delivered again: for it, and not for another session.
            self._fetch(MOST_IN_HAND, 0.0)

    def lost(self, url: str, error: TrishulaError) -> None:
        _log.warning("The node at %s is lost: %s; joining anew", url, error)
        self.desk.link_lost()

    def moved(self, old: str, url: str) -> None:
        self.desk.link_lost()

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        _log.info("The bus can't be joined: %s", error)
        self.denial = error if isinstance(error, RateLimited) else None

    def ended(self, error: TrishulaError) -> None:
        _log.error("%s is off the bus: %s", self.client.address.agent, error)

    async def _keep(self) -> None:
        """Extend what is in hand; forget what is too old."""
        while not self._is_over:
            await sleep(self.clock, _TICK_S)
            if self.client.is_ready:
                self._tell_surfaced()
                for token in self.desk.tokens():
                    self.client.working(token, _LEASE_S).when_done(lambda pending: pending.error)
            self._memory.ids.forget(self._around.now_ms())

    # -- taking messages -----------------------------------------------------------------------------------------------

    async def receive(self, most: int, wait_s: float) -> Counts:
        """Have messages on the desk that the model has not seen: what there is, or what comes within ``wait_s``.

        Args:
            most: how many to fetch at most.
            wait_s: how long to wait for a first one, in seconds.

        Raises:
            MailboxBusy: a running agent is being pushed them.
            BusUnreachable, OutcomeUnknown: nothing is here, and no node says that there is nothing.
        """
        until_s = self.clock.seconds() + wait_s
        room = max(0, min(most, MOST_IN_HAND - len(self.desk)))
        error = await self._fetched(room, 0.0, ANSWER_S) if room and self._fetching is None else None
        while room and not self.desk.waiting and (left_s := until_s - self.clock.seconds()) > 0:
            if isinstance(error, BusUnreachable | OutcomeUnknown) and self.client.end is None:
                # The node may be back in time.
                await sleep(self.clock, min(0.2, left_s))
            elif error is not None:
                raise error
            error = await self._fetched(room, min(left_s, _POLL_S), left_s)
        if self.desk.waiting:
            try:
                return await self.counts()
            except (BusUnreachable, OutcomeUnknown):
                return Counts(0, len(self.desk), 0)
        if error is not None:
            raise error
        return await self.counts()

    async def counts(self) -> Counts:
        """What the node has for us; errors as :meth:`trishula.client.Client.request`."""
        told = await self.client.request(MAILBOX_PEEK, {"max": 1}, timeout=ANSWER_S)
        return Counts(int(told["pending"]), int(told["in_flight"]), int(told["high_water"]))

    async def head(self) -> tuple[Head | None, int]:
        """The most urgent message that waits on the node, and how many wait; nothing if no node says so at once."""
        now_s = self.clock.seconds()
        if self._looked_s is not None and now_s - self._looked_s < _LOOK_EVERY_S:
            return None, 0
        self._looked_s = now_s
        asked: dict[str, Any] = {"max": 1}
        try:
            for _ in range(_MOST_LOOKS):
                page = await self.client.request(MAILBOX_PEEK, asked, timeout=_LOOK_S)
                # Somebody else may have said it, such as a hook.
                self.turn = turn_of(page, self.turn)
                if (head := head_of(page)) is not None or not page.get("more"):
                    return head, int(page["pending"])
                asked = {"max": 1, "after": page["after"]}
        except TrishulaError:
            # It is said beside something else, which did not fail.
            pass
        return None, 0

    async def _fetched(self, room: int, wait_s: float, patience_s: float) -> BaseException | None:
        fetching = self._fetching or self._fetch(room, wait_s)
        if not await ended_within(self.clock, fetching, max(patience_s, 0.0)):
            return None
        return fetching.error

    def _fetch(self, room: int, wait_s: float) -> Pending[Any]:
        """One at a time. It isn't cancelled with whoever waits: what the node gave would be in nobody's hands."""
        if self._fetching is None:
            self._fetching = fetching = start(self.client.fetch(max=room, wait_s=wait_s))
            fetching.when_done(self._came)
            return fetching
        return self._fetching

    def _came(self, fetching: Pending[Any]) -> None:
        self._fetching = None
        if fetching.error is not None:
            return
        taken = self.desk.take(fetching.result().deliveries)
        for token in taken.again:
            self.client.ack_soon(token)
        for delivery in taken.foreign:
            reason = f"{self.client.address.agent} has got another message of this sender under that id"
            self.client.nack_soon(delivery.token, reason, requeue=False)
        self._tell_surfaced()

    async def take_turn(self, state: TurnState, doing: str | None, for_s: float) -> None:
        """The model begins or ends a turn; others see until when it is busy, and with what."""
        self.turn = state
        self._looked_s = None
        asked: dict[str, Any] = {"state": state, "for_s": for_s}
        if (words := doing_of(doing)) is not None:
            asked["doing"] = words
        try:
            await self.client.request(DIRECTORY_TURN, asked, timeout=ANSWER_S)
        except TrishulaError:
            # A node of the release before, or none at all: our beats tell it, as long as we are there.
            is_told = False
        else:
            is_told = True
        if state == "closed" or is_told:
            self.client.activity.idle(None)
        else:
            self.client.activity.busy(self._around.now_ms() + round(for_s * 1000), progress_of(state, doing), None)
        self.client.heartbeat.tell()

    # -- settling them -------------------------------------------------------------------------------------------------

    async def done(self, item: InHand) -> bool:
        """The model is through with a message; whether the node knows already. If not, it will be told."""
        if item.is_open and not item.is_surfaced:
            # First: what is done has no further stages.
            await self._surface(item)
        tokens = self.desk.done(item, self._around.now_ms())
        self._memory.commit()
        if tokens and self.client.is_ready:
            try:
                if any(await self.client.ack(tokens)):
                    return True
            except TrishulaError as error:
                _log.info("The ack of %s failed, and is said again by its id: %s", item.message.id, error)
        return await self._ack_by_id(item.message)

    async def _surface(self, item: InHand) -> None:
        """Have the node note that the model has it; a node that was lost delivers it again, with a new token."""
        for is_again in (False, True):
            if self.desk.token(item) is None:
                await self._fetched(MOST_IN_HAND, 1.0, ANSWER_S)
            item.told_by = token = self.desk.token(item)
            if token is None or (is_again and not self.client.is_ready):
                return
            with contextlib.suppress(TrishulaError):
                (item.is_surfaced,) = await self.client.surfaced([token])
                return

    async def done_unseen(self, message: Message) -> None:
        """A message that still lies in our mailbox came to us by another road: the answer to a question."""
        item = next((one for one in self.desk.waiting if one.message.id == message.id), None)
        if item is not None and item.message.sender == message.sender:
            await self.done(item)
            return
        self.desk.note_done(message, self._around.now_ms())
        self._memory.commit()
        await self._ack_by_id(message)

    async def _ack_by_id(self, message: Message) -> bool:
        if message.sender is None or is_nodes_own(message.id):
            return False
        ack = {"type": "ACK", "to": message.sender, "reply_to": message.id, "timestamp": self._around.now_ms()}
        acked = self.client.forward(ack)
        acked.when_done(partial(_log_failure, message.id))
        return await ended_within(self.clock, acked, _ACK_S) and acked.error is None

    async def give_back(self, item: InHand, reason: str, requeue: bool) -> None:
        """The model won't do a message: it is delivered again, or goes to the dead letters.

        Raises:
            ArgumentInvalid: the reason is none.
            BusUnreachable: no node can be told now.
        """
        if self.desk.token(item) is None:
            # A node that was lost delivers it again, with a new token.
            await self._fetched(MOST_IN_HAND, 1.0, ANSWER_S)
        token = self.desk.token(item)
        if token is None:
            raise BusUnreachable(
                f"the message {item.message.id} can't be given back now: the node that delivered it is gone; try again"
            )
        await self.client.nack([token], reason, requeue=requeue)
        self.desk.give_back(item)

    def surfaced(self, shown: Iterable[InHand]) -> None:
        """Messages are put before the model by the result that this turn of the loop returns."""
        self.desk.show(shown)
        # Behind it: what was not returned was not shown.
        self.clock.callLater(0, self._tell_surfaced)

    def _tell_surfaced(self) -> None:
        """Have the node note what the model has; what can't be told now is told by the next token."""
        told = [(item, token) for item in self.desk.open if (token := self._untold(item)) is not None]
        if told and self.client.is_ready:
            for item, token in told:
                item.told_by = token
            noted = self.client.surfaced([token for _, token in told])
            noted.when_done(partial(_note_surfaced, [item for item, _ in told]))

    def _untold(self, item: InHand) -> str | None:
        token = self.desk.token(item)
        return None if item.is_surfaced or token == item.told_by else token


def _note_surfaced(told: Sequence[InHand], pending: Pending[list[bool]]) -> None:
    if pending.error is None:
        for item, is_noted in zip(told, pending.result(), strict=True):
            item.is_surfaced = is_noted


def _log_failure(message_id: str, pending: Pending[Any]) -> None:
    if pending.error is not None:
        _log.warning("The node was not told that %s is done: %s", message_id, pending.error)
