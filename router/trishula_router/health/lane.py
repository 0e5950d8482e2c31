"""The way of a canary: a node of its own beside the real one, made for one message and forgotten after it.

The canary must not be visible to agents, use their mailboxes, grow the journal (which is never shortened, and copied to
every peer) or be found by an audit. A message that goes through the journal leaves three records and a row for ever:
some 6 MB a day at one each 15 s, on every node. So it takes every part that leaves no trace as it is, and plays the
one that does:

===================  ===================================================================================================
part                 what the canary goes through
===================  ===================================================================================================
procedures, checks   the real code with the node's own options: validation, grants, rates, intake
store                the real store's writer and reader: a short text in place of the one before, with its commit and
                     fsync, read back. The message itself is kept in memory (:mod:`trishula_router.store.memory`)
mailbox, delivery    the real code, on a mailbox of its own
router               the real one: the delivery is called through Crossbar, to the node's own session and back
ack, settlement      the real code; the message is ``done`` at the end
===================  ===================================================================================================

So it proves that the node's thread, its store's threads, its disk and its router do their work, and that the code
between them carries a message. It does not prove that the tables of messages and the journal can be written (a send
that fails is told by the check ``store``), nor that any one agent's mailbox, session or network is well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import NodeFailed
from trishula_router.agents.callers import Caller
from trishula_router.agents.principals import Principals
from trishula_router.agents.text import AgentEntry
from trishula_router.mail.outlet import News
from trishula_router.node import Node
from trishula_router.realm import AGENT_ROLE
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Accepted, Draft
from trishula_router.verbs.procedures import Procedures

__all__ = ["send_canary"]

#: Who sends it, and to whom: itself. No agent of the real node, which knows nothing of it.
_AGENT = "canary"
_SESSION = 1

#: Hands something over to the router, and gives what came back.
ThroughRouter = Callable[[Any], Awaitable[Any]]


async def send_canary(node: Node, number: int, prove: Callable[[str], Awaitable[None]], through: ThroughRouter) -> None:
    """Send one message through the node, and see that it is done.

    Args:
        node: the real one.
        number: of the canary.
        prove: has the real store make a text durable, and read it back.
        through: calls the real router.

    Raises:
        TrishulaError: some part of the node refused it, or failed.
    """
    router = _Router()
    lane = Node(
        replace(node.config, peers=()),
        _Store(node.store.epoch, node.config.node, prove),
        Principals(None, records={_AGENT: AgentEntry()}),
        router,
        clock=node.clock,
        now=node.now,
        worked_s=node.worked_s,
        random=lambda: 0.5,
        version=node.version,
    )
    # It is never started: that would write into the journal.
    verbs, caller = Procedures(lane).by_uri(), Caller(_SESSION, _AGENT, AGENT_ROLE)
    message_id = f"canary-{number}"
    lane.session_joined(_AGENT, _SESSION, AGENT_ROLE)
    await lane.serve(verbs[uris.MAILBOX_ATTACH], caller, ({},))
    message = {"type": "STATUS", "id": message_id, "to": _AGENT, "payload": {"number": number}}
    (receipt,) = await lane.serve(verbs[uris.MAILBOX_SEND], caller, ([message],))
    if receipt["status"] != "accepted":
        raise NodeFailed(f"it was refused: {receipt.get('detail')}")
    (delivery,) = await through(await router.pushed)
    if delivery["message"]["payload"] != message["payload"]:
        raise NodeFailed("what was delivered is not what was sent; the node's memory or its code is broken: restart it")
    await lane.serve(verbs[uris.MAILBOX_ACK], caller, ([delivery["token"]],))
    status = await lane.serve(verbs[uris.MAILBOX_STATUS], caller, ([message_id],))
    state = status.get(message_id, {}).get("state")
    if state != "done":
        raise NodeFailed(f"it was acknowledged and is {state}, not done")


class _Store(MemoryStore):
    """In memory, and no message is accepted before the real store has proved that it makes something durable."""

    def __init__(self, epoch: str, node: str, prove: Callable[[str], Awaitable[None]]) -> None:
        super().__init__(epoch, node)
        self._prove = prove

    def append(self, drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        async def proved() -> list[Accepted]:
            await self._prove(",".join(draft.id for draft in drafts))
            return self._append(drafts, at, ids_since)

        return Deferred.fromCoroutine(proved())


class _Router:
    """What is around the lane: it takes the one delivery; nobody listens to the rest."""

    def __init__(self) -> None:
        self.pushed: Deferred[list[dict[str, Any]]] = Deferred()

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        if not self.pushed.called:
            self.pushed.callback(deliveries)

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None: ...

    def tell(self, news: Iterable[News]) -> None: ...

    def announce(self, topic: str, event: Mapping[str, Any]) -> None: ...

    def frame_limit_bytes(self, session: int) -> int | None:
        return None

    def close_session(self, session: int, uri: str, sentence: str) -> None: ...

    def post(self, peer: str, kind: str, text: bytes) -> None: ...
