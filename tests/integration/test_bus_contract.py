"""What a bus does, as agents and clients meet it: each test runs on a real node and on a bus in memory.

So a test of somebody's agent on :mod:`trishula.testing` means something. The wire beneath is held alike by
``test_wire_contract.py``. Each test has agents of its own, ``me`` and ``dc`` in their short names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

import trishula
from tests.support.loops import in_own_loop
from tests.support.node import NodeProcess
from trishula import testing
from trishula.contract import uris
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import TokenEntry, digest_of

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
#: What both nodes are told: a handler that fails is tried again soon, and twice.
DELIVERY = {"max_attempts": 2, "backoff_first": "200ms", "lease": "5s"}
LIMITS = {"mailbox_messages": 20, "mailbox_share": 1.0, "urgent_room": 0.0}
GRANTS = {"me": testing.Grants(), "dc": testing.Grants(), "boss": testing.Grants(operator=True)}
GRANTS["mute"] = testing.Grants(send=(), call=())
#: How many tests may ask for agents of their own on the real node.
SETS = 60
GENEROUS_S = 20.0


class World(Protocol):
    """A bus with the agents of one test."""

    def name(self, short: str) -> str:
        """How an agent of this test is called."""

    def agent(self, short: str) -> trishula.Agent:
        """An agent without handlers."""

    def running(self, agent: trishula.Agent) -> AbstractAsyncContextManager[object]:
        """Run an agent as long as the block lasts."""

    def client(self, short: str) -> AbstractAsyncContextManager[trishula.AsyncClient]:
        """A client of an agent."""

    async def passes(self, seconds: float) -> None:
        """Let time pass."""

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so; time passes, and there is enough of it."""


class MemoryWorld:
    def __init__(self, bus: testing.MemoryBus) -> None:
        self._bus = bus

    def name(self, short: str) -> str:
        return short

    def agent(self, short: str) -> trishula.Agent:
        return trishula.Agent(short)

    def running(self, agent: trishula.Agent) -> AbstractAsyncContextManager[object]:
        return self._bus.run(agent)

    @asynccontextmanager
    async def client(self, short: str) -> AsyncIterator[trishula.AsyncClient]:
        yield self._bus.client(short)

    async def passes(self, seconds: float) -> None:
        await self._bus.advance(seconds=seconds)

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(round(4 * GENEROUS_S)):
            await self._bus.settle()
            if true():
                return
            await self._bus.advance(seconds=0.25)
        raise AssertionError("it didn't come")


