"""Tasks: between the bus, which has the record of them, and the door's file, which has their events.

A task begins in this order: the file says that it is about to be sent; a node has it on its disk, under an id that is
derived from the caller's message; the file says ``submitted``; the caller is told. Whoever repeats the message gets the
same task, at whichever point an earlier try ended. A task of which it is not known whether a node has it is never sent
again by the door: it asks the node, and forgets what no node knows.

What becomes of a task is asked of the node, in these moments: when the node tells that there is news, after each
(re)join, and every few seconds. So nothing hangs on an event that was missed. An answer is acknowledged in its
caller's mailbox once it is in the file; the caller's other mail is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from trishula.a2a_door.callers import Caller, Callers
from trishula.a2a_door.ledger import Ledger, TaskRow
from trishula.a2a_door.life import ENDED, Event, Told, events_after
from trishula.a2a_door.parts import Order, context_of, order_of, task_id_of
from trishula.contract.addresses import agent_of, is_nodes_own
from trishula.contract.answers import MessageStatus
from trishula.contract.message import Message
from trishula.contract.notices import answers
from trishula.contract.uris import MAILBOX_ANSWER
from trishula.errors import ArgumentInvalid, BusUnreachable, MessageUnknown, OutcomeUnknown, RateLimited, TrishulaError

__all__ = ["MOST_OPEN", "Tasks"]

_log = logging.getLogger("trishula")

#: Tasks of one caller that are not ended.
MOST_OPEN = 1000
_SEND_S = 10.0
_ASK_S = 10.0
#: As many ids as a node is asked about at once.
_BATCH = 200
#: How long a task is remembered after its end; a node remembers its id as long.
_KEEP_MS = 30 * 24 * 3_600_000


class Tasks:
    """See the module's docstring. All of it belongs to one loop.

    Args:
        ledger: the door's file.
        now_ms: the wall clock.
        noted: told when events of a task are in the file.
    """

    def __init__(self, ledger: Ledger, now_ms: Callable[[], int], noted: Callable[[], object]) -> None:
        self.ledger = ledger
        self._now_ms = now_ms
        self._noted = noted
        self._callers: Callers | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._failing: set[str] = set()
        self._asking: dict[str, asyncio.Lock] = {}
        self._beginning: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def serve(self, callers: Callers) -> None:
        """By whom the node is asked."""
        self._callers = callers

    # -- what callers want ---------------------------------------------------------------------------------------------

    async def begin(self, caller: Caller, agent: str, message: Mapping[str, Any]) -> TaskRow:
        """Give an agent a task; it is on a node's disk on return.

        Args:
            caller: who gives it.
            agent: who gets it.
            message: A2A's message, as its JSON is.

        Raises:
            ArgumentInvalid: the message can't be given to an agent.
            RateLimited: the caller has too many tasks that are not ended.
            TrishulaError: the node refuses it.
            BusUnreachable: no node was there; nothing was sent.
            OutcomeUnknown: a node may have it; the same message again finds out.
        """
        task_id = task_id_of(caller.name, agent, str(message.get("messageId") or ""))
        # One at a time: a caller that lost patience repeats it while the first try is on its way.
        async with self._beginning.setdefault(task_id, asyncio.Lock()):
            known = self.ledger.task(task_id)
            context = str(message.get("contextId") or "") or context_of(task_id)
            ordered = order_of(message, context)
            is_new = known is None
            if known is None:
                known = self._begun(caller, task_id, agent, context, ordered, message)
            elif not known.ordered:
                # Adopted: what was sent is not known here, and the node has it.
                known = replace(known, ordered=ordered)
            elif known.ordered != ordered:
                raise ArgumentInvalid(
                    f"messageId {message.get('messageId')} was used for another message: choose a new one"
                )
            return known if known.stage != "sending" else await self._send(caller, known, is_new)

    def _begun(
        self, caller: Caller, task_id: str, agent: str, context: str, ordered: Order, message: Mapping[str, Any]
    ) -> TaskRow:
        if self.ledger.count(caller.name) >= MOST_OPEN:
            raise RateLimited(f"{caller.name} has {MOST_OPEN} tasks that are not ended; wait for some, or cancel them")
        task = self._row(task_id, caller.name, agent, context, ordered, "sending")
        self.ledger.note_caller(caller.name, caller.token)
        self.ledger.begin(task, {"said": dict(message)})
        return task

    def _row(self, task_id: str, caller: str, agent: str, context: str, ordered: Order, stage: str) -> TaskRow:
        now_ms = self._now_ms()
        return TaskRow(
            task_id, caller, agent, context, ordered, stage, "submitted", "", now_ms, now_ms, None, [], True
        )  # fmt: skip

    async def _send(self, caller: Caller, task: TaskRow, is_new: bool) -> TaskRow:
        try:
            await caller.client.send(task.agent, type="COMMAND", timeout=_SEND_S, id=task.id, **task.ordered)
        except OutcomeUnknown:
            raise
        except TrishulaError as error:
            # A node may have it from an earlier try, of which nobody knows: then the node is asked (:meth:`refresh`).
            if is_new or not error.temporary:
                self.ledger.drop(task.id)
            raise
        self._submitted(task.id)
        found = self.ledger.task(task.id)
        return task if found is None else found

    def _submitted(self, task_id: str) -> None:
        """A node has it."""
        task = self.ledger.task(task_id)
        if task is not None and task.stage == "sending":
            self._note(task_id, [{"status": {"state": "submitted", "parts": []}}])

    async def adopt(self, caller: Caller, agent: str, task_id: str) -> TaskRow | None:
        """A task that a door began whose file is not here: the bus has the record of it.

        Raises:
            BusUnreachable, OutcomeUnknown: no node says whether it is one.
        """
        status = (await caller.client.status(task_id, timeout=_ASK_S)).get(task_id)
        if status is None or status.recipient != agent or agent_of(status.sender or "") != caller.name:
            return None
        self.ledger.note_caller(caller.name, caller.token)
        row = self._row(task_id, caller.name, agent, context_of(task_id), {}, "sending")
        # What its caller said is not known here.
        self.ledger.begin(row, {"said": {}})
        await self.refresh(caller, [task_id])
        return self.ledger.task(task_id)

    async def say(self, caller: Caller, task: TaskRow, message: Mapping[str, Any]) -> None:
        """Say something more to an agent that has a task; it is on a node's disk on return. Errors as :meth:`begin`."""
        message_id = task_id_of(caller.name, task.agent, str(message.get("messageId") or ""))
        ordered = order_of(message, task.context)
        ordered.pop("procedure", None)
        receipt = await caller.client.send(
            task.agent, type="STATUS", timeout=_SEND_S, id=message_id, reply_to=task.id, **ordered
        )
        said = dict(message)
        if receipt.status != "duplicate" or all(
            event.get("said") != said for _, _, event in self.ledger.events(task.id)
        ):
            self._note(task.id, [{"said": said}])

    async def cancel(self, caller: Caller, task: TaskRow) -> bool:
        """Take a task back; whether it is canceled now. Errors as :meth:`trishula.client.Client.cancel`."""
        await caller.client.cancel(task.id, timeout=_ASK_S)
        await self.refresh(caller, [task.id])
        found = self.ledger.task(task.id)
        return found is not None and found.state == "canceled"

    async def follow(self, task_id: str, after: int) -> AsyncGenerator[tuple[int, int, Event], None]:
        """Number, instant and body of a task's events behind one, as they come, until its end."""
        awoken = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(awoken)
        try:
            while True:
                awoken.clear()
                for number, at_ms, event in self.ledger.events(task_id, after):
                    after = number
                    yield number, at_ms, event
                task = self.ledger.task(task_id)
                if task is None or task.stage == "ended":
                    return
                await awoken.wait()
        finally:
            waiting = self._waiting.get(task_id, set())
            waiting.discard(awoken)
            if not waiting:
                self._waiting.pop(task_id, None)

    async def ended(self, task_id: str, wait_s: float) -> None:
        """Wait for a task's end, but only so long."""

        async def to_its_end() -> None:
            async for _ in self.follow(task_id, 0):
                pass

        try:
            await asyncio.wait_for(to_its_end(), wait_s)
        except TimeoutError:
            return

    # -- what becomes of them ------------------------------------------------------------------------------------------

    async def refresh(self, caller: Caller, ids: Sequence[str] | None = None) -> None:
        """Ask the node what became of a caller's tasks: of all that are not ended, or of some.

        Raises:
            BusUnreachable, OutcomeUnknown: no node says so.
        """
        # One at a time: two answers to the same question would be noted twice.
        async with self._asking.setdefault(caller.name, asyncio.Lock()):
            self._keep_token(caller)
            wanted = None if ids is None else set(ids)
            rows = [row for row in self.ledger.unfinished(caller.name) if wanted is None or row.id in wanted]
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                states = await caller.client.status(*(row.id for row in batch), timeout=_ASK_S)
                for row in batch:
                    with self._alone(row.id):
                        await self._judge(caller, row, states.get(row.id))
            for row in self.ledger.unacked(caller.name):
                with self._alone(row.id):
                    await self._ack(caller, row)
            if not self.ledger.has_work(caller.name):
                self.ledger.forget_caller(caller.name)

    def _keep_token(self, caller: Caller) -> None:
        """A caller with work came by another token: the next door joins by this one."""
        if self.ledger.has_work(caller.name) and dict(self.ledger.callers()).get(caller.name) != caller.token:
            self.ledger.note_caller(caller.name, caller.token)

    @contextmanager
    def _alone(self, task_id: str) -> Iterator[None]:
        """What goes wrong with one task keeps no other one waiting; it is logged once, and tried again each time."""
        try:
            yield
        except TrishulaError:
            # The node's word about all of them.
            raise
        except Exception:
            if task_id not in self._failing:
                self._failing.add(task_id)
                _log.exception("What became of the task %s can't be noted; it is tried again", task_id)
        else:
            self._failing.discard(task_id)

    async def _judge(self, caller: Caller, row: TaskRow, status: MessageStatus | None) -> None:
        if status is None:
            # A message that is on its way to the node just now is not known there yet.
            if row.stage == "sending" and self._now_ms() - row.created_ms > 2 * _SEND_S * 1000:
                _log.info("No node has the task %s of %s: it was never submitted", row.id, row.caller)
                self.ledger.drop(row.id)
            return
        if row.stage == "sending":
            self._submitted(row.id)
        if status.is_settled:
            self.ledger.note_settled(row.id, self._now_ms())
        answer, is_refused = None, False
        if status.is_settled or status.state == "delivered":
            answer, is_refused = await self._answer(caller, row)
        now_ms = self._now_ms()
        told = Told(status.state, status.surfaced_at is not None, answer, row.settled_ms or now_ms, is_refused)
        events = events_after(row.state, row.step, told, now_ms)
        if events:
            own = [] if answer is None or is_nodes_own(answer.id) else [answer.id, answer.sender or ""]
            has_ended = any(event.get("status", {}).get("state") in ENDED for event in events)
            self._note(row.id, events, own if has_ended else [])

    async def _answer(self, caller: Caller, row: TaskRow) -> tuple[Message | None, bool]:
        """The answer to a task, if there is one that may be taken; and whether there is one that may not be."""
        try:
            raw = await caller.client.request(MAILBOX_ANSWER, row.id, timeout=_ASK_S)
            wire = raw.get("message")
            if wire is None:
                return None, False
            answer = caller.client.verified(msgspec.convert(wire, Message), raw.get("signature"))
            if answer is not None and not answers(answer, row.id, row.agent):
                _log.error("The node gave %s from %s, which is no answer to %s", answer.id, answer.sender, row.id)
                return None, False
            return answer, answer is None
        except MessageUnknown:
            return None, False
        except (AttributeError, msgspec.ValidationError) as fault:
            _log.error("The node's answer on %s can't be read: %s", row.id, fault)
            return None, False

    async def _ack(self, caller: Caller, row: TaskRow) -> None:
        """The answer is in the file: it need not lie in the mailbox any more."""
        answer_id, sender = row.answer
        ack = {"type": "ACK", "to": sender, "reply_to": answer_id, "timestamp": self._now_ms()}
        try:
            await asyncio.wait_for(_outcome(caller.client.forward(ack)), _ASK_S)
        except (BusUnreachable, OutcomeUnknown, TimeoutError) as error:
            _log.info("The answer to %s is acknowledged later: %s", row.id, error)
        except TrishulaError as error:
            # It is gone from there, as by a program of the same name: there is nothing left to acknowledge.
            _log.info("The answer to %s needs no ack: %s", row.id, error)
            self.ledger.note_acked(row.id)
        else:
            self.ledger.note_acked(row.id)

    def _note(self, task_id: str, events: Sequence[Event], answer: Sequence[str] = ()) -> None:
        self.ledger.note(task_id, events, self._now_ms(), answer)
        for awoken in self._waiting.get(task_id, ()):
            awoken.set()
        self._noted()

    # -- over time -----------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """After a start: join for those who have work for the door."""
        if self._callers is not None:
            for _, token in self.ledger.callers():
                self._callers.resume(token)

    def forget(self) -> None:
        """Forget what ended long ago."""
        if count := self.ledger.forget(self._now_ms() - _KEEP_MS):
            _log.info("%d tasks that ended long ago are forgotten", count)

    async def sweep(self) -> None:
        """Ask for all callers that have work, and forget tokens that are none any more."""
        if self._callers is None:
            return
        kept = dict(self.ledger.callers())
        for name, token in self._callers.refused():
            if kept.get(name) == token:
                _log.warning("The node refuses the token of %s: its tasks wait until it comes with a new one", name)
                self.ledger.forget_caller(name)
        for name in kept:
            await self.look(name)

    async def look(self, name: str, ids: Sequence[str] | None = None) -> None:
        """:meth:`refresh` for one caller, if it has a node; what goes wrong is tried again later."""
        caller = None if self._callers is None else self._callers.named(name)
        if caller is not None:
            try:
                await self.refresh(caller, ids)
            except TrishulaError as error:
                _log.info("What became of the tasks of %s is asked again later: %s", name, error)
            except Exception:
                # Of the door's file, say: the next caller's tasks are looked at all the same.
                _log.exception("What became of the tasks of %s is asked again later", name)


async def _outcome(pending: Any) -> Any:
    return await pending
