"""Replies: who may answer a COMMAND, and how often. Exactly one answer counts, from who was given the COMMAND.

A RESULT or an ERROR is an *answer* if its ``reply_to`` names a COMMAND that the agent it goes to has sent. Then

* whoever was not given that COMMAND is refused: it went to the agent (or to an instance of it), or to a capability and
  was handed to it. Ids can be guessed or seen, and whom a COMMAND was handed to the node alone knows;
* the first answer counts, and another one is refused. The same one again is a repeat. Of a COMMAND to a capability that
  went to a second agent, because the first let its lease run out, either may answer: the one that comes first counts.
  Of a broadcast each recipient answers once. What a node says itself (:mod:`.notices`) is no answer;
* what may be on its way to this node's knowledge is refused for now (:class:`~trishula.errors.AnswerEarly`): a COMMAND
  to a capability that the sender serves, that is open and has no answer, and that nobody is known to have handed to
  the sender. A linked node may have; or this one did just before it crashed, and hands it out again.

What names no COMMAND that this node knows is mail like any other. Its recipient knows what it asked of whom, and asks
its node what is the answer where it asked a capability (:mod:`trishula.messaging.calls`).

Nearly always the answer comes from who has the COMMAND in its window, for the first time: that is seen at once. All
else (:meth:`Replies.unclear`) is looked up in the store first (:meth:`Replies.judge`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from trishula.contract.addresses import BROADCAST, Address, agent_of, is_capability, is_nodes_own
from trishula.contract.message import Message, check
from trishula.errors import AnswerEarly, AnswerRefused, StorageFailed, StorageFull, TrishulaError
from trishula_router.mail.mailroom import Lease, Leases, got, is_of
from trishula_router.store.identity import latest_use
from trishula_router.store.interface import Store
from trishula_router.store.messages import State, StoredMessage

__all__ = ["Given", "Judgement", "Pledge", "Replies"]

#: Whoever may hold a COMMAND to a capability asks again so soon.
RETRY_S = 1.0

#: The agents that were ever given a COMMAND to a capability, by its position.
_Holders = Mapping[int, Set[str]]
#: Answers that became durable during a look into the store, of which what it tells knows nothing yet.
_REMEMBERED = 4096
_KINDS = ("RESULT", "ERROR")


@dataclass(frozen=True, slots=True)
class Given:
    """A COMMAND that a message may answer.

    Attributes:
        position: of the copy that was given to who answers.
        id, sender: its own.
        askers: the addresses that sent it: an answer to one of them needs no grant.
        lease: if it is in the window of who answers.
    """

    position: int
    id: str
    sender: str
    askers: tuple[str, ...]
    lease: Lease | None = None


#: What is found of a message: what it answers, ``None`` if that is nothing that is known here, or why it is refused.
Judgement = Given | TrishulaError | None


@dataclass(frozen=True, slots=True)
class Pledge:
    """An answer on its way into the store: no other one is taken meanwhile.

    Attributes:
        given: what it answers.
        id: its own.
        to_asker: whether it goes to an address that asked, and so needs no grant.
    """

    given: Given
    id: str
    to_asker: bool


class Replies:
    """See the module's docstring.

    Args:
        store: knows who was given what, and what was answered.
        leases: what is out.
        may_serve: whether an agent may be handed messages to a capability: (agent, its name).
    """

    def __init__(self, store: Store, leases: Leases, may_serve: Callable[[str, str], bool]) -> None:
        self._store = store
        self._leases = leases
        self._may_serve = may_serve
        # By the COMMAND's position: (agent that answers, the answer's id).
        self._taken: dict[int, tuple[str, str]] = {}
        # Of those the durable ones that a look may have missed; and how many looks there are.
        self._missed: dict[int, None] = {}
        self._looks = 0

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Around :meth:`judge` and what follows from it: meanwhile what is answered is remembered."""
        self._looks += 1
        try:
            yield
        finally:
            self._looks -= 1
            if not self._looks:
                for position in self._missed:
                    self._taken.pop(position, None)
                self._missed.clear()

    def unclear(self, agent: str, raws: Sequence[object]) -> list[int]:
        """Which of the messages of a call, as they came, must be judged: by their places."""
        return [
            index
            for index, raw in enumerate(raws)
            if isinstance(raw, dict) and raw.get("reply_to") is not None and self._is_unclear(agent, raw)
        ]

    def _is_unclear(self, agent: str, raw: Mapping[Any, Any]) -> bool:
        to, command_id, answer_id = raw.get("to"), raw["reply_to"], raw.get("id")
        # What else is wrong with it is told by whoever checks it.
        if raw.get("type") not in _KINDS or not isinstance(to, str) or not isinstance(command_id, str):
            return False
        return to != BROADCAST and self._in_window(agent, to, command_id, answer_id) is None

    def _in_window(self, agent: str, to: str, command_id: str, answer_id: object) -> Given | None:
        """The COMMAND, if it is in its sender's window for the first time and has no other answer."""
        lease = self._leases.of_command(agent_of(to), command_id, agent)
        # What was out before may have been answered before, also by another agent.
        if lease is None or lease.settling or lease.entry.attempts > 1 or lease.answer not in (None, answer_id):
            return None
        entry = lease.entry
        if self._taken.get(entry.position, (agent, answer_id)) != (agent, answer_id):
            return None
        return Given(entry.position, entry.id, entry.sender, (entry.sender,), lease)

    def pledge(self, agent: str, message: Message, index: int, judgements: Mapping[int, Judgement]) -> Pledge | None:
        """Take a RESULT or an ERROR that was checked, if it may be taken; ``None`` if it answers nothing known here.

        Args:
            agent: its sender's.
            message: it.
            index: its place in the call.
            judgements: of those that were unclear, by their places.

        Raises:
            AnswerRefused, AnswerEarly: it may not, or not yet.
        """
        given: Judgement
        if index in judgements:
            given = judgements[index]
        else:
            given = self._in_window(agent, message.to, str(message.reply_to), message.id)
            if given is None:
                given = AnswerEarly(
                    f'messages[{index}].reply_to is "{message.reply_to}", and this node has not looked yet whether '
                    f"{agent} may answer that; try again in {RETRY_S:g} s",
                    retry_after_s=RETRY_S,
                )
        if isinstance(given, TrishulaError):
            raise given
        if given is None:
            return None
        key = agent, message.id
        if self._taken.setdefault(given.position, key) != key:
            raise _answered(index, given.id, given.sender)
        return Pledge(given, message.id, message.to in given.askers)

    def stored(self, pledge: Pledge) -> None:
        """It is durable."""
        position = pledge.given.position
        if pledge.given.lease is not None:
            pledge.given.lease.answer = pledge.id
        if not self._looks:
            self._taken.pop(position, None)
            return
        self._missed[position] = None
        if len(self._missed) > _REMEMBERED:
            oldest = next(iter(self._missed))
            del self._missed[oldest]
            self._taken.pop(oldest, None)

    def withdrawn(self, pledge: Pledge) -> None:
        """It was not taken after all."""
        self._taken.pop(pledge.given.position, None)

    async def judge(self, agent: str, raws: Mapping[int, object]) -> dict[int, Judgement]:
        """Judge messages of a call that are unclear, by their places; what is wrong with one otherwise, is not said."""
        judgements: dict[int, Judgement] = dict.fromkeys(raws)
        messages = {index: message for index, raw in raws.items() if (message := _checked(raw)) is not None}
        if not messages:
            return judgements
        try:
            found = await self._store.with_ids(list({str(message.reply_to) for message in messages.values()}))
            commands = [one for one in found if one.type == "COMMAND" and not is_nodes_own(one.id)]
            if not commands:
                return judgements
            answers = await self._store.answers(list({command.id for command in commands}))
            holders = await self._holders(commands)
        except (StorageFull, StorageFailed) as error:
            return {**judgements, **dict.fromkeys(messages, error)}
        for index, message in messages.items():
            key = message.reply_to, agent_of(message.to)
            asked = latest_use(one for one in commands if (one.id, agent_of(one.sender)) == key)
            judgements[index] = self._judge(agent, index, message, asked, answers, holders)
        return judgements

    def _judge(
        self,
        agent: str,
        index: int,
        message: Message,
        asked: Sequence[StoredMessage],
        answers: Iterable[StoredMessage],
        holders: _Holders,
    ) -> Judgement:
        if not asked:
            return None
        given = next((one for one in asked if self._was_given(agent, one, holders)), None)
        command = given or asked[0]
        to_anybody = is_capability(command.recipient)
        known = {
            (agent_of(one.sender), one.id)
            for one in answers
            if (to_anybody or agent_of(one.sender) == agent)
            and not is_nodes_own(one.id)
            and _is_answer(one, command, holders)
        }
        if given is None:
            return self._not_given(agent, index, command, is_answered=bool(known))
        if known and (agent, message.id) not in known:
            return _answered(index, command.id, command.sender)
        return Given(given.position, given.id, given.sender, tuple(one.sender for one in asked))

    def _not_given(self, agent: str, index: int, command: StoredMessage, *, is_answered: bool) -> TrishulaError:
        place = f'messages[{index}].reply_to is "{command.id}"'
        capability = Address.parse(command.recipient).capability if is_capability(command.recipient) else None
        is_open = command.state is State.OPEN and not is_answered
        if capability is not None and is_open and self._may_serve(agent, capability):
            return AnswerEarly(
                f"{place}, and {agent} is not known to hold that COMMAND to {command.recipient}; try again in "
                f"{RETRY_S:g} s: another node may have given it to {agent}, or this one gives it to somebody now",
                retry_after_s=RETRY_S,
            )
        return AnswerRefused(
            f"{place}, and {agent} was never given that COMMAND, which {command.sender} sent to {command.recipient}; "
            "only who was given a COMMAND may answer it"
        )

    def _was_given(self, agent: str, command: StoredMessage, holders: _Holders) -> bool:
        if got(agent, command) or agent in holders.get(command.position, ()):
            return True
        # The note of a delivery may still be on its way to the disk.
        lease = self._leases.get(command.position)
        return lease is not None and is_of(agent, lease.entry.holder or "")

    async def _holders(self, commands: Iterable[StoredMessage]) -> _Holders:
        """Who was ever given each of those that went to capabilities: their rows name who was given it last."""
        positions = [one.position for one in commands if is_capability(one.recipient) and one.delivered_at is not None]
        if not positions:
            return {}
        told = await self._store.holders(positions)
        return {position: {agent_of(holder) for holder in those} for position, those in told.items()}

    async def to(self, command: StoredMessage) -> list[StoredMessage]:
        """All that answers a COMMAND, and nodes' word for its end, as far as is known here; in order of position."""
        holders = await self._holders([command])
        return [one for one in await self._store.answers([command.id]) if _is_answer(one, command, holders)]


def _is_answer(one: StoredMessage, command: StoredMessage, holders: _Holders) -> bool:
    agent = agent_of(one.sender)
    return (
        one.type in ("RESULT", "ERROR")
        and one.reply_to == command.id
        and agent_of(one.recipient) == agent_of(command.sender)
        and (agent == agent_of(command.recipient) or agent in holders.get(command.position, ()))
        # Not to what had that id before.
        and (command.use == 0 or one.accepted_at >= command.accepted_at)
    )


def _answered(index: int, command_id: str, sender: str) -> AnswerRefused:
    return AnswerRefused(
        f'messages[{index}].reply_to is "{command_id}", and that COMMAND of {sender} is answered already; a COMMAND '
        "has one answer: send what else there is to say as a STATUS"
    )


def _checked(raw: object) -> Message | None:
    try:
        return check(raw)
    except TrishulaError:
        return None
