"""Messages of one sender to an ordered handler: one after the other, and none before what was awaited when it came."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from trishula.consumer.handlers import Handler
from trishula.consumer.jobs import key_of
from trishula.consumer.lanes import TURN_S, Lanes
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.runtime.pending import Pending

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="outside")


def delivery(number: int, sender: str = "dc") -> Delivery:
    return Delivery(Message(type="STATUS", id=f"m-{number}", to="agni", sender=sender), 1, f"token-{number}")


class Stage:
    """Lanes, and what their handlers did."""

    def __init__(self) -> None:
        self.lanes = Lanes(self._run, self._emptied, lambda: self.now_s)
        self.now_s = 0.0
        self.steps: list[str] = []
        self.errors: list[BaseException] = []
        self.jobs: dict[str, Pending[object]] = {}
        self.at_once: list[bool] = []
        self.emptied = 0

    def _run(self, delivery: Delivery, handler: Handler, at_once: bool) -> Pending[object] | None:
        self.at_once.append(at_once)
        outcome = handler.start(None, [delivery.message.id], {}, at_once)
        if not isinstance(outcome, Pending):
            return None
        if outcome.done:
            self._ended(outcome)
            return None
        self.jobs[delivery.message.id] = outcome
        outcome.when_done(self._ended)
        return outcome

    def _ended(self, outcome: Pending[object]) -> None:
        if outcome.error is not None:
            self.errors.append(outcome.error)

    def _emptied(self) -> None:
        self.emptied += 1

    def put(self, function: Callable[[str], object], *numbers: int, sender: str = "dc") -> None:
        handler = Handler(function, name="handler")
        for number in numbers:
            self.lanes.put(delivery(number, sender), handler)

    async def noted(self, name: str) -> None:
        self.steps.append(name)

    async def awaiting(self, name: str) -> None:
        self.steps.append(f"begin {name}")
        await asyncio.sleep(0)
        self.steps.append(f"end {name}")

    def plain(self, name: str) -> None:
        self.steps.append(name)


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def in_loop(work: Callable[[Stage], Awaitable[None]]) -> Stage:
    stage = Stage()

    async def main() -> None:
        await work(stage)

    run(main())
    return stage


def run(main: Coroutine[Any, Any, None]) -> None:
    """In a thread: the tests' own loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main).result(timeout=60)


def test_what_awaits_nothing_takes_few_turns_however_many_there_are() -> None:
    async def work(stage: Stage) -> None:
        stage.put(stage.noted, *range(100))
        assert stage.steps == []
        await turns(4)

    stage = in_loop(work)
    assert stage.steps == [f"m-{number}" for number in range(100)]
    assert stage.at_once == [False] + [True] * 99
    assert stage.emptied == 1


def test_those_that_await_are_one_after_the_other() -> None:
    async def work(stage: Stage) -> None:
        stage.put(stage.awaiting, 1, 2)
        stage.put(stage.noted, 3)
        stage.put(stage.awaiting, 4)
        await turns()

    assert in_loop(work).steps == [
        "begin m-1",
        "end m-1",
        "begin m-2",
        "end m-2",
        "m-3",
        "begin m-4",
        "end m-4",
    ]


def test_what_was_awaited_when_a_message_came_goes_on_first() -> None:
    async def work(stage: Stage) -> None:
        async def receipt(name: str, come: asyncio.Future[None]) -> None:
            await come
            stage.steps.append(name)

        futures = {name: asyncio.get_running_loop().create_future() for name in ("receipt 1", "receipt 2")}
        waiting = [asyncio.ensure_future(receipt(name, come)) for name, come in futures.items()]
        await turns()
        stage.put(stage.noted, 1, 2)
        # The first one begins in the next turn. Its end asks for the lane's turn; the receipt comes before that turn,
        # and the message behind it.
        asyncio.get_running_loop().call_soon(lambda: None)
        while "m-1" not in stage.steps:
            await asyncio.sleep(0)
        futures["receipt 1"].set_result(None)
        stage.put(stage.noted, 3)
        while "m-2" not in stage.steps:
            await asyncio.sleep(0)
        futures["receipt 2"].set_result(None)
        stage.put(stage.noted, 4)
        await turns()
        await asyncio.gather(*waiting)

    steps = in_loop(work).steps
    assert [step for step in steps if step.startswith("m")] == ["m-1", "m-2", "m-3", "m-4"]
    assert steps.index("receipt 1") < steps.index("m-3")
    assert steps.index("receipt 2") < steps.index("m-4")


