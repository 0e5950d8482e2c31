"""Live topics beyond this node: what its agents publish is told of, and what came from elsewhere is published here.

Crossbar's links between routers subscribe to what the other side wants. Cells are not linked: the node has to hear what
its agents publish on any of their topics, and a subscription to all of them would be one to their inboxes, too. So it
looks at publications where the broker takes them, after all that may refuse one.

What comes from another cell is published in the name of the agent that published it there, as links do, and for
sessions of agents and operators alone: a link would carry it on.

It reaches into private names of Crossbar (``Broker.processPublish``, ``._subscription_map``); if they are not as
expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from trishula.contract import uris
from trishula_router.cells.live import Event
from trishula_router.cells.topics import Topics
from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["carry_live_topics"]


async def carry_live_topics(
    session: Any,
    topics: Topics,
    message: Any,
    roles: Collection[str],
    role_of: Callable[[str], str | None],
    is_denied: Callable[[Mapping[str, object], str, Mapping[str, object]], bool],
) -> bool:
    """Have the topics of agents reach beyond the router that a session is embedded in; to be called before what bounds
    publications is installed around it.

    Args:
        session: embedded in the router, in a role that may do everything.
        topics: carries the events.
        message: Autobahn's module of WAMP messages.
        roles: whose sessions' events are carried, and which hear those that come.
        role_of: the role of an agent; ``None`` if it has none.
        is_denied: whether a session may not publish on a topic.

    Returns:
        Whether Crossbar is as expected; if not, nothing was changed.
    """
    parts = Parts.behind(session._transport)
    broker = parts.broker
    if not has(broker, verbs=("processPublish",)) or not has(parts.topics, verbs=("get_observation_by_id",)):
        return False
    publish = broker.processPublish

    def process(source: Any, event: Any) -> None:
        publish(source, event)
        # Sessions are of this node, and what a client has encrypted for its own router's sessions is theirs.
        if source._authrole not in roles or not _is_agents_topic(event.topic) or event.eligible or event.payload:
            return
        who = {"authid": source._authid, "authrole": source._authrole}
        # Where nobody is subscribed, and the client wants no answer, Crossbar doesn't ask.
        if is_denied(who, event.topic, {"forward_for": event.forward_for}):
            return
        topics.published(
            event.topic,
            source._authid,
            source._session_id,
            event.args or [],
            event.kwargs or {},
            eligible=event.eligible_authid,
            excluded=event.exclude_authid,
            roles=event.eligible_authrole,
        )

    def republish(event: Event) -> None:
        heard_by = [one for one in roles if event.roles is None or one in event.roles]
        if not heard_by:
            return
        who = {"session": event.session, "authid": event.agent, "authrole": role_of(event.agent) or "anonymous"}
        told = message.Publish(
            1,
            event.topic,
            args=event.args,
            kwargs=event.kwargs or None,
            eligible_authid=event.eligible,
            exclude_authid=event.excluded,
            eligible_authrole=heard_by,
            forward_for=[who],
        )
        publish(session, told)

    def changed(_: int, number: int) -> None:
        found = parts.topics.get_observation_by_id(number)
        if found is not None and _is_agents_topic(found.uri):
            topics.listening(number, found.uri if any(one._authrole in roles for one in found.observers) else None)
        else:
            topics.listening(number, None)

    broker.processPublish = process
    topics.republish = republish
    # Not on_create: of a topic with a retained event, or with a link on it, it doesn't tell.
    await session.subscribe(changed, "wamp.subscription.on_subscribe")
    await session.subscribe(changed, "wamp.subscription.on_unsubscribe")
    return True


def _is_agents_topic(uri: str) -> bool:
    at = uris.parse_agent_uri(uri)
    return at is not None and at.kind == "topic" and bool(at.rest)
