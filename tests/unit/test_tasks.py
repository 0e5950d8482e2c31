"""Tasks that begin at once, and turns of the loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from trishula.runtime.tasks import begin, soon

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="outside")


def in_thread(work: Callable[[], object]) -> None:
    """Do something where no loop runs: the tests' own runs in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(timeout=60)


def in_callback(work: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    """Do something in a loop, and outside of any task, as what a connection brings is done."""
    in_thread(partial(_in_callback, work))


def _in_callback(work: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def called() -> None:
        try:
            work(loop)
        except BaseException as error:
            failed.append(error)
            loop.stop()

    try:
        loop.call_soon(called)
        loop.run_until_complete(asyncio.sleep(0.01))
    except RuntimeError:
        if not failed:
            raise
    finally:
        loop.close()
    if failed:
        raise failed[0]


def test_a_task_that_awaits_nothing_is_through_at_once() -> None:
    async def one() -> str:
        assert asyncio.current_task() is not None
        return "done"

    def work(loop: asyncio.AbstractEventLoop) -> None:
        task = begin(loop, one())
        assert task.done()
        assert task.result() == "done"
        assert asyncio.current_task(loop) is None
        # The loop has its own method again.
        assert "call_soon" not in vars(loop)

    in_callback(work)


def test_each_has_a_task_and_a_context_of_its_own() -> None:
    seen: list[tuple[asyncio.Task[Any] | None, str]] = []

    async def one() -> None:
        seen.append((asyncio.current_task(), VARIABLE.get()))
        VARIABLE.set("mine")

    def work(loop: asyncio.AbstractEventLoop) -> None:
        begun = [begin(loop, one()), begin(loop, one())]
        assert [task for task, _ in seen] == begun
        assert begun[0] is not begun[1]
        assert [value for _, value in seen] == ["outside", "outside"]
        assert VARIABLE.get() == "outside"

    in_callback(work)


def test_what_awaits_goes_on_in_later_turns() -> None:
    steps: list[str] = []

    async def one() -> None:
        steps.append("first")
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
        steps.append("second")

    def work(loop: asyncio.AbstractEventLoop) -> None:
        assert not begin(loop, one()).done()
        assert steps == ["first"]

    in_callback(work)
    assert steps == ["first", "second"]


def test_an_error_is_the_tasks() -> None:
    async def one() -> None:
        raise ValueError("mine")

    def work(loop: asyncio.AbstractEventLoop) -> None:
        task = begin(loop, one())
        with pytest.raises(ValueError, match="mine"):
            task.result()

    in_callback(work)


def test_what_ends_the_program_ends_it_from_the_loop() -> None:
    async def one() -> None:
        raise SystemExit(3)

    def work(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(SystemExit):
            begin(loop, one()).result()

    with pytest.raises(SystemExit, match="3"):
        in_callback(work)


def test_inside_of_a_task_it_begins_in_a_later_turn() -> None:
    begun: list[str] = []

    async def one() -> None:
        begun.append("begun")

    async def main() -> None:
        task = begin(asyncio.get_running_loop(), one())
        assert begun == []
        await task

    in_thread(lambda: asyncio.run(main()))
    assert begun == ["begun"]


class InC(asyncio.SelectorEventLoop):
    """A loop whose methods can't be replaced, as uvloop's."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "call_soon":
            raise AttributeError("read-only")
        super().__setattr__(name, value)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_in_another_loop_it_begins_in_a_later_turn(is_replaced: bool) -> None:
    loop = asyncio.SelectorEventLoop() if is_replaced else InC()
    begun: list[str] = []

    async def one() -> None:
        begun.append("begun")

    def work() -> None:
        begin(loop, one())
        begun.append("called")

    def run() -> None:
        try:
            if is_replaced:
                # By somebody else, who wants it back.
                loop.call_soon = loop.call_soon  # type: ignore[method-assign]
            loop.call_soon(work)
            loop.run_until_complete(asyncio.sleep(0.01))
            assert ("call_soon" in vars(loop)) is is_replaced
        finally:
            loop.close()

    in_thread(run)
    assert begun == ["called", "begun"]


def test_a_turn_comes_behind_all_that_is_ready_and_in_its_context() -> None:
    steps: list[str] = []
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(steps.append, "ready")
        soon(lambda: steps.append(VARIABLE.get()), context)
        asyncio.get_running_loop().call_soon(steps.append, "later")
        await asyncio.sleep(0.001)

    in_thread(lambda: asyncio.run(main()))
    assert steps == ["ready", "given", "later"]
