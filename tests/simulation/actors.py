"""Who takes part in a simulated history: two senders, an agent with handlers, and a script that fetches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.simulation.world import SimConnection, World, settings
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract.message import DEFAULT_TTL_MS, Message
from trishula.contract.receipts import Receipt
from trishula.errors import TrishulaError
from trishula.messaging.entries import Limits
from trishula.runtime.pending import Pending, start
from trishula_drill.history import Delivered, Event, FetchedEmpty, Handled, Receipted, Refused, Sent, digest_of

__all__ = ["Fetcher", "Handling", "Sender"]

Tell = Callable[[Event], None]


def sleep(world: World, seconds: float) -> Pending[None]:
    pending: Pending[None] = Pending()
    world.clock.callLater(seconds, pending.resolve, None)
    return pending


class Sender:
    """Sends bursts, some of them urgent, some short-lived, some soon cancelled."""

    def __init__(self, world: World, tell: Tell, name: str, recipients: tuple[str, ...]) -> None:
        self.name = name
        self.ids: list[str] = []
        self._world = world
        self._tell = tell
        self._recipients = recipients
        self._connection = SimConnection(world, name)
        self.client = Client(
            settings(name), around=world.surroundings(), connection=self._connection, limits=Limits(batch_messages=2)
        )
        start(self.client.start())

    def burst(self) -> None:
        # Several calls, and what the node says to one of them is not known when the next one is made.
        for _ in range(self._world.chance.randint(1, 8)):
            self._send()

    def _send(self) -> None:
        chance, now_ns = self._world.chance, self._world.instant_ns
        number = len(self.ids) + 1
        message_id = f"{self.name}.{number}"
        self.ids.append(message_id)
        to = chance.choice(self._recipients)
        priority = chance.choice((3, 3, 3, 1, 5))
        # A handler that fails once, or a message that may end otherwise, leaves its place in the line.
        fails = chance.random() < 0.05
        payload = {"n": number, "fails": fails}
        options: dict[str, Any] = {"ttl_ms": chance.randint(50, 3000)} if chance.random() < 0.05 else {}
        run = f"{self.name}.{number}" if fails else self.name
        ttl_ms = options.get("ttl_ms", DEFAULT_TTL_MS)
        self._tell(Sent(now_ns(), self.name, run, message_id, (to,), number, priority, digest_of(payload), ttl_ms))

        def receipt(pending: Pending[Receipt]) -> None:
            error = pending.error
            if error is None:
                self._tell(Receipted(now_ns(), self.name, message_id))
            else:
                self._tell(Refused(now_ns(), self.name, message_id, str(error)))

        self.client.send(to, id=message_id, payload=payload, priority=priority, **options).when_done(receipt)
        if chance.random() < 0.05:
            self._world.later(0.0, 1.0, self._cancel, message_id)

    def _cancel(self, message_id: str) -> None:
        from trishula.contract.uris import MAILBOX_CANCEL

        self.client.request(MAILBOX_CANCEL, [message_id]).when_done(lambda pending: pending.error)

    def stop(self) -> None:
        start(self.client.stop())


class Handling:
    """Records the effects of messages; some handlers take a while, some fail the first time."""

    def __init__(self, world: World, tell: Tell, name: str) -> None:
        self.name = name
        self._world = world
        self._tell = tell
        self._failed: set[str] = set()

    def effect(self, message: Message) -> None:
        sender = message.sender or ""
        event = Handled(self._world.instant_ns(), self.name, "r", sender, message.id, digest_of(message.payload))
        self._tell(event)

    def check(self, message: Message) -> None:
        if message.payload["fails"] and message.id not in self._failed:
            self._failed.add(message.id)
            raise TrishulaError("it fails the first time")

    def handle(self, message: Message) -> Deferred[None] | None:
        self.check(message)
        if self._world.chance.random() < 0.3:
            # No coroutine: where an asyncio loop runs, as under pytest, it would become a task and leave the clock.
            # One that can be cancelled: else it would go on, out of turn, when its message is.
            return Deferred.fromCoroutine(self._handle_slowly(message))
        self.effect(message)
        return None

    async def _handle_slowly(self, message: Message) -> None:
        await sleep(self._world, self._world.chance.choice((0.001, 0.05, 1.0)))
        self.effect(message)


class AgentActor(Handling):
    """An agent with one handler."""

    def __init__(self, world: World, tell: Tell, name: str) -> None:
        super().__init__(world, tell, name)
        self.agent = Agent(name, window=world.chance.choice((1, 3, 8)), state=False)
        self.agent.on("STATUS")(self.handle)
        start(self.agent.start(settings(name), around=world.surroundings(), connection=SimConnection(world, name)))

    def stop(self) -> None:
        start(self.agent.stop())


class Fetcher(Handling):
    """The pull form; it is killed now and then, and remembers what it handled."""

    def __init__(self, world: World, tell: Tell, name: str) -> None:
        super().__init__(world, tell, name)
        self._known: set[tuple[str, str]] = set()
        self._life = 0
        self.begin()

    def begin(self) -> None:
        self._connection = SimConnection(self._world, self.name)
        self._client = Client(settings(self.name), around=self._world.surroundings(), connection=self._connection)
        start(self._live(self._client, self._life))

    def kill(self) -> None:
        if not self._world.is_calm and self._connection.link is not None:
            self._world.struck("kill script")
            self._life += 1
            self._connection.vanish()
            self._world.later(0.05, 0.5, self.begin)

    def stop(self) -> None:
        self._life += 1
        start(self._client.stop())

    async def _live(self, client: Client, life: int) -> None:
        world = self._world
        await client.start()
        while life == self._life:
            began_ns = world.instant_ns()
            wait_s = world.chance.choice((0.0, 0.5))
            try:
                fetched = await client.fetch(max=world.chance.randint(1, 8), wait_s=wait_s)
                if life != self._life:
                    return
                for delivery in fetched.deliveries:
                    message = delivery.message
                    key = (message.sender or "", message.id)
                    self._tell(Delivered(world.instant_ns(), self.name, "r", *key, delivery.attempt))
                    if key not in self._known:
                        self._known.add(key)
                        self.effect(message)
                if fetched.deliveries and world.chance.random() < 0.5:
                    await client.surfaced([delivery.token for delivery in fetched.deliveries])
                if fetched.deliveries:
                    await client.ack([delivery.token for delivery in fetched.deliveries])
                elif fetched.pending + fetched.in_flight == 0:
                    at_ns = world.instant_ns()
                    # The answer to a fetch that waited is as of its end, and its beginning is not known to us.
                    if wait_s == 0.0:
                        self._tell(FetchedEmpty(began_ns, at_ns, self.name, "r", fetched.epoch, fetched.high_water))
                    await sleep(world, 0.1)
            except TrishulaError:
                await sleep(world, 0.1)