def test_a_message_that_came_after_the_turn_was_asked_for_waits_for_the_next() -> None:
    """The callback of a turn that is asked for is in the loop already: what was awaited since stands behind it."""

    async def work(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        come = loop.create_future()

        async def receipt() -> None:
            await come
            stage.steps.append("receipt")

        waiting = asyncio.ensure_future(receipt())
        await turns()

        async def last(name: str) -> None:
            stage.steps.append(name)
            # Behind the callback that hears of the end of this task, and so behind the request for the lane's turn.
            loop.call_soon(loop.call_soon, receive)

        def receive() -> None:
            come.set_result(None)
            stage.put(stage.noted, 3)

        stage.put(last, 1)
        stage.put(stage.noted, 2)
        await turns()
        await waiting

    assert in_loop(work).steps == ["m-1", "m-2", "receipt", "m-3"]


@pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError("mine")])
def test_one_that_raises_before_it_awaits_anything_ends_itself_alone(error: BaseException) -> None:
    async def work(stage: Stage) -> None:
        async def fail(name: str) -> None:
            stage.steps.append(name)
            raise error

        stage.put(fail, 1, 2, 3)
        stage.put(stage.noted, 4)
        await turns()

    stage = in_loop(work)
    assert stage.steps == ["m-1", "m-2", "m-3", "m-4"]
    assert [type(one) for one in stage.errors] == [type(error)] * 3
    assert stage.emptied == 1


def test_what_ends_the_program_ends_it() -> None:
    stage = Stage()

    async def main() -> None:
        async def leave(name: str) -> None:
            stage.steps.append(name)
            raise SystemExit(3)

        stage.put(stage.noted, 1)
        stage.put(leave, 2)
        await turns()
        stage.steps.append("went on")

    with pytest.raises(SystemExit, match="3"):
        run(main())
    assert stage.steps == ["m-1", "m-2"]


def test_one_that_is_stopped_lets_the_next_one_begin() -> None:
    async def work(stage: Stage) -> None:
        async def long(name: str) -> None:
            stage.steps.append(f"begin {name}")
            await asyncio.sleep(60)

        stage.put(stage.noted, 1)
        stage.put(long, 2)
        stage.put(stage.noted, 3)
        await turns()
        assert stage.steps == ["m-1", "begin m-2"]
        stage.jobs["m-2"].cancel()
        await turns()

    stage = in_loop(work)
    assert stage.steps == ["m-1", "begin m-2", "m-3"]
    assert [type(error) for error in stage.errors] == [asyncio.CancelledError]


def test_timeouts_and_groups_of_tasks_work_in_one_that_began_at_once() -> None:
    async def work(stage: Stage) -> None:
        async def timed(name: str) -> None:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)
            except TimeoutError:
                stage.steps.append(f"late {name}")
            async with asyncio.TaskGroup() as group:
                group.create_task(stage.noted(f"child of {name}"))

        stage.put(stage.noted, 1)
        stage.put(timed, 2, 3)
        await asyncio.sleep(0.2)

    stage = in_loop(work)
    assert stage.steps == ["m-1", "late m-2", "child of m-2", "late m-3", "child of m-3"]
    assert stage.errors == []


def test_each_has_a_task_of_its_own_and_a_context_that_no_other_has_touched() -> None:
    seen: list[tuple[asyncio.Task[Any] | None, str]] = []

    async def work(stage: Stage) -> None:
        async def look(name: str) -> None:
            seen.append((asyncio.current_task(), VARIABLE.get()))
            VARIABLE.set(name)

        VARIABLE.set("when the first one came")
        stage.put(look, 1, 2)
        VARIABLE.set("later")
        stage.put(look, 3)
        await turns()

    in_loop(work)
    assert len({task for task, _ in seen}) == 3
    assert {value for _, value in seen} == {"when the first one came"}


def test_senders_have_their_turns_side_by_side() -> None:
    async def work(stage: Stage) -> None:
        async def slow(name: str) -> None:
            stage.now_s += TURN_S
            stage.steps.append(name)

        stage.put(slow, 1, 2, 3, 4, 5, sender="dc")
        stage.put(slow, 11, 12, 13, sender="agni")
        await turns()

    assert in_loop(work).steps == ["m-1", "m-11", "m-2", "m-12", "m-3", "m-13", "m-4", "m-5"]


