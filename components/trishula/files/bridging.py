"""What a bridge does with each file of an outbox: a table, without I/O.

=============  =============================================  ========================================================
state          how a file comes there                         what is to be done with it
=============  =============================================  ========================================================
(new)          a scan names it                                read it: :meth:`Bridging.due`
``UNREAD``     it could not be read as a message              read it again; rejected if it is still the same after
                                                              ``PATIENCE_S``: until then somebody may be writing it
``SENDING``    it is a message of our agent                   wait for the node's receipt; a refusal for now is waited
                                                              for too, by the agent's outbox, which offers it again
``PAUSED``     the outbox couldn't take it, or we left        read it again after ``PAUSE_S``
``ENDED``      it has its receipt, or was refused for good    archive it, or reject it with the sentence; tried until
                                                              the folder takes that
=============  =============================================  ========================================================

So a file leaves the outbox in two ways alone: to the archive with a receipt, or to ``rejected/`` with a sentence.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from trishula.contract.message import Message
from trishula.contract.texts import show_value
from trishula.errors import (
    MessageSetAside,
    NotAllowed,
    OutcomeUnknown,
    TakenOver,
    TokenInvalid,
    TokenMissing,
    TrishulaError,
)

__all__ = ["Bridging", "Ending", "is_for_good"]

#: Files whose messages are on their way to the node at a time.
WINDOW = 256
#: Of those that a node refuses for now, in addition: what waits for one full mailbox must not hold back the others.
MOST_HELD = 4096
#: How long a file that is no message may be still on its way to being one, in seconds.
PATIENCE_S = 5.0
PAUSE_S = 2.0


class _State(enum.Enum):
    UNREAD = "unread"
    SENDING = "sending"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Ending:
    """What a file's end is: its archive, or ``rejected/`` with a sentence.

    Attributes:
        name: the file's.
        why: the sentence; ``None`` for the archive.
    """

    name: str
    why: str | None = None


@dataclass(slots=True)
class _File:
    state: _State
    # When it is read again.
    due_s: float = 0.0
    # Of one that is no message: since when it has this content.
    since_s: float = 0.0
    content: bytes | None = None
    is_held: bool = False
    ending: Ending | None = None


class Bridging:
    """See the module's docstring.

    Args:
        agent: whose outbox it is: nobody else's messages are sent from there.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._files: dict[str, _File] = {}

    def due(self, names: Iterable[str], now_s: float) -> list[str]:
        """Which of the files that a scan named are to be read now; what the scan didn't name is forgotten.

        What is on its way to the node, or has an end, is remembered also when its file is gone.
        """
        here = dict.fromkeys(names)
        for name, file in list(self._files.items()):
            if name not in here and file.state in (_State.UNREAD, _State.PAUSED):
                del self._files[name]
        flying = [file for file in self._files.values() if file.state is _State.SENDING]
        held = sum(file.is_held for file in flying)
        room = min(WINDOW - (len(flying) - held), WINDOW + MOST_HELD - len(flying))
        due: list[str] = []
        for name in here:
            if room <= len(due):
                break
            known = self._files.get(name)
            if known is None or (known.state in (_State.UNREAD, _State.PAUSED) and now_s >= known.due_s):
                due.append(name)
        return due

    def unreadable(self, name: str, content: bytes, sentence: str, now_s: float) -> None:
        """It is no message: in a while it may be, or it never will."""
        file = self._files.get(name)
        if file is None or file.state is not _State.UNREAD or file.content != content:
            self._files[name] = _File(_State.UNREAD, now_s + PAUSE_S, now_s, content)
        elif now_s - file.since_s >= PATIENCE_S:
            self._end(name, sentence)
        else:
            file.due_s = now_s + PAUSE_S

    def refused_here(self, name: str, sentence: str) -> None:
        """It is whole, and will never be sent."""
        self._end(name, sentence)

    def fault_of(self, message: Message) -> str | None:
        """Why a message is not sent from this outbox, if so."""
        if message.sender == self._agent:
            return None
        said = "says nothing" if message.sender is None else f"says {show_value(message.sender)}"
        return (
            f"'from' {said}, and this outbox is {self._agent}'s: only messages from {self._agent} are sent from here; "
            "correct 'from', or put the file into its own agent's outbox"
        )

    def known(self, name: str) -> None:
        """It was sent before: it lies in the archive."""
        self._end(name, None)

    def sending(self, name: str) -> None:
        """It is on its way to the node."""
        self._files[name] = _File(_State.SENDING)

    def held(self, name: str) -> None:
        """The node refuses it for now."""
        file = self._files.get(name)
        if file is not None:
            file.is_held = True

    def answered(self, name: str, error: TrishulaError | None, now_s: float) -> None:
        """It has its receipt, or there will be none."""
        if error is None:
            self._end(name, None)
        elif is_for_good(error):
            self._end(name, error.sentence)
        else:
            self._files[name] = _File(_State.PAUSED, now_s + PAUSE_S)

    def endings(self) -> list[Ending]:
        """What is to be archived or rejected."""
        return [file.ending for file in self._files.values() if file.ending is not None]

    def ended(self, name: str) -> None:
        """It is archived or rejected, or gone."""
        self._files.pop(name, None)

    @property
    def wait_s(self) -> float | None:
        """How soon something is to be read again or ended, in seconds; ``None`` if a scan need not come early."""
        states = {file.state for file in self._files.values()}
        return PAUSE_S / 2 if states & {_State.UNREAD, _State.PAUSED, _State.ENDED} else None

    def _end(self, name: str, why: str | None) -> None:
        self._files[name] = _File(_State.ENDED, ending=Ending(name, why))


def is_for_good(error: TrishulaError) -> bool:
    """Whether a refusal is the message's own fault, so that the same message is refused again.

    Not: what the node can't do now, what nobody knows the outcome of, and what becomes of the session or its rights (a
    token that was withdrawn, another process of the agent). The file waits then for whoever mends that.
    """
    if isinstance(error, TokenInvalid | TokenMissing | TakenOver | NotAllowed | OutcomeUnknown):
        return False
    return isinstance(error, MessageSetAside) or (error.uri is not None and not error.temporary)
