"""The bus in memory, as the author of an agent uses it: what is its own, beside the rules that it shares with the real
one (``tests/integration/test_bus_contract.py``)."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import trishula
from tests.support.loops import in_own_loop, in_own_thread
from trishula import testing
from trishula.contract import uris
from trishula.testing.turned_clock import LifeClock, TurnedClock

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "examples" / "test_my_agent.py"


class Trial:
    """An agent that does what its messages say, and its log."""

    def __init__(self) -> None:
        self.agent = agent = trishula.Agent("me")
        self.heard: list[tuple[object, int]] = []
        self.go_on = asyncio.Event()

        @agent.procedure()
        async def add(a: int, b: int) -> int:
            await asyncio.sleep(0.001)
            return a + b

        @agent.procedure(thread=True)
        def relayed() -> list[object]:
            receipt = agent.from_thread(agent.send, "dc", payload="from a thread")
            return [receipt.status, threading.current_thread().name == name]

        @agent.on("STATUS")
        async def heard(message: trishula.Message) -> None:
            delivery = trishula.current_delivery()
            assert delivery is not None
            self.heard.append((message.payload, delivery.attempt))
            if message.payload == "fail":
                raise ValueError("as it was told")
            if message.payload == "wait":
                await self.go_on.wait()

        name = threading.current_thread().name


def test_call_send_and_what_became_of_it() -> None:
    async def main() -> None:
        me = Trial()
        async with testing.bus(agents=["me", "dc"]) as bus, bus.run(me.agent):
            dc = bus.client("dc")
            assert dc is bus.client("dc")
            assert await dc.call("me", "add", 2, 3) == 5
            assert await dc.rpc("me", "add", 2, b=4) == 6
            receipt = await dc.send("me", payload="hello")
            await bus.idle()
            assert me.heard == [("hello", 1)]
            assert bus.state(receipt.id) == "done"
            [told] = [one for one in bus.deliveries("me") if one.message.id == receipt.id]
            assert (told.to, told.attempt, told.outcome) == ("me", 1, "acknowledged")
            with pytest.raises(trishula.MessageUnknown):
                bus.state("nobody.knows")

    in_own_loop(main)


def test_an_hour_passes_at_once_and_every_pause_is_kept() -> None:
    async def main() -> None:
        me = Trial()
        start = datetime(2030, 1, 1, tzinfo=UTC)
        async with testing.bus(["me", "dc"], starts_at=start) as bus, bus.run(me.agent):
            assert abs(bus.now - start) < timedelta(seconds=60)
            receipt = await bus.client("dc").send("me", payload="fail")
            await bus.idle()
            assert me.heard == [("fail", 1)]
            await bus.advance(hours=1)
            assert me.heard == [("fail", attempt) for attempt in range(1, 6)]
            assert bus.state(receipt.id) == "dead"
            [letter] = bus.dead_letters("me")
            assert letter.message.payload == "fail" and "ValueError: as it was told" in letter.reason
            # 1 + 2 + 4 + 8 s after the first attempt, and not when the clock was turned.
            assert timedelta(seconds=14) < letter.dead_at - start < timedelta(seconds=80)
            assert bus.now - start >= timedelta(hours=1)
            # Its heart went on beating all the while.
            entry = await bus.client("dc").request(uris.DIRECTORY_GET, "me")
            assert entry["presence"] == "online"

    in_own_loop(main)


def test_a_crash_in_a_handler_brings_the_message_again() -> None:
    async def main() -> None:
        me = Trial()
        async with testing.bus(["me", "dc"]) as bus:
            running = bus.run(me.agent)
            await running.start()
            done = await bus.client("dc").send("me", payload="before")
            await bus.idle()
            await bus.client("dc").send("me", payload="wait")
            await bus.settle()
            assert me.heard == [("before", 1), ("wait", 1)]
            await running.crash()
            with pytest.raises(RuntimeError, match="doesn't run"):
                await running.crash()
            assert bus.deliveries("me")[-1].outcome == "lost"
            await running.start()
            await bus.advance(minutes=2)
            # What it had on record is not run again; what it had begun is, and can be told.
            assert me.heard == [("before", 1), ("wait", 1), ("wait", 2)]
            assert bus.state(done.id) == "done"
            me.go_on.set()
            await bus.idle()
            assert bus.deliveries("me")[-1].outcome == "acknowledged"
            await running.stop()

    in_own_loop(main)


def test_what_is_in_hand_is_named() -> None:
    async def main() -> None:
        me = Trial()
        async with testing.bus(["me", "dc"]) as bus, bus.run(me.agent):
            await bus.client("dc").send("me", payload="wait", id="m.1")
            with pytest.raises(TimeoutError, match=r"STATUS m\.1 in the hands of me"):
                await bus.idle(timeout=0.05)
            me.go_on.set()
            await bus.idle()

    in_own_loop(main)


def test_network_and_node_come_and_go() -> None:
    async def main() -> None:
        me = Trial()
        async with testing.bus(["me", "dc"]) as bus, bus.run(me.agent):
            dc = bus.client("dc")
            await bus.disconnect("me")
            assert await dc.call("me", "add", 1, 1) == 2
            with bus.cut_off("me"):
                await bus.settle()
                receipt = await dc.send("me", payload="for later")
                await bus.advance(seconds=30)
                assert bus.state(receipt.id) == "accepted"
                with pytest.raises(trishula.BusUnreachable):
                    bus.client("me")
            await bus.advance(seconds=10)
            await bus.idle()
            assert bus.state(receipt.id) == "done"
            await bus.stop_node(crash=True)
            with pytest.raises(RuntimeError, match="stopped"):
                bus.dead_letters()
            sent = asyncio.ensure_future(dc.send("me", payload="while it was away"))
            await bus.settle()
            assert not sent.done()
            await bus.start_node()
            await bus.advance(seconds=10)
            assert (await sent).status == "accepted"
            await bus.restart_node()
            await bus.idle()
            assert [payload for payload, _ in me.heard] == ["for later", "while it was away"]
            assert bus.state(receipt.id) == "done"

    in_own_loop(main)


def test_a_node_that_was_killed_does_nothing_more() -> None:
    async def main() -> None:
        async with testing.bus(["me", "dc"]) as bus:
            receipt = await bus.client("dc").send("me", ttl_ms=60_000)
            await bus.stop_node(crash=True)
            await bus.advance(hours=1)
            await bus.start_node()
            # Nothing of the dead node has ended the message meanwhile; the living one does it in its first round.
            [life] = bus.why(receipt.id)["messages"]
            assert [event["kind"] for event in life["events"]] == ["accepted"]
            await bus.advance(seconds=20)
            [life] = bus.why(receipt.id)["messages"]
            assert [event["kind"] for event in life["events"]] == ["accepted", "expired"]

    in_own_loop(main)


def test_the_clock_keeps_the_order_of_its_timers_and_a_life_ends_with_its_own() -> None:
    async def main() -> None:
        clock = TurnedClock(asyncio.get_running_loop())
        one, other = LifeClock(clock), LifeClock(clock)
        went_off: list[tuple[str, int]] = []

        def note(name: str) -> None:
            went_off.append((name, round(clock.seconds())))

        def again() -> None:
            note("each minute")
            one.callLater(60, again)

        one.callLater(60, again)
        other.callLater(90, note, "once")
        other.callLater(100, note, "dead by then")
        one.callLater(95, other.end)
        cancelled = one.callLater(10, note, "cancelled")
        cancelled.cancel()
        assert not cancelled.active()
        await clock.turn(190)
        assert went_off == [("each minute", 60), ("once", 90), ("each minute", 120), ("each minute", 180)]
        assert 190 <= clock.seconds() < 195
        # A longer time is gone through less exactly: nothing early, nothing late by more than some seconds.
        went_off.clear()
        await clock.turn(86_400)
        instants = [at_s for _, at_s in went_off]
        assert len(instants) > 1300
        assert all(60 <= later - earlier <= 66 for earlier, later in itertools.pairwise(instants))
        # It goes on by itself.
        gone_off = asyncio.Event()
        one.callLater(0.01, gone_off.set)
        await asyncio.wait_for(gone_off.wait(), 20)
        clock.close()

    in_own_loop(main)


def test_limits_and_grants_are_the_nodes() -> None:
    async def main() -> None:
        agents = {"me": testing.Grants(), "dc": testing.Grants(send=("me",)), "boss": testing.Grants(operator=True)}
        async with testing.bus(agents, limits={"mailbox_messages": 2, "mailbox_share": 1.0, "urgent_room": 0.0}) as bus:
            for number in (1, 2):
                await bus.client("dc").send("me", payload=number)
            refused: list[trishula.TrishulaError] = []
            sent = asyncio.ensure_future(bus.client("dc").send("me", payload=3, on_refused=refused.append))
            await bus.settle()
            assert [type(error) for error in refused] == [trishula.MailboxFull]
            sent.cancel()
            with pytest.raises(trishula.RecipientForbidden):
                await bus.client("dc").send("boss")
            with pytest.raises(trishula.NotAllowed):
                await bus.client("dc").request(uris.NODE_STATUS)
            assert (await bus.client("boss").request(uris.NODE_STATUS))["node"] == "single"

    in_own_loop(main)


def test_wrong_arguments_are_told() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="can't be an agent's name"):
            testing.bus(["Me"])
        with pytest.raises(ValueError, match="a list of names"):
            testing.bus("me")
        with pytest.raises(trishula.SettingsInvalid, match=r"limits\.burts") as caught:
            async with testing.bus(limits={"burts": 1}, delivery={"lease": "soon"}):
                pass
        assert "delivery.lease" in str(caught.value)
        async with testing.bus(["me"]) as bus:
            with pytest.raises(ValueError, match="no agent 'dc'"):
                bus.client("dc")
            with pytest.raises(ValueError, match="turned back"):
                await bus.advance(seconds=-1)
            with pytest.raises(RuntimeError, match="async with"), testing.bus():
                pass

    in_own_loop(main)


def test_without_async() -> None:
    def work() -> None:
        me = Trial()
        with testing.bus(["me", "dc"]) as bus, bus.run(me.agent) as running:
            dc = bus.client("dc")
            assert dc.call("me", "add", 2, 3) == 5
            assert dc.call("me", "relayed") == ["accepted", False]
            [delivery] = dc.fetch().deliveries
            assert delivery.message.payload == "from a thread"
            assert dc.ack([delivery.token]) == [True]
            dc.send("me", payload="fail")
            running.crash()
            running.start()
            bus.advance(minutes=5)
            assert [letter.message.payload for letter in bus.dead_letters()] == ["fail"]
            bus.restart_node(crash=True)
            bus.idle()
            assert bus.state(delivery.message.id) == "done"

    in_own_thread(work)


def test_a_client_that_was_closed_is_another_one_next_time() -> None:
    def work() -> None:
        with testing.bus(agents=["me", "dc"]) as bus:
            with bus.client("dc") as once:
                once.send("me", payload=1)
            again = bus.client("dc")
            assert again is bus.client("dc")
            assert again.send("me", payload=2).status == "accepted"

    in_own_thread(work)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TRISHULA_AGENT_STATE", str(tmp_path / "must not be used"))

    def one() -> None:
        me = Trial()
        with testing.bus(["me", "dc"]) as bus, bus.run(me.agent):
            assert bus.client("dc").call("me", "relayed")[0] == "accepted"

    in_own_thread(one)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        in_own_thread(one)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert list(tmp_path.iterdir()) == []


def test_the_example(tmp_path: Path) -> None:
    # As its user runs it: plain pytest, and nothing of this project's settings.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "-p",
        "no:pytest-twisted",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
