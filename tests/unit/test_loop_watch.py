"""When a loop counts as blocked, and what doesn't make it so."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from trishula.consumer.loop_watch import Blockage, Watch, Word, _place


class Looks:
    """Looks at a loop each second, unless told otherwise."""

    def __init__(self) -> None:
        self.blockage = Blockage(0.0, 0.0)
        self.now_s = self.cpu_s = 0.0

    def look(self, answered: bool, after_s: float = 1.0, cpu_s: float = 0.0) -> Word:
        self.now_s += after_s
        self.cpu_s += cpu_s
        return self.blockage.look(self.now_s, self.cpu_s, answered=answered)


def test_a_loop_that_answers_is_asked_again() -> None:
    looks = Looks()
    assert [looks.look(answered) for answered in (False, True, True)] == [Word.ASK] * 3


def test_a_loop_that_does_not_answer_is_blocked_which_is_said_once_and_when_it_is_over() -> None:
    looks = Looks()
    words = [looks.look(False) for _ in range(6)]
    assert words == [Word.ASK, Word.WAIT, Word.BLOCKED, Word.WAIT, Word.WAIT, Word.WAIT]
    assert looks.look(True) is Word.FREE
    assert looks.blockage.blocked_s == 6.0
    assert [looks.look(True), looks.look(False), looks.look(False)] == [Word.ASK, Word.WAIT, Word.BLOCKED]


def test_a_process_that_stood_still_blames_nobody() -> None:
    looks = Looks()
    looks.look(False)
    assert looks.look(False, after_s=3600.0) is Word.WAIT
    assert looks.look(True) is Word.ASK


def test_a_handler_that_kept_the_interpreter_to_itself_is_blocked_all_the_same() -> None:
    looks = Looks()
    looks.look(False)
    assert looks.look(False, after_s=60.0, cpu_s=59.0) is Word.BLOCKED


def block_until(over: threading.Event) -> None:
    over.wait(30.0)


@pytest.mark.parametrize("at_work", ["think (STATUS m-1 from dc)", None])
def test_who_blocks_is_named_with_the_line(at_work: str | None, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []
    over, heard = threading.Event(), threading.Event()

    def asked(task: object) -> str | None:
        seen.append(task)
        over.set()
        return at_work

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "runs again" in record.getMessage():
                heard.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch = Watch("agni", lambda call: loop.call_soon_threadsafe(call), asked)
        block_until(over)
        assert await loop.run_in_executor(None, heard.wait, 30.0)
        watch.stop()
        assert seen == [asyncio.current_task()]

    handler = Heard()
    logging.getLogger("trishula").addHandler(handler)
    try:
        with caplog.at_level(logging.WARNING):
            in_a_thread(lambda: asyncio.run(main()))
    finally:
        logging.getLogger("trishula").removeHandler(handler)
    blocked, again = (record.getMessage() for record in caplog.records)
    who = f"the handler {at_work}" if at_work else "code that is none of its handlers"
    line = block_until.__code__.co_firstlineno + 1
    assert f" by {who}, at {__file__}:{line}: nothing else of the agent runs meanwhile" in blocked
    assert again.endswith(f" s in {who}")


def in_a_thread(work: Callable[[], None]) -> None:
    """Pytest's own thread has a loop already."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60.0)
    if faults:
        raise faults[0]


def test_whoever_is_debugged_is_left_alone() -> None:
    frame = frame_of({"__name__": "pdb"})
    assert _place(frame) is None
    assert _place(frame_of({"__name__": "twisted.internet.epollreactor"})) is None
    assert _place(frame_of({"__name__": "selectors"}, {"__name__": "asyncio.base_events"})) is None
    # A handler that waits for another program stands there too.
    assert _place(frame_of({"__name__": "selectors"}, {"__name__": "subprocess"}, {"__name__": "mine"})) == "<string>:1"
    assert _place(frame_of({"__name__": "mine"})) == "<string>:1"


def frame_of(*modules: dict[str, Any]) -> Any:
    """The frame of code that stands in a module, and is called from the next one."""
    frames: list[Any] = []
    inner = "import sys; frames.append(sys._getframe())"
    for module in modules:
        module |= {"frames": frames, "inner": inner, "within": module}
    call = inner
    for module, beneath in zip(modules[1:], modules, strict=False):
        module |= {"call": call, "beneath": beneath}
        call = "exec(call, beneath)"
    exec(call, modules[-1])
    return frames[0]


def test_a_watch_that_was_stopped_ends() -> None:
    watch = Watch("agni", lambda call: call(), lambda task: None)
    watch.stop()
    deadline_s = time.monotonic() + 30.0
    while any(thread.name == "trishula-watch-agni" for thread in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