def test_a_turn_of_all_lanes_together_has_so_much_time() -> None:
    async def work(stage: Stage) -> None:
        async def slow(name: str) -> None:
            stage.now_s += TURN_S / 4
            stage.steps.append(name)

        stage.put(slow, *range(1, 9), sender="dc")
        stage.put(slow, *range(11, 19), sender="agni")
        while len(stage.steps) < 2:
            await asyncio.sleep(0)
        stage.steps.clear()
        while not stage.steps:
            await asyncio.sleep(0)
        assert stage.steps == ["m-2", "m-3", "m-12", "m-13"]
        await turns()

    assert len(in_loop(work).steps) == 14


def test_recalled_ones_do_not_run_wherever_they_wait() -> None:
    async def work(stage: Stage) -> None:
        stage.put(stage.awaiting, 1)
        stage.put(stage.noted, 2, 3)
        assert stage.lanes.recall(key_of(delivery(2).message))
        assert not stage.lanes.recall(key_of(delivery(1).message))
        while "end m-1" not in stage.steps:
            await asyncio.sleep(0)
        # Its turn has been asked for by now.
        await asyncio.sleep(0)
        recalled = stage.lanes.recall(key_of(delivery(3).message))
        await turns()
        assert recalled is ("m-3" not in stage.steps)

    stage = in_loop(work)
    assert "m-2" not in stage.steps
    assert stage.emptied == 1


def test_one_that_is_due_can_be_recalled_and_taken_out() -> None:
    def of(stage: Stage) -> Callable[[str], Awaitable[None]]:
        async def slow(name: str) -> None:
            stage.now_s += TURN_S
            stage.steps.append(name)

        return slow

    async def work(stage: Stage) -> None:
        stage.put(of(stage), 1, 2, 3, 4, 5)
        while "m-2" not in stage.steps:
            await asyncio.sleep(0)
        assert stage.lanes.recall(key_of(delivery(4).message))
        assert [one.message.id for one in stage.lanes.clear()] == ["m-3", "m-5"]
        await turns()

    stage = in_loop(work)
    assert stage.steps == ["m-1", "m-2"]
    assert stage.emptied == 1


def of_pending(stage: Stage, outcome: Pending[None]) -> Callable[[str], Pending[None]]:
    def wait(name: str) -> Pending[None]:
        stage.steps.append(f"begin {name}")
        return outcome

    return wait


def test_behind_what_is_no_task_plain_ones_run_at_once_without_a_loop() -> None:
    stage = Stage()
    first: Pending[None] = Pending()

    def put_another(name: str) -> None:
        stage.steps.append(name)
        stage.put(stage.plain, 4)

    def work() -> None:
        stage.put(of_pending(stage, first), 1)
        stage.put(stage.noted, 2)
        stage.put(put_another, 3)
        assert stage.steps == ["begin m-1"]
        first.resolve(None)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(timeout=60)
    assert stage.steps == ["begin m-1", "m-2", "m-3", "m-4"]
    assert stage.emptied == 1


def test_behind_what_is_no_task_a_coroutine_begins_in_a_later_turn() -> None:
    async def work(stage: Stage) -> None:
        first: Pending[None] = Pending()
        stage.put(of_pending(stage, first), 1)
        stage.put(stage.noted, 2, 3)
        await turns()
        first.resolve(None)
        assert stage.steps == ["begin m-1"]
        await turns()

    stage = in_loop(work)
    assert stage.steps == ["begin m-1", "m-2", "m-3"]
    assert stage.at_once == [False, False, True]


def test_a_lane_that_is_through_leaves_nothing() -> None:
    async def work(stage: Stage) -> None:
        stage.put(stage.awaiting, 1, 2)
        stage.put(stage.noted, 3)
        await turns()
        stage.jobs.clear()
        assert stage.lanes._lanes == {}

    stage = in_loop(work)
    gone = weakref.ref(stage)
    del stage
    gc.collect()
    assert gone() is None


def test_the_backlog_counts_those_that_wait_for_others() -> None:
    seen: list[int] = []

    async def work(stage: Stage) -> None:
        async def look(name: str) -> None:
            await asyncio.sleep(0)
            seen.append(stage.lanes.backlog)

        stage.put(look, 1, 2, 3, 4, sender="dc")
        stage.put(stage.plain, 5, sender="agni")
        stage.put(stage.awaiting, 11, 12, sender="agni")
        assert stage.lanes.backlog == 4
        assert stage.lanes.recall(key_of(delivery(3).message))
        assert stage.lanes.backlog == 3
        await turns()
        assert stage.lanes.backlog == 0
        stage.put(look, 6, 7)
        assert len(stage.lanes.clear()) == 1
        assert stage.lanes.backlog == 0
        await turns()
        assert stage.lanes.backlog == 0

    in_loop(work)
    assert seen[-1] == 0
    assert len(seen) == 4
