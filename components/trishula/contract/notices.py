"""What a node says of an answer, and what may be believed of that.

The *word of a node* is the ERROR by which the node itself tells a sender how its message ended. Nobody signs it, so it
counts for what a node can bring about anyway, and for no more: that a message is a dead letter, or expired. Any other
ERROR tells what an agent did with the message. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from trishula.contract.addresses import agent_of, is_nodes_own
from trishula.contract.message import Message
from trishula.errors import DeadLetter, MessageExpired

__all__ = ["answers", "is_word_of_node", "tells_an_end"]

_ENDS = (DeadLetter.uri, MessageExpired.uri)


def is_word_of_node(message: Message) -> bool:
    """Whether a message is such a word: by its id, which nobody else may use, and by what it says."""
    return is_nodes_own(message.id) and message.reply_to is not None and tells_an_end(message)


def answers(message: Message, message_id: str, agent: str | None) -> bool:
    """Whether what a node gave for the answer to a COMMAND is one; a good signature says only who sent it.

    Args:
        message: what the node gave.
        message_id: the COMMAND's id.
        agent: who was asked; ``None`` where that is for the node to say.
    """
    if message.reply_to != message_id or message.type not in ("RESULT", "ERROR"):
        return False
    return agent is None or agent_of(message.sender or "") == agent


def tells_an_end(message: Message) -> bool:
    """Whether an ERROR says that a message is dead or expired."""
    name = message.payload.get("error") if isinstance(message.payload, Mapping) else None
    return message.type == "ERROR" and name in _ENDS
