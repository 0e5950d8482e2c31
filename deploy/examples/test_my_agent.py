"""Tests of an agent on a bus in memory: ``pytest test_my_agent.py``; no router runs, and nobody sleeps."""

import asyncio

import trishula.testing
from trishula import Agent, Message

agent = Agent("me")  # yours would be imported
notes: list[str] = []


@agent.procedure()
async def add(a: int, b: int) -> int:
    return a + b


@agent.on("STATUS")
async def note(message: Message) -> None:
    if message.payload is None:
        raise ValueError("there is nothing to note")
    notes.append(message.payload)


def test_it_adds() -> None:
    with trishula.testing.bus(agents=["me", "dc"]) as bus, bus.run(agent):
        assert bus.client("dc").call("me", "add", 2, 3) == 5


def test_what_it_can_never_note_becomes_a_dead_letter() -> None:
    with trishula.testing.bus(agents=["me", "dc"]) as bus, bus.run(agent):
        receipt = bus.client("dc").send("me", payload=None)
        bus.advance(hours=1)  # five attempts, with the pauses between them
        assert bus.state(receipt.id) == "dead"
        assert [one.outcome for one in bus.deliveries("me")] == ["given back"] * 5
        assert "nothing to note" in bus.dead_letters("me")[0].reason


def test_a_restart_of_the_node_loses_nothing() -> None:
    async def main() -> None:
        async with trishula.testing.bus(agents=["me", "dc"]) as bus:
            receipt = await bus.client("dc").send("me", payload="before it came")
            await bus.restart_node(crash=True)
            async with bus.run(agent):
                await bus.idle()
            assert notes[-1:] == ["before it came"]
            assert bus.state(receipt.id) == "done"

    asyncio.run(main())
