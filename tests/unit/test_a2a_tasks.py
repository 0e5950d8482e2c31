"""Tasks between the bus and the door's file, with a node that says what it is told to say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.loops import in_own_loop
from trishula.a2a_door import tasks as tasks_module
from trishula.a2a_door.callers import Caller
from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.tasks import Tasks
from trishula.a2a_door.upkeep import repeat
from trishula.contract.answers import MessageStatus
from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid, BusUnreachable, OutcomeUnknown, RateLimited, RecipientForbidden
from trishula.runtime.pending import Pending, resolved


class Node:
    """A caller's session; what a node says is in ``states`` and ``answers``."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.send_error: Exception | None = None
        self.states: dict[str, str] = {}
        self.answers: dict[str, Any] = {}
        self.is_ready = True
        self.end = None

    async def send(self, to: str, *, id: str, **more: Any) -> None:
        self.sent.append(id)
        if self.send_error is not None:
            raise self.send_error

    async def status(self, *ids: str, timeout: float) -> dict[str, MessageStatus]:
        return {
            one: MessageStatus(id=one, state=self.states[one], sender="partner", recipient="agni")
            for one in ids
            if one in self.states
        }

    async def request(self, uri: str, task_id: str, timeout: float) -> dict[str, Any]:
        return {"message": self.answers.get(task_id)}

    def verified(self, message: Message, signature: str | None) -> Message:
        return message

    def forward(self, ack: Any) -> Pending[None]:
        return resolved(None)


class Door:
    """Tasks with one caller."""

    def __init__(self, ledger: Ledger) -> None:
        self.node = Node()
        self.ledger = ledger
        self.now_ms = 1_000_000
        self.tasks = Tasks(ledger, lambda: self.now_ms, lambda: None)
        self.caller = Caller("partner", "partner.s", self.node, resolved(None), 0.0)  # type: ignore[arg-type]
        self.tasks.serve(self)  # type: ignore[arg-type]

    def named(self, name: str) -> Caller:
        return self.caller

    def refused(self) -> list[tuple[str, str]]:
        return []

    async def given(self, message_id: str, text: str = "x") -> str:
        message = {"messageId": message_id, "parts": [{"text": text}]}
        return (await self.tasks.begin(self.caller, "agni", message)).id

    def state(self, task_id: str) -> str:
        row = self.ledger.task(task_id)
        return "gone" if row is None else row.state


