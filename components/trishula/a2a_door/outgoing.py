"""An agent of the bus that stands for an agent of A2A: a COMMAND to it becomes a task there, whose end is the answer.

Which task a COMMAND has become is on disk (:mod:`trishula.a2a_door.errands`). So when this process is killed and the
COMMAND comes again, the task is asked for and not given anew; where not even that is known, the same message goes out
once more, under the id that it had, which tells an agent of A2A that it is a repeat.

A COMMAND that is cancelled has its task cancelled. When the other side asks back, that is told as an ERROR; a COMMAND
with ``reply_to`` of the first one answers it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trishula.a2a_door.errands import Errand, Errands
from trishula.a2a_door.parts import Parts, parts_of, text_of
from trishula.contract.addresses import agent_of
from trishula.contract.deliveries import current_delivery
from trishula.contract.message import Message
from trishula.errors import CallFailed

__all__ = ["Envoy", "Outcome", "Remote", "RemoteUnreachable", "message_of"]

_log = logging.getLogger("trishula")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
#: How often a task is asked about: quickly at first, for most are short.
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.1, 5.0
#: How long a task that is being given, and is cancelled meanwhile, may take to be there.
_TAKE_BACK_S = 30.0
_ASKS_BACK = ("input-required", "auth-required")


class RemoteUnreachable(Exception):
    """The agent of A2A can't be reached now, or says that it can't now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a task stands.

    Attributes:
        task: its id; empty if the other side answered at once, without a task.
        context: its context.
        state: A2A's word, such as ``working`` or ``input-required``.
        parts: what it came to: those of its artifacts, else what was said with its state.
    """

    task: str
    context: str
    state: str
    parts: Parts


class Remote(Protocol):
    """An agent of A2A, as :mod:`trishula.a2a_door.remote` reaches it. Each raises RemoteUnreachable or CallFailed."""

    async def give(self, message: Mapping[str, Any]) -> Outcome:
        """Give it a message; return at once."""

    async def look(self, task: str) -> Outcome:
        """Ask where a task stands."""

    async def cancel(self, task: str) -> None:
        """Take a task back."""


def message_of(command: Message, earlier: Errand | None) -> dict[str, Any]:
    """A COMMAND as a message of A2A, the same one each time.

    Args:
        command: it.
        earlier: what it replies to, if that waits for an answer.
    """
    sender = agent_of(command.sender or "")
    payload, metadata = command.payload, {}
    if command.procedure is not None:
        metadata["skill"] = command.procedure
        payload = _arguments(payload)
    parts = parts_of(payload) or [{"text": ""}]
    message: dict[str, Any] = {
        "messageId": hashlib.sha256(f"{sender}\0{command.id}".encode()).hexdigest()[:40],
        "role": "ROLE_USER",
        "parts": parts,
    }
    if metadata:
        message["metadata"] = metadata
    if earlier is not None:
        message["taskId"], message["contextId"] = earlier.task, earlier.context
    return message


def _arguments(payload: object) -> object:
    """A procedure's arguments, as simple as they are."""
    given = payload if isinstance(payload, Mapping) else {}
    args, kwargs = given.get("args") or [], given.get("kwargs") or {}
    if args and kwargs:
        return {"args": args, "kwargs": kwargs}
    return kwargs or args


class Envoy:
    """See the module's docstring.

    Args:
        remote: the agent of A2A.
        where: its URL, for sentences.
        errands: what is under way.
        now_ms: the wall clock.
    """

    def __init__(self, remote: Remote, where: str, errands: Errands, now_ms: Callable[[], int]) -> None:
        self._remote = remote
        self._where = where
        self._errands = errands
        self._now_ms = now_ms
        self._taking_back: set[asyncio.Future[None]] = set()

    async def handle(self, command: Message) -> object:
        """Have a COMMAND done; its answer.

        Raises:
            CallFailed: it was not done; the sentence says what the other side said.
        """
        delivery = current_delivery()
        # By itself: a task that is being given when its COMMAND is cancelled must be known, to be canceled.
        giving = asyncio.ensure_future(self._under_way(command))
        try:
            errand = await asyncio.shield(giving)
            if isinstance(errand, Outcome):
                return self._answer(errand)
            outcome = await self._ended(errand)
        except asyncio.CancelledError:
            # Also when this process leaves: then the task goes on there, and is asked for by the next one.
            if delivery is not None and delivery.cancelled:
                self._taking_back.add(taking := asyncio.ensure_future(self._take_back(giving)))
                taking.add_done_callback(self._taking_back.discard)
            else:
                giving.cancel()
            raise
        if outcome.state in _ASKS_BACK:
            self._errands.note(
                Errand(errand.sender, errand.command, outcome.task, outcome.context, is_open=True), self._now_ms()
            )
        return self._answer(outcome)

    async def _under_way(self, command: Message) -> Errand | Outcome:
        """Its task, given now unless it was before; or the answer, if there is no task."""
        sender = agent_of(command.sender or "")
        known = self._errands.find(sender, command.id)
        if known is not None and known.task:
            return known
        before = None if command.reply_to is None else self._errands.find(sender, command.reply_to)
        earlier = before if before is not None and before.is_open else None
        self._errands.note(Errand(sender, command.id), self._now_ms())
        outcome = await self._patiently(lambda: self._remote.give(message_of(command, earlier)))
        if not outcome.task:
            return outcome
        errand = Errand(sender, command.id, outcome.task, outcome.context)
        self._errands.note(errand, self._now_ms())
        return errand

    async def _ended(self, errand: Errand) -> Outcome:
        pause_s = _FIRST_LOOK_S
        while True:
            outcome = await self._patiently(lambda: self._remote.look(errand.task))
            if outcome.state not in ("submitted", "working", "unspecified"):
                return outcome
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)

    async def _patiently(self, asked: Callable[[], Any]) -> Outcome:
        """Ask until the other side can be reached. Whoever has no patience cancels the COMMAND."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                outcome: Outcome = await asked()
            except RemoteUnreachable as error:
                log = _log.warning if pause_s == _FIRST_PAUSE_S else _log.debug
                log("%s can't be reached, and is tried again: %s", self._where, error)
            else:
                return outcome
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _take_back(self, giving: asyncio.Future[Errand | Outcome]) -> None:
        try:
            errand = await asyncio.wait_for(giving, _TAKE_BACK_S)
            if isinstance(errand, Errand):
                await self._remote.cancel(errand.task)
        except (RemoteUnreachable, CallFailed, TimeoutError) as error:
            _log.warning("A task at %s that nobody wants any more can't be canceled: %s", self._where, error)

    def _answer(self, outcome: Outcome) -> object:
        if outcome.state == "completed":
            return text_of(outcome.parts) if outcome.parts else None
        said = text_of(outcome.parts) if outcome.parts else "it said nothing"
        if outcome.state in _ASKS_BACK:
            raise CallFailed(
                f"{self._where} asks back ({outcome.state}): {said}; answer by a COMMAND with reply_to of this one",
                data={"state": outcome.state, "task": outcome.task},
            )
        raise CallFailed(
            f"the task at {self._where} is {outcome.state}: {said}", data={"state": outcome.state, "task": outcome.task}
        )
