"""Live topics between cells: what an agent publishes at one cell is heard by those who are subscribed at the others.

At most once, as within a cell: nothing is kept and nothing is sent again. What can't be sent just now is dropped and
counted; of what waits to be sent, the oldest goes when there is too much. Each node speaks and listens for its own
sessions alone: what linked nodes tell each other goes by their link.

The grants are looked at at both ends: at the one only the agent itself publishes, and at the other one it must be
registered, and whoever is subscribed has the grant for it. What came from another cell is told to sessions of agents
and operators here, so it goes out neither to a link nor to Redis again.

A connection that is open says nothing of whether anything is heard by it, so while somebody is subscribed there is a
canary, as of the stream of a cell (:mod:`.canary`): what the node says on a channel of its own it hears, or it
connects anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trishula_router.archiving.archiver import InThread
from trishula_router.background import run
from trishula_router.cells.canary import Canary
from trishula_router.cells.live import Event, Freshness, read_event, write_event
from trishula_router.cells.live_road import LiveRoad
from trishula_router.cells.road import RoadFailed
from trishula_router.cells.seal import KeyUnfit, Seal, Unsealed
from trishula_router.cells.standing import Standing
from trishula_router.clocks.clock import Clock

__all__ = ["LiveEnds", "Topics"]

#: How long a look waits for the first event: so long a new subscription may take to reach Redis.
_WAIT_S = 0.2
#: What waits to be said, and how large it may be together.
_QUEUED, _QUEUED_BYTES = 10_000, 16 * 1024 * 1024
#: What is said at a time.
_TOGETHER = 256
#: If the canary that came back last is older, nothing is heard any more.
_DEAF_S = 15.0


@dataclass(frozen=True, slots=True)
class LiveEnds:
    """Both ends of the road of live events, and the threads that wait for them.

    Attributes:
        say, hear: the ends.
        in_sayer, in_hearer: have what blocks done, one thing after the other.
    """

    say: LiveRoad
    hear: LiveRoad
    in_sayer: InThread
    in_hearer: InThread


class Topics:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        epoch: of this run of the node.
        ends: of the road.
        seal: proves who says what; raises :class:`.seal.KeyUnfit` while it can't.
        may_publish: (agent, topic) → whether an agent may publish there, by this node's file of agents.
        not_believed: told of what no cell has said: a sentence.
        clock: timers.
        random: spreads pauses.

    Attributes:
        republish: tells the sessions of this node of an event; the edge puts it here.
        said, heard: how many events other cells were told of, and how many came from them.
        dropped: how many could not be said, or were too many.
        unknown: how many came from agents that may not publish here.
    """

    def __init__(
        self,
        cell: str,
        epoch: str,
        ends: LiveEnds,
        seal: Callable[[], Seal],
        *,
        may_publish: Callable[[str, str], bool],
        not_believed: Callable[[str], None],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._cell = cell
        self._epoch = epoch
        self._ends = ends
        self._seal = seal
        self._may_publish = may_publish
        self._not_believed = not_believed
        self._clock = clock
        self.republish: Callable[[Event], None] = lambda event: None
        self._standing = Standing(
            ends.say.where,
            clock,
            random,
            "the live topics of other cells",
            "what is published meanwhile is not heard there",
        )
        self._canary, self._canary_channel = Canary(clock.seconds()), f"canary:{epoch}"
        self._freshness = Freshness()
        self._number = 0
        #: Topic by the router's number of its subscription.
        self._subscribed: dict[int, str] = {}
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued_bytes = 0
        self._is_saying = self._is_hearing = self._is_stopped = False
        self.said = self.heard = self.dropped = self.unknown = 0

    @property
    def fault(self) -> str | None:
        """Why events don't go out or come in, as a sentence; ``None`` while they do."""
        return self._standing.fault

    def told(self) -> dict[str, Any]:
        """What there is to know of it, as it travels."""
        return {
            "subscribed": len(self._subscribed),
            "sent": self.said,
            "heard": self.heard,
            "dropped": self.dropped,
            "not_registered": self.unknown,
            "fault": self.fault,
        }

    def round(self) -> None:
        """What is due: to be called a few times a second."""
        if self._is_hearing and (number := self._canary.next(self._clock.seconds())) is not None:
            self._put(self._canary_channel, str(number).encode())
        self._hear_soon()

    def stop(self) -> None:
        """Begin nothing more; what is under way ends with the process."""
        self._is_stopped = True

    # -- out -----------------------------------------------------------------------------------------------------------

    def published(
        self,
        topic: str,
        agent: str,
        session: int,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        eligible: list[str] | None = None,
        excluded: list[str] | None = None,
        roles: list[str] | None = None,
    ) -> None:
        """An agent has published an event here, and was allowed to; see :class:`.live.Event`."""
        self._number += 1
        event = Event(
            cell=self._cell,
            run=self._epoch,
            number=self._number,
            topic=topic,
            agent=agent,
            session=session,
            args=list(args),
            kwargs=kwargs,
            eligible=eligible,
            excluded=excluded,
            roles=roles,
        )
        try:
            self._put(topic, write_event(event))
        except ValueError:
            self.dropped += 1

    def _put(self, channel: str, text: bytes) -> None:
        if not self._standing.may("say"):
            self.dropped += channel != self._canary_channel
            return
        self._queue.append((channel, text))
        self._queued_bytes += len(text)
        while len(self._queue) > _QUEUED or self._queued_bytes > _QUEUED_BYTES:
            self._queued_bytes -= len(self._queue.popleft()[1])
            self.dropped += 1
        if not self._is_saying and not self._is_stopped:
            self._is_saying = True
            # What is published in one turn of the reactor goes together.
            self._clock.callLater(0, lambda: run(self._say()))

    async def _say(self) -> None:
        saying: list[tuple[str, bytes]] = []
        try:
            while self._queue and not self._is_stopped:
                saying = [self._queue.popleft() for _ in range(min(_TOGETHER, len(self._queue)))]
                self._queued_bytes -= sum(len(text) for _, text in saying)
                seal = self._seal()
                sealed = [(channel, seal.live(channel, text)) for channel, text in saying]
                await self._ends.in_sayer(partial(self._ends.say.say, sealed))
                self.said += sum(channel != self._canary_channel for channel, _ in saying)
                saying = []
                self._standing.well("say")
        except (RoadFailed, KeyUnfit) as error:
            # Once more could be twice, and late.
            self.dropped += len(saying) + len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            self._standing.failed("say", str(error))
        finally:
            self._is_saying = False

    # -- in ------------------------------------------------------------------------------------------------------------

    def listening(self, subscription: int, topic: str | None) -> None:
        """Who is subscribed has changed: to which agent's topic clients of this node are, by a number; ``None`` if none
        of them is any more."""
        if topic is None:
            self._subscribed.pop(subscription, None)
            return
        self._subscribed[subscription] = topic
        self._hear_soon()

    def _hear_soon(self) -> None:
        if not self._is_hearing and not self._is_stopped and self._subscribed and self._standing.may("hear"):
            self._is_hearing = True
            self._canary.begin(self._clock.seconds())
            run(self._hear())

    async def _hear(self) -> None:
        ends = self._ends
        try:
            while self._subscribed and not self._is_stopped:
                channels = {*self._subscribed.values(), self._canary_channel}
                told = await ends.in_hearer(partial(ends.hear.hear, channels, _WAIT_S))
                seal = self._seal()
                for channel, text in told:
                    self._take(seal, channel, text)
                if self._canary.age_s(self._clock.seconds()) > _DEAF_S:
                    await ends.in_hearer(ends.hear.close)
                    raise RoadFailed(f"what the node says there it has not heard itself for {_DEAF_S:g} s")
            await ends.in_hearer(ends.hear.close)
        except (RoadFailed, KeyUnfit) as error:
            self._standing.failed("hear", str(error))
        finally:
            self._is_hearing = False

    def _take(self, seal: Seal, channel: str, told: bytes) -> None:
        try:
            text = seal.read_live(channel, told)
            if channel == self._canary_channel:
                self._canary.back(int(text))
                # Not before: that there is a connection says nothing.
                self._standing.well("hear")
                return
            event = read_event(text)
        except (Unsealed, ValueError) as error:
            self._not_believed(f"a live event on {channel}: {error}")
            return
        if event.cell == self._cell or event.topic != channel or not self._freshness.is_new(event.run, event.number):
            return
        if not self._may_publish(event.agent, event.topic):
            self.unknown += 1
            return
        self.heard += 1
        self.republish(event)