class RealWorld:
    def __init__(self, node: NodeProcess, number: int) -> None:
        self._node = node
        self._number = number

    def name(self, short: str) -> str:
        return f"{short}{self._number}"

    def agent(self, short: str) -> trishula.Agent:
        name = self.name(short)
        return trishula.Agent(name, url=self._node.url, token=token_of(name), state=False)

    def running(self, agent: trishula.Agent) -> AbstractAsyncContextManager[object]:
        return agent

    def client(self, short: str) -> AbstractAsyncContextManager[trishula.AsyncClient]:
        return trishula.AsyncClient(self._node.url, token=token_of(self.name(short)))

    async def passes(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(GENEROUS_S):
            while not true():
                await asyncio.sleep(0.02)


def token_of(name: str) -> str:
    return f"{name}.of-the-contract"


@pytest.fixture(scope="module", autouse=True)
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("bus")
    state = directory / "state"
    state.mkdir(mode=0o700)
    config = json.loads(SHIPPED.read_text())
    extra = config["workers"][0]["components"][0]["extra"]
    extra["delivery"] = {**extra.get("delivery", {}), **DELIVERY}
    extra["limits"] = {**extra.get("limits", {}), **LIMITS}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    with update_agents(state / "agents.json") as known:
        for number in range(SETS):
            for short, grants in GRANTS.items():
                name = f"{short}{number}"
                token = TokenEntry(digest_of(token_of(name)), 0.0)
                known[name] = AgentEntry(grants.operator, grants.send, grants.call, (token,), grants.serve)
    with NodeProcess(state, config=file) as node:
        yield node


Test = Callable[[World], Any]
_numbers = iter(range(SETS))


@pytest.fixture(params=["memory", "node"])
def on_a_bus(request: pytest.FixtureRequest, real_node: NodeProcess) -> Callable[[Test], None]:
    """Runs a test in a loop of its own, on one bus or the other."""

    def on_memory(test: Test) -> None:
        async def main() -> None:
            async with testing.bus(GRANTS, delivery=DELIVERY, limits=LIMITS) as bus:
                await test(MemoryWorld(bus))

        in_own_loop(main)

    def on_node(test: Test) -> None:
        world = RealWorld(real_node, next(_numbers))

        async def main() -> None:
            await test(world)

        in_own_loop(main)

    return on_memory if request.param == "memory" else on_node


Run = Callable[[Test], None]


class Heard:
    """An agent that notes what it hears, and its log: (payload, attempt) each."""

    def __init__(self, world: World) -> None:
        self.agent = world.agent("me")
        self.log: list[tuple[Any, int]] = []
        self.go_on = asyncio.Event()
        self.cancelled: list[str] = []

        @self.agent.on("STATUS")
        async def heard(message: trishula.Message) -> None:
            delivery = trishula.current_delivery()
            assert delivery is not None
            self.log.append((message.payload, delivery.attempt))
            if message.payload == "fail once" and delivery.attempt == 1:
                raise ValueError("the first time")
            if message.payload == "fail":
                raise ValueError("each time")
            if message.payload == "wait":
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.cancelled.append(message.id)
                    raise

        @self.agent.procedure()
        async def add(a: int, b: int = 1) -> int:
            return a + b

        @self.agent.procedure()
        def broken() -> None:
            raise LookupError("nothing there")

        @self.agent.procedure()
        def refuses() -> None:
            raise trishula.MailboxFull("come again", retry_after_s=7.0)

        @self.agent.procedure()
        async def silent() -> None:
            await self.go_on.wait()

        @self.agent.procedure()
        def strange() -> object:
            return object()

    @property
    def payloads(self) -> list[Any]:
        return [payload for payload, _ in self.log]


async def states(client: trishula.AsyncClient, *ids: str) -> list[str]:
    found = await client.request(uris.MAILBOX_STATUS, list(ids))
    return [found[one]["state"] for one in ids]


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_come_in_order_once_each_and_are_done(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me = Heard(world)
        async with world.client("dc") as dc:
            before = await dc.send(world.name("me"), payload="while it is away")
            assert (before.status, await states(dc, before.id)) == ("accepted", ["accepted"])
            async with world.running(me.agent):
                receipts = await asyncio.gather(*(dc.send(world.name("me"), payload=n) for n in range(10)))
                again = await dc.send(world.name("me"), payload=9, id=receipts[9].id)
                assert again.status == "duplicate"
                with pytest.raises(trishula.IdReused):
                    await dc.send(world.name("me"), payload="another", id=receipts[9].id)
                await world.until(lambda: len(me.log) == 11)
                assert me.log == [(payload, 1) for payload in ("while it is away", *range(10))]
            assert await states(dc, before.id, *(one.id for one in receipts)) == ["done"] * 11

    on_a_bus(test)


def test_a_handler_that_fails_gets_it_again_and_then_it_is_dead(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me = Heard(world)
        async with world.client("dc") as dc, world.client("boss") as boss, world.running(me.agent):
            once, always = [await dc.send(world.name("me"), payload=one) for one in ("fail once", "fail")]
            await world.until(lambda: len(me.log) == 4)
            assert sorted(me.log) == [("fail", 1), ("fail", 2), ("fail once", 1), ("fail once", 2)]
            notice = await dc.fetch(instance=dc.address.instance, wait_s=10)
            [told] = [delivery.message for delivery in notice.deliveries]
            assert (told.type, told.reply_to) == ("ERROR", always.id)
            assert told.payload["error"] == trishula.DeadLetter.uri
            assert "ValueError: each time" in told.payload["message"]
            assert await states(dc, once.id, always.id) == ["done", "dead"]
            page = await boss.request(uris.ADMIN_DEAD_LIST, {"agent": world.name("me")})
            assert [letter["id"] for letter in page["letters"]] == [always.id]

    on_a_bus(test)


def test_what_nobody_fetches_expires_and_an_instance_has_a_mailbox(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        async with world.client("dc") as dc, world.client("boss") as boss:
            short = await dc.send(world.name("me"), payload="soon over", ttl_ms=200)
            kept = await dc.send(world.name("me"), payload="kept", ttl_ms=60_000)
            found: list[str] = []
            while found[:1] != ["expired"]:
                found = await states(dc, short.id, kept.id)
                await world.passes(0.2)
            assert found == ["expired", "accepted"]
            await boss.send(str(dc.address), payload="to the script")
            own = await dc.fetch(instance=dc.address.instance, wait_s=10)
            # The notice that it expired is there as well.
            assert sorted(one.message.type for one in own.deliveries)[-1] == "STATUS"
            assert all(await dc.ack([one.token for one in own.deliveries]))

    on_a_bus(test)


def test_fetch_ack_and_nack(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        async with world.client("dc") as dc, world.client("me") as me:
            sent = [await dc.send(world.name("me"), payload=n, priority=5 - n) for n in (1, 2)]
            fetched = await me.fetch()
            # The more urgent one first.
            assert [one.message.payload for one in fetched.deliveries] == [2, 1]
            assert (fetched.pending, fetched.in_flight) == (0, 2)
            assert await me.ack([fetched.deliveries[0].token]) == [True]
            assert await me.nack([fetched.deliveries[1].token], "not now") == [True]
            assert await me.nack([fetched.deliveries[1].token], "not now") == [False]
            waiting = asyncio.create_task(me.fetch(wait_s=10))
            await world.until(waiting.done)
            [again] = waiting.result().deliveries
            assert (again.message.payload, again.attempt) == (1, 2)
            assert await me.nack([again.token], "never", requeue=False) == [True]
            assert await states(dc, *(one.id for one in sent)) == ["dead", "done"]

    on_a_bus(test)


def test_cancel_reaches_what_waits_and_what_runs(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me = Heard(world)
        async with world.client("dc") as dc:
            waiting = await dc.send(world.name("me"), payload="never heard")
            assert await dc.cancel(waiting.id, "unknown") == [True, False]
            async with world.running(me.agent):
                running = await dc.send(world.name("me"), payload="wait")
                await world.until(lambda: me.log)
                assert await dc.cancel(running.id) == [True]
                await world.until(lambda: me.cancelled)
                assert (me.cancelled, me.payloads) == ([running.id], ["wait"])
                assert await states(dc, waiting.id, running.id) == ["cancelled", "cancelled"]

    on_a_bus(test)


def test_a_full_mailbox_and_what_is_not_granted(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        async with world.client("dc") as dc, world.client("mute") as mute, world.client("boss") as boss:
            for number in range(20):
                await dc.send(world.name("me"), payload=number)
            refused: list[trishula.TrishulaError] = []
            over = asyncio.create_task(dc.send(world.name("me"), payload=20, on_refused=refused.append))
            await world.until(lambda: refused)
            assert isinstance(refused[0], trishula.MailboxFull)
            purged = await boss.request(uris.ADMIN_MAILBOX_PURGE, world.name("me"))
            assert purged
            await world.until(over.done)
            assert over.result().status == "accepted"
            for attempt, error in (
                (mute.send(world.name("dc"), payload=1), trishula.RecipientForbidden),
                (mute.rpc(world.name("me"), "add", 1), trishula.NotAllowed),
                (dc.request(uris.NODE_STATUS), trishula.NotAllowed),
                (dc.subscribe(uris.receipts_of(world.name("me")), print), trishula.NotAllowed),
                (dc.send("nobody_at_all", payload=1), trishula.RecipientUnknown),
                (dc.send(world.name("me"), payload="x" * 2**20), trishula.PayloadTooLarge),
                (dc.send(world.name("me"), payload={1, 2}), trishula.PayloadNotJson),
            ):
                with pytest.raises(error):
                    await attempt

    on_a_bus(test)


def test_broadcast_and_news_of_what_was_sent(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me = Heard(world)
        async with world.client("dc") as dc, world.running(me.agent):
            news: list[tuple[str, str]] = []

            def heard(reports: list[dict[str, Any]]) -> None:
                news.extend((one["id"], one["state"]) for one in reports)

            await dc.subscribe(uris.receipts_of(world.name("dc")), heard)
            receipt = await dc.send(world.name("me"), payload="watched")
            await world.until(lambda: len(news) == 2)
            assert news == [(receipt.id, "delivered"), (receipt.id, "done")]

    on_a_bus(test)


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["call", "rpc"])
def test_a_call_is_answered_or_fails_as_the_procedure_does(on_a_bus: Run, verb: str) -> None:
    async def test(world: World) -> None:
        me, name = Heard(world), world.name("me")
        async with world.client("dc") as dc, world.running(me.agent):
            call = getattr(dc, verb)
            assert await call(name, "add", 2, b=3) == 5
            with pytest.raises(trishula.CallFailed, match=r"LookupError.*nothing there"):
                await call(name, "broken")
            with pytest.raises(trishula.MailboxFull, match="come again"):
                await call(name, "refuses")
            with pytest.raises(trishula.ArgumentInvalid):
                await call(name, "add", 1, 2, 3)
            with pytest.raises(trishula.ProcedureUnknown):
                await call(name, "no_such_thing")
            with pytest.raises(trishula.PayloadNotJson, match="of the type object"):
                await call(name, "strange")
            late = asyncio.create_task(call(name, "silent", timeout=0.5))
            await world.until(late.done)
            assert isinstance(late.exception(), trishula.OutcomeUnknown)
            me.go_on.set()

    on_a_bus(test)


def test_a_call_waits_for_an_agent_that_is_away_and_a_live_one_does_not(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me, name = Heard(world), world.name("me")
        async with world.client("dc") as dc:
            with pytest.raises(trishula.ProcedureUnknown):
                await dc.rpc(name, "add", 1)
            durable = asyncio.create_task(dc.call(name, "add", 1, timeout=20))
            await asyncio.sleep(0)
            async with world.running(me.agent):
                await world.until(durable.done)
            assert durable.result() == 2

    on_a_bus(test)


# -- topics, presence, takeover ----------------------------------------------------------------------------------------


def test_publish_and_subscribe(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me = Heard(world)
        async with world.client("dc") as dc, world.client("me") as script, world.running(me.agent):
            heard: list[Any] = []
            topic = uris.topic_of(world.name("me"), "weather")
            await dc.subscribe(topic, lambda *args: heard.append(args))
            await script.subscribe(topic, lambda *args: heard.append("its own"))
            await script.publish("weather", "sunny", {"degrees": 21})
            await me.agent.publish("weather", "rain")
            await world.until(lambda: len(heard) == 3)
            # Not to whoever published it: of the script's own only the other's came to the script.
            assert sorted(heard, key=str) == sorted([("sunny", {"degrees": 21}), ("rain",), "its own"], key=str)
            with pytest.raises(trishula.PayloadNotJson):
                await script.publish("weather", object())

    on_a_bus(test)


def test_presence_and_capabilities(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        me, name = Heard(world), world.name("me")
        async with world.client("dc") as dc:
            changes: list[str] = []

            def changed(entry: dict[str, Any]) -> None:
                if entry["agent"] == name:
                    changes.append(entry["presence"])

            await dc.subscribe(uris.EVENT_AGENT, changed)
            async with world.running(me.agent):
                await world.until(lambda: changes)
                me.agent.busy(for_s=600, progress="thinking")
                await world.until(lambda: changes[-1] == "busy")
                entry = await dc.request(uris.DIRECTORY_GET, name)
                assert (entry["presence"], entry["progress"]) == ("busy", "thinking")
            await world.until(lambda: changes[-1] == "offline")
            assert changes == ["online", "busy", "offline"]

    on_a_bus(test)


def test_a_second_session_takes_over(on_a_bus: Run) -> None:
    async def test(world: World) -> None:
        first, second = Heard(world), Heard(world)
        async with world.client("dc") as dc, world.running(first.agent):
            over = first.agent.over
            async with world.running(second.agent):
                await world.until(lambda: over.done)
                assert isinstance(over.error, trishula.TakenOver)
                await dc.send(world.name("me"), payload="to the newer one")
                await world.until(lambda: second.log)
                assert (first.log, second.payloads) == ([], ["to the newer one"])
                with pytest.raises(trishula.MailboxBusy):
                    async with world.client("me") as script:
                        await script.fetch()

    on_a_bus(test)
