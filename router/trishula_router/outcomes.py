"""What became of COMMANDs, with their answers, for whichever process of the sender's agent asks.

A COMMAND's RESULT or ERROR goes to the address that sent it first. A script that repeats a COMMAND under its id is told
that it is a duplicate, and has another address: it asks here. So does an agent that has handled the answer in an
earlier life. What is answered to an address that is gone is kept for them (:mod:`.recipients`).

An answer is a RESULT or an ERROR that names the COMMAND (``reply_to``), to its sender's agent, from who got it; or the
node's own word that the COMMAND ended unhandled (:mod:`.notices`), unless somebody answered after all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula.errors import MessageUnknown
from trishula.names import agent_of
from trishula_router.notices import is_reserved
from trishula_router.store.identity import latest_use
from trishula_router.store.interface import Store, StoredMessage

__all__ = ["Outcomes"]


class Outcomes:
    """Finds them.

    Args:
        store: what is durable.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, agent: str, message_id: str) -> dict[str, Any]:
        """Where a COMMAND of an agent stands, and its answer.

        Returns:
            ``{"state": …, "message": …}``; no ``message`` if there is no answer, or its body is not kept any more.

        Raises:
            MessageUnknown: the agent sent no such COMMAND.
        """
        own = [
            message
            for message in await self._store.with_ids([message_id])
            if message.type == "COMMAND" and agent_of(message.sender) == agent and not is_reserved(message.id)
        ]
        if not own:
            raise MessageUnknown(
                f"there is no COMMAND {message_id} that {agent} sent at this node; check the id, or send it"
            )
        command = latest_use(own)[0]
        told: dict[str, Any] = {"state": command.state_word}
        answers = [one for one in await self._store.answers([message_id]) if _answers(one, command)]
        # What its agent said counts more than what a node took for its end.
        answers.sort(key=lambda one: (is_reserved(one.id), one.arrival))
        if answers:
            body = (await self._store.bodies([answers[0].position])).get(answers[0].position)
            if body is not None:
                told["message"] = msgspec.json.decode(body)
        return told


def _answers(one: StoredMessage, command: StoredMessage) -> bool:
    asked = {agent_of(command.recipient), agent_of(command.holder or command.recipient)}
    return (
        one.type in ("RESULT", "ERROR")
        and agent_of(one.recipient) == agent_of(command.sender)
        and agent_of(one.sender) in asked
        # Not to what had that id before.
        and (command.use == 0 or one.accepted_at >= command.accepted_at)
    )
