"""Ordered handlers against the plainest model: one message of a sender after the other, each after what it came behind.

Turns of an asyncio loop bring messages of several senders, and outcomes that tasks await (receipts, replies). Handlers
are plain functions, and coroutines that await nothing, or some turns, or raise. Messages are recalled while they wait.

Held, whatever comes in which turn:

* a message's handler runs once, or never if the message was recalled while it waited;
* handlers of one sender run one after the other, in the order in which their messages came;
* a coroutine begins after everything that was awaited and came before its message has gone on.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from trishula.consumer.handlers import Handler
from trishula.consumer.lanes import TURN_S, Lanes
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.runtime.pending import Pending

#: What a handler does: it is a plain function, or a coroutine that awaits so many turns; and how it ends.
Kind = tuple[str, int, bool]

KINDS: st.SearchStrategy[Kind] = st.one_of(
    st.tuples(st.just("plain"), st.just(0), st.booleans()),
    st.tuples(st.just("async"), st.just(0), st.booleans()),
    st.tuples(st.just("async"), st.integers(0, 3), st.booleans()),
)
ACTIONS = st.one_of(
    st.tuples(st.just("message"), st.sampled_from(["dc", "agni", "rushabdev"]), KINDS),
    st.tuples(st.just("message"), st.just("dc"), st.just(("async", 0, False))),
    st.tuples(st.just("outcome"), st.none(), st.none()),
    st.tuples(st.just("recall"), st.integers(0, 30), st.none()),
    st.tuples(st.just("pause"), st.integers(1, 3), st.none()),
)


@dataclass
class Seen:
    """What happened, step by step."""

    steps: list[tuple[str, int]] = field(default_factory=list)
    #: Of each message its sender, its kind, and the outcomes that came before it.
    came: dict[int, tuple[str, Kind, int]] = field(default_factory=dict)
    recalled: set[int] = field(default_factory=set)
    now_s: float = 0.0


def play(turns: list[list[tuple[str, object, object]]]) -> Seen:
    """Each list is what one callback of the loop does, as one read of a connection; a turn goes by between two."""
    seen = Seen()

    def run(delivery: Delivery, handler: Handler, at_once: bool) -> Pending[object] | None:
        number = int(delivery.message.id[2:])
        seen.now_s += TURN_S / 4
        try:
            outcome = handler.start(None, [number], {}, at_once)
        except ValueError:
            return None
        if not isinstance(outcome, Pending):
            return None
        outcome.when_done(lambda pending: pending.error)
        return None if outcome.done else outcome

    lanes = Lanes(run, lambda: None, lambda: seen.now_s)

    def handler_of(kind: Kind) -> Handler:
        how, pauses, raises = kind

        def plain(number: int) -> None:
            seen.steps += [("begin", number), ("end", number)]
            if raises:
                raise ValueError("mine")

        async def coroutine(number: int) -> None:
            seen.steps.append(("begin", number))
            for _ in range(pauses):
                await asyncio.sleep(0)
            seen.steps.append(("end", number))
            if raises:
                raise ValueError("mine")

        return Handler(plain if how == "plain" else coroutine, name="handler")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[asyncio.Future[None]] = []
        came = 0

        async def wait(number: int) -> None:
            await outcomes[number]
            seen.steps.append(("outcome", number))

        def act(actions: list[tuple[str, object, object]]) -> None:
            nonlocal came
            for what, which, kind in actions:
                if what == "message":
                    number = len(seen.came)
                    seen.came[number] = (str(which), kind, came)  # type: ignore[assignment]
                    message = Message(type="STATUS", id=f"m-{number}", to="agni", sender=str(which))
                    lanes.put(Delivery(message, 1, "token"), handler_of(kind))  # type: ignore[arg-type]
                elif what == "outcome":
                    outcomes[came].set_result(None)
                    came += 1
                elif (
                    what == "recall"
                    and isinstance(which, int)
                    and which in seen.came
                    and lanes.recall((seen.came[which][0], f"m-{which}"))
                ):
                    seen.recalled.add(which)

        expected = sum(what == "outcome" for actions in turns for what, _, _ in actions)
        outcomes += [loop.create_future() for _ in range(expected)]
        waiting = [asyncio.ensure_future(wait(number)) for number in range(expected)]
        await asyncio.sleep(0)
        for actions in turns:
            loop.call_soon(act, actions)
            pauses = [which for what, which, _ in actions if what == "pause" and isinstance(which, int)]
            for _ in range(sum(pauses)):
                await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert lanes._lanes == {}
        await asyncio.gather(*waiting)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main()).result(timeout=60)
    return seen


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(ACTIONS, max_size=8), max_size=8))
def test_order_among_messages_and_behind_what_was_awaited(turns: list[list[tuple[str, object, object]]]) -> None:
    seen = play(turns)
    begun = [number for what, number in seen.steps if what == "begin"]
    assert sorted(begun) == sorted(set(seen.came) - seen.recalled)
    for sender in {sender for sender, _, _ in seen.came.values()}:
        of_sender = [
            (what, number) for what, number in seen.steps if what != "outcome" and seen.came[number][0] == sender
        ]
        numbers = [number for number in seen.came if seen.came[number][0] == sender and number not in seen.recalled]
        assert of_sender == [(what, number) for number in numbers for what in ("begin", "end")]
    for number, (_, (how, _, _), outcomes) in seen.came.items():
        if how == "async" and number not in seen.recalled:
            before = seen.steps[: seen.steps.index(("begin", number))]
            assert {("outcome", outcome) for outcome in range(outcomes)} <= set(before)
