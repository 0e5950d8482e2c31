"""The mail in a model's hands: what was fetched, what the model has seen, what it is through with. No I/O, no clock.

A message is *waiting* from its fetch until it is put before the model, then *open* until the model has acknowledged it,
answered it or given it back. The memory of ids (:mod:`trishula.messaging.deduplication`) knows it all the while and
afterwards, so that one which comes again is not shown again: a repeat of what is open brings a newer token, a repeat
of what is done is acknowledged in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trishula.contract.addresses import agent_of
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.errors import MessageUnknown
from trishula.messaging.deduplication import Inbox, Treatment, content_of

__all__ = ["Desk", "InHand", "Taken"]

Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class InHand:
    """A message in hand.

    Attributes:
        message: the message.
        attempt: how often it was delivered.
        is_open: whether the model has seen it.
        is_surfaced: whether it is on record at the node that the model has.
        told_by: the token by which the node was told so, or asked to note it.
    """

    message: Message
    attempt: int
    is_open: bool = False
    is_surfaced: bool = False
    told_by: str | None = None

    @property
    def key(self) -> Key:
        """The agent that sent it, and its id."""
        return agent_of(self.message.sender or ""), self.message.id


@dataclass(slots=True)
class Taken:
    """What deliveries were good for.

    Attributes:
        fresh: how many of them are new.
        again: tokens of those that are done, to acknowledge.
        foreign: those that come under an id of another message, to give back for good.
    """

    fresh: int = 0
    again: list[str] = field(default_factory=list)
    foreign: list[Delivery] = field(default_factory=list)


class Desk:
    """See the module's docstring.

    Args:
        memory: the ids that are in hand and done.
    """

    def __init__(self, memory: Inbox) -> None:
        self._memory = memory
        self._in_hand: dict[Key, InHand] = {}

    def __len__(self) -> int:
        return len(self._in_hand)

    def take(self, deliveries: Sequence[Delivery]) -> Taken:
        """Deliveries came."""
        taken = Taken()
        for delivery in deliveries:
            message = delivery.message
            treatment = self._memory.admit(message.sender or "", message.id, delivery.token, content_of(message))
            if treatment is Treatment.HANDLED:
                taken.again.append(delivery.token)
            elif treatment is Treatment.FOREIGN:
                taken.foreign.append(delivery)
            elif treatment is Treatment.RUN:
                item = InHand(message, delivery.attempt)
                self._in_hand[item.key] = item
                taken.fresh += 1
        return taken

    @property
    def waiting(self) -> list[InHand]:
        """Those that the model has not seen, the most urgent first, else in the order of their arrival."""
        return sorted((one for one in self._in_hand.values() if not one.is_open), key=lambda one: one.message.priority)

    @property
    def open(self) -> list[InHand]:
        """Those that the model has seen and is not through with, in the order of their arrival."""
        return [one for one in self._in_hand.values() if one.is_open]

    def tokens(self) -> list[str]:
        """The newest token of each that has one."""
        return [token for _, token in self._memory.running()]

    def token(self, item: InHand) -> str | None:
        """The newest token of one; ``None`` if its session is gone."""
        return self._memory.token(*item.key)

    @property
    def misses_tokens(self) -> bool:
        """Whether there are open ones whose session is gone: the node will deliver them again."""
        return any(self.token(one) is None for one in self.open)

    def find(self, message_id: str, sender: str | None = None) -> InHand:
        """The one in hand that has this id.

        Raises:
            MessageUnknown: there is none, or several senders use the id and ``sender`` doesn't say which.
        """
        found = [
            one
            for (agent, known_id), one in self._in_hand.items()
            if known_id == message_id and (sender is None or agent == agent_of(sender))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            senders = ", ".join(sorted(one.key[0] for one in found))
            raise MessageUnknown(f"several agents use the id {message_id}: name one of {senders} as from_agent")
        raise MessageUnknown(
            f"no message {message_id} is in your hands: it is acknowledged, given back, or was never fetched; inbox "
            "shows what there is, and status says what became of it"
        )

    def answer_to(self, message_id: str, agent: str | None = None) -> InHand | None:
        """The answer to a COMMAND of ours that is in hand and was not shown, if there is one.

        Args:
            message_id: the COMMAND's.
            agent: who was asked, and nobody else can answer; ``None`` if that is for the node to say.
        """
        for item in self.waiting:
            message = item.message
            is_answer = message.reply_to == message_id and message.type in ("RESULT", "ERROR")
            if is_answer and (agent is None or message.sender is None or item.key[0] == agent):
                return item
        return None

    def show(self, shown: Iterable[InHand]) -> None:
        """These are before the model."""
        for item in shown:
            item.is_open = True

    def done(self, item: InHand, now_ms: int) -> list[str]:
        """The model is through with one; the tokens to acknowledge."""
        self._in_hand.pop(item.key, None)
        return self._memory.handled(*item.key, now_ms)

    def note_done(self, message: Message, now_ms: int) -> None:
        """One that never was in hand is done: it came to us by another road than the mailbox."""
        self._memory.handled(message.sender or "", message.id, now_ms)

    def give_back(self, item: InHand) -> list[str]:
        """The model won't do one; the tokens to give back."""
        self._in_hand.pop(item.key, None)
        return self._memory.failed(*item.key)

    def link_lost(self) -> None:
        """The session is gone: what the model has seen stays, what it hasn't is fetched anew, in its order."""
        self._memory.link_lost()
        for item in self.waiting:
            self.give_back(item)
