"""Outcomes that both worlds can await: asyncio tasks and Twisted's coroutines."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.python.failure import Failure

from trishula.runtime.pending import Pending, of_deferred, rejected, resolved, run_handler, start

T = TypeVar("T")


def test_a_value_reaches_every_callback_also_late_ones() -> None:
    pending: Pending[int] = Pending()
    got: list[int] = []
    pending.when_done(lambda p: got.append(p.result()))
    pending.when_done(lambda p: got.append(p.result() + 1))
    pending.resolve(1)
    pending.when_done(lambda p: got.append(p.result() + 2))
    assert got == [1, 2, 3]


def test_only_the_first_outcome_counts() -> None:
    pending: Pending[int] = Pending()
    pending.resolve(1)
    pending.resolve(2)
    pending.reject(ValueError())
    assert pending.result() == 1


def test_settle_takes_either() -> None:
    one: Pending[int] = Pending()
    one.settle(1)
    assert one.result() == 1
    two: Pending[int] = Pending()
    two.settle(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        two.result()


def test_an_error_that_nobody_asks_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        rejected(ValueError("lost"))
        gc.collect()
    assert "Nobody asked for this outcome: ValueError: lost" in caplog.text


def test_an_error_that_somebody_asked_for_is_not(caplog: pytest.LogCaptureFixture) -> None:
    pending = rejected(ValueError("seen"))
    assert isinstance(pending.error, ValueError)
    del pending
    gc.collect()
    assert caplog.text == ""


def test_our_coroutines_need_no_loop_and_begin_at_once() -> None:
    pending: Pending[int] = Pending()
    deferred: Deferred[int] = Deferred()

    async def work() -> int:
        return await pending + await deferred + await pending

    outcome = start(work())
    pending.resolve(1)
    assert not outcome.done
    deferred.callback(10)
    assert outcome.result() == 12


def test_errors_are_thrown_into_our_coroutines() -> None:
    async def work() -> str:
        try:
            await rejected(KeyError("k"))
        except KeyError as error:
            return str(error)
        return "nothing"

    assert start(work()).result() == "'k'"


def test_a_deferred_of_it_fires_both_ways() -> None:
    got: list[Any] = []

    def told(failure: Failure) -> None:
        got.append(str(failure.value))

    resolved(1).deferred().addCallback(got.append)
    rejected(ValueError("x")).deferred().addErrback(told)
    of_deferred(resolved(2).deferred()).when_done(lambda p: got.append(p.result()))
    assert got == [1, "x", 2]


def test_inline_callbacks_can_wait_for_it() -> None:
    pending: Pending[int] = Pending()

    @inlineCallbacks
    def old() -> Any:
        value = yield pending.deferred()
        return value + 1

    got: list[int] = []
    old().addCallback(got.append)
    pending.resolve(1)
    assert got == [2]


def test_a_cancelled_twisted_coroutine_hears_of_it() -> None:
    pending: Pending[int] = Pending()

    async def wait() -> int:
        return await pending

    got: list[type[BaseException] | None] = []

    def told(failure: Failure) -> None:
        got.append(failure.type)

    deferred = Deferred.fromCoroutine(wait())
    deferred.addErrback(told)
    deferred.cancel()
    assert got == [CancelledError]
    pending.resolve(1)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it in an asyncio loop of its own: the thread of the tests has the reactor's, which must not be touched."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main).result()


# -- under asyncio -----------------------------------------------------------------------------------------------------


def test_an_asyncio_task_awaits_it_more_than_once() -> None:
    async def main() -> int:
        pending: Pending[int] = Pending()
        asyncio.get_running_loop().call_later(0, pending.resolve, 5)
        return await pending + await pending

    assert run(main()) == 10


def test_gather_and_wait_for_take_it() -> None:
    async def main() -> list[int]:
        one: Pending[int] = Pending()
        two: Pending[int] = Pending()
        loop = asyncio.get_running_loop()
        loop.call_soon(two.resolve, 2)
        loop.call_soon(one.resolve, 1)
        return [*await asyncio.gather(one, two), await asyncio.wait_for(resolved(3), 1)]

    assert run(main()) == [1, 2, 3]


def test_a_cancelled_task_hears_why() -> None:
    async def main() -> tuple[object, ...]:
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel("Cancelled by a scope")
        try:
            await task
        except asyncio.CancelledError as error:
            return seen[0] if seen else error.args
        return ()

    async def wait() -> None:
        try:
            await Pending[None]()
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    seen: list[tuple[object, ...]] = []
    assert run(main()) == ("Cancelled by a scope",)


def test_a_cancelled_task_hears_of_it() -> None:
    async def main() -> str:
        pending: Pending[int] = Pending()

        async def wait() -> int:
            return await pending

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pending.resolve(1)
            return "cancelled"
        return "went on"

    assert run(main()) == "cancelled"


def test_wait_for_gives_up_in_time() -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Pending[int](), 0.001)

    run(main())


def test_an_outcome_that_comes_inside_of_another_task_s_step() -> None:
    async def main() -> list[str]:
        pending: Pending[str] = Pending()
        seen: list[str] = []

        async def wait(name: str) -> None:
            seen.append(name + await pending)

        async def fire() -> None:
            pending.resolve("!")
            seen.append("fired")

        await asyncio.gather(wait("a"), wait("b"), fire())
        return seen

    assert run(main()) == ["fired", "a!", "b!"]


def test_a_twisted_coroutine_resumed_inside_of_a_task_s_step() -> None:
    # Both drivers at once, in one thread: a task fires the Deferred that one of our own coroutines waits for.
    async def main() -> int:
        gate: Deferred[None] = Deferred()
        later: Pending[int] = Pending()

        async def ours() -> int:
            await gate
            return await later

        outcome = start(ours())
        gate.callback(None)
        asyncio.get_running_loop().call_soon(later.resolve, 7)
        return await outcome

    assert run(main()) == 7


def test_a_handler_awaits_asyncio_deferreds_and_ours() -> None:
    async def main() -> tuple[int, bool]:
        deferred: Deferred[int] = Deferred()
        pending: Pending[int] = Pending()
        loop = asyncio.get_running_loop()
        loop.call_soon(deferred.callback, 1)
        loop.call_soon(pending.resolve, 10)
        tasks: list[bool] = []

        async def handler() -> int:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task() is not None)
            async with asyncio.timeout(1):
                total = await deferred + await pending
            with pytest.raises(ZeroDivisionError):
                await failing
            return total

        failing: Deferred[None] = Deferred()
        loop.call_soon(failing.errback, ZeroDivisionError())
        return await run_handler(handler()), tasks[0]

    assert run(main()) == (11, True)


def test_a_cancelled_handler_hears_of_it_and_cancels_the_deferred_it_waits_for() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        deferred: Deferred[None] = Deferred(lambda _: seen.append("deferred cancelled"))

        async def handler() -> None:
            try:
                await deferred
            except asyncio.CancelledError:
                seen.append("handler cancelled")
                raise

        pending = run_handler(handler())
        await asyncio.sleep(0)
        pending.cancel()
        try:
            await pending
        except asyncio.CancelledError:
            seen.append("caller told")
        return seen

    assert run(main()) == ["deferred cancelled", "handler cancelled", "caller told"]


def test_without_a_loop_a_handler_runs_under_twisted() -> None:
    async def handler() -> int:
        return await resolved(3)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: run_handler(handler()).result()).result() == 3
