"""What became of COMMANDs, with their answers, for whichever process of the sender's agent asks.

A COMMAND's RESULT or ERROR goes to the address that sent it first. A script that repeats a COMMAND under its id is told
that it is a duplicate, and has another address: it asks here. So does an agent that has handled the answer in an
earlier life. What is answered to an address that is gone is kept for them (:mod:`.recipients`).

An answer is a RESULT or an ERROR that names the COMMAND (``reply_to``), to its sender's agent, from who was given it
(:mod:`.replies`); or the node's own word that the COMMAND ended unhandled (:mod:`.notices`), unless somebody answered
after all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula.contract.addresses import agent_of, is_nodes_own
from trishula.errors import MessageUnknown
from trishula_router.mail.replies import Replies
from trishula_router.store.identity import latest_use
from trishula_router.store.interface import Store
from trishula_router.store.signed_bodies import split_signature

__all__ = ["Outcomes"]


class Outcomes:
    """Finds them.

    Args:
        store: what is durable.
        replies: tells what is an answer.
    """

    def __init__(self, store: Store, replies: Replies) -> None:
        self._store = store
        self._replies = replies

    async def of(self, agent: str, message_id: str) -> dict[str, Any]:
        """Where a COMMAND of an agent stands, and its answer.

        Returns:
            ``{"state": …, "message": …, "signature": …}``; no ``message`` if there is no answer, or its body is not
            kept any more, and no ``signature`` if nobody signed it.

        Raises:
            MessageUnknown: the agent sent no such COMMAND.
        """
        own = [
            message
            for message in await self._store.with_ids([message_id])
            if message.type == "COMMAND" and agent_of(message.sender) == agent and not is_nodes_own(message.id)
        ]
        if not own:
            raise MessageUnknown(
                f"there is no COMMAND {message_id} that {agent} sent at this node; check the id, or send it"
            )
        command = latest_use(own)[0]
        told: dict[str, Any] = {"state": command.state_word}
        answers = await self._replies.to(command)
        # What its agent said counts more than what a node took for its end.
        answers.sort(key=lambda one: (is_nodes_own(one.id), one.arrival))
        if answers:
            body = (await self._store.bodies([answers[0].position])).get(answers[0].position)
            if body is not None:
                told["message"], beside = split_signature(msgspec.json.decode(body))
                told.update(beside)
        return told