def at_the_door(directory: Path, scene: Callable[[Door], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with a door, in a loop of its own."""

    async def main() -> None:
        ledger = Ledger.open(directory)
        try:
            await scene(Door(ledger))
        finally:
            ledger.close()

    in_own_loop(main)


def error_of(task_id: str, error: object) -> dict[str, Any]:
    payload = {"error": error, "message": "no"}
    wire = {"type": "ERROR", "id": f"r-{task_id}", "from": "agni", "to": "partner", "timestamp": 1}
    return {**wire, "reply_to": task_id, "payload": payload}


@pytest.mark.parametrize("change", [{"reply_to": "another"}, {"reply_to": None}, {"from": "boss"}, {"type": "STATUS"}])
def test_what_answers_another_task_or_comes_from_another_agent_is_no_answer(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    # A good signature is no help there: the message is its sender's, and answers something else.
    async def scene(door: Door) -> None:
        task = await door.given("m")
        door.node.states[task], door.node.answers[task] = "delivered", {**error_of(task, "x"), **change}
        await door.tasks.sweep()
        assert door.state(task) == "working"
        assert "which is no answer to" in caplog.text

    at_the_door(tmp_path, scene)


@pytest.mark.parametrize("error", [["a"], {"a": 1}, None, 7])
def test_an_answer_with_any_error_at_all_ends_its_task(tmp_path: Path, error: object) -> None:
    async def scene(door: Door) -> None:
        task = await door.given("m")
        door.node.states[task], door.node.answers[task] = "done", error_of(task, error)
        await door.tasks.sweep()
        assert door.state(task) == "failed"

    at_the_door(tmp_path, scene)


def test_a_task_that_cannot_be_judged_keeps_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(door: Door) -> None:
        bad, good = await door.given("m1"), await door.given("m2")
        for task in (bad, good):
            door.node.states[task], door.node.answers[task] = "done", error_of(task, "ValueError")
        noted = door.ledger.note

        def note(task_id: str, *more: Any) -> None:
            if task_id == bad:
                raise RuntimeError("the disk is full")
            noted(task_id, *more)

        monkeypatch.setattr(door.ledger, "note", note)
        for _ in range(3):
            await door.tasks.sweep()
        assert (door.state(bad), door.state(good)) == ("submitted", "failed")
        # Once, and not at each sweep.
        assert caplog.text.count("Traceback") == 1
        monkeypatch.undo()
        await door.tasks.sweep()
        assert door.state(bad) == "failed"

    at_the_door(tmp_path, scene)


def test_upkeep_goes_on_whatever_becomes_of_its_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trishula")
    done: list[str] = []

    async def fails() -> None:
        done.append("fails")
        raise (ValueError("a bug") if len(done) < 3 else BusUnreachable("away"))

    async def works() -> None:
        done.append("works")

    async def main() -> None:
        keeping = asyncio.ensure_future(repeat(0.0, fails, works))
        while len(done) < 4:
            await asyncio.sleep(0)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping

    in_own_loop(main)
    assert done[:4] == ["fails", "works", "fails", "works"]
    assert caplog.text.count("Traceback") == 1
    assert "away" in caplog.text


def test_a_task_that_a_node_may_have_is_kept_until_the_node_says_that_it_has_not(tmp_path: Path) -> None:
    async def scene(door: Door) -> None:
        for error in (OutcomeUnknown("?"), BusUnreachable("away"), RateLimited("too many")):
            door.node.send_error = error
            with pytest.raises(type(error)):
                await door.given("m")
        (row,) = door.ledger.unfinished("partner")
        assert row.stage == "sending"
        # It has it.
        door.node.states[row.id] = "accepted"
        await door.tasks.sweep()
        assert door.state(row.id) == "submitted"
        assert door.ledger.unfinished("partner")[0].stage == "open"

    at_the_door(tmp_path, scene)


@pytest.mark.parametrize("error", [BusUnreachable("away"), RecipientForbidden("not allowed")])
def test_a_task_that_no_node_has_is_dropped(tmp_path: Path, error: Exception) -> None:
    async def scene(door: Door) -> None:
        door.node.send_error = error
        with pytest.raises(type(error)):
            await door.given("m")
        assert door.ledger.unfinished("partner") == []

    at_the_door(tmp_path, scene)


def test_a_task_that_another_door_began_is_the_same_when_its_message_comes_again(tmp_path: Path) -> None:
    async def scene(door: Door) -> None:
        task = await door.given("m")
        with pytest.raises(ArgumentInvalid, match="was used for another message"):
            await door.given("m", "something else")
        other = Door(Ledger.open(tmp_path / "other"))
        other.node.states[task] = "accepted"
        assert (await other.tasks.adopt(other.caller, "agni", task)) is not None
        assert await other.given("m") == task
        assert other.node.sent == []
        other.ledger.close()

    at_the_door(tmp_path / "one", scene)


def test_the_token_that_a_caller_with_work_comes_by_is_kept(tmp_path: Path) -> None:
    async def scene(door: Door) -> None:
        task = await door.given("m")
        door.node.states[task] = "accepted"
        door.ledger.forget_caller("partner")
        door.caller.token = "partner.new"
        await door.tasks.look("partner")
        assert door.ledger.callers() == [("partner", "partner.new")]
        door.node.states[task] = "cancelled"
        await door.tasks.look("partner")
        await door.tasks.look("partner")
        assert door.ledger.callers() == []

    at_the_door(tmp_path, scene)


def test_a_caller_has_so_many_tasks_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "MOST_OPEN", 2)

    async def scene(door: Door) -> None:
        first = await door.given("m1")
        await door.given("m2")
        with pytest.raises(RateLimited, match="2 tasks that are not ended"):
            await door.given("m3")
        # The same message is no task more.
        assert await door.given("m1") == first
        door.node.states[first] = "cancelled"
        await door.tasks.sweep()
        await door.given("m3")

    at_the_door(tmp_path, scene)
