"""Who it is that a link forwards for, as this node knows it, in the place of what the link says.

Crossbar believes a link's ``forward_for``: what a callee or a subscriber is shown of the session, authid and role is
what the peer wrote there. Permission (:mod:`trishula_router.agents.authorizer`) looks at the authid; here the rest is
set right, before Crossbar looks at it:

- what agents call and publish has the role that this node's own file of agents has for them;
- what nodes tell each other and all (``peer.*``, ``event.*``) comes from the peer whose key the link has proved,
  whatever it says: so the name of a message of ``peer.*`` can be compared with the key;
- of ``event.*``, a peer tells of itself and of the agents for which it vouches. Honest nodes announce more (an agent of
  a third node that they can't see any more); for who hears that third node too it is wrong, so it is dropped.

It reaches into private names of Crossbar (``Router._broker``, ``Router._dealer``); if they are not as expected, nothing
is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE, NODE_ROLE
from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["guard_forwarding"]


def guard_forwarding(
    transport: object, role_of: Callable[[str], str | None], may_tell: Callable[[str, str, object], bool]
) -> bool:
    """Have all that links forward looked at first, in the router that ``transport`` leads into.

    Args:
        transport: of an embedded session, as Crossbar makes it.
        role_of: the role of an agent, by this node's own file; ``None`` if it has none.
        may_tell: (peer, topic, event) → whether a peer may tell that to all.

    Returns:
        Whether Crossbar is as expected; if not, nothing was changed.
    """
    parts = Parts.behind(transport)
    broker, dealer = parts.broker, parts.dealer
    if not has(broker, verbs=("processPublish",)) or not has(dealer, verbs=("processCall",)):
        return False
    publish, call = broker.processPublish, dealer.processCall

    def process_publish(session: Any, event: Any) -> None:
        if session._authrole == LINK_ROLE and event.forward_for:
            if event.topic.startswith((uris.PEER_PREFIX, uris.EVENTS_PREFIX)):
                role = LINK_ROLE if event.topic.startswith(uris.PEER_PREFIX) else NODE_ROLE
                event.forward_for = [_who(session._session_id, session._authid, role)]
                told = event.args[0] if event.args else None
                if role == NODE_ROLE and not may_tell(session._authid, event.topic, told):
                    if not event.acknowledge:
                        return
                    # Who asks is told that it may not.
                    event.forward_for = None
            else:
                event.forward_for = [_known(one, role_of) for one in event.forward_for]
        publish(session, event)

    def process_call(session: Any, asked: Any) -> None:
        if session._authrole == LINK_ROLE and asked.forward_for:
            asked.forward_for = [_known(one, role_of) for one in asked.forward_for]
        call(session, asked)

    broker.processPublish, dealer.processCall = process_publish, process_call
    return True


def _known(said: dict[str, Any], role_of: Callable[[str], str | None]) -> dict[str, Any]:
    authid = said.get("authid")
    role = role_of(authid) if isinstance(authid, str) else None
    # Whom this node doesn't know is refused after this.
    return _who(said.get("session"), authid, role or "anonymous")


def _who(session: object, authid: object, role: str) -> dict[str, Any]:
    return {"session": session, "authid": authid, "authrole": role}
