"""Retained events: how many of them, and how large, one agent leaves at a node.

An event that is published with ``retain`` stays in the router until another one takes its place on its topic: also when
its publisher has gone, for which it is meant. An agent may publish on any number of topics of its own, and Crossbar
(26.10) keeps what it is given. Here each agent has so many at most, of so many bytes together; what would be more is
refused, and published to nobody. When an agent is no longer registered its retained events go with it.

It reaches into private names of Crossbar (``Broker.processPublish``, ``._subscription_map``,
``SubscriptionExtra.retained_events``); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from trishula.errors import RetainedExceeded, TrishulaError
from trishula_router.agents.quotas import Quota, Quotas
from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["Retained"]


class Retained:
    """See the module's docstring.

    Args:
        quotas: how many an agent may have.
        limit_bytes: how large they may be together.
        roles: whose sessions are bounded.
        message: Autobahn's module of WAMP messages.
        refused: told of each refusal: the agent, the error.
        is_registered: whether an agent still is.
    """

    def __init__(
        self,
        quotas: Quotas,
        limit_bytes: int,
        roles: Collection[str],
        message: Any,
        refused: Callable[[str, TrishulaError], None],
        is_registered: Callable[[str], bool],
    ) -> None:
        self._quotas = quotas
        self._limit_bytes = limit_bytes
        self._roles = roles
        self._message = message
        self._refused = refused
        self._is_registered = is_registered
        # Of each agent, by topic: how many, and how many bytes.
        self._of: dict[str, dict[str, tuple[int, int]]] = {}
        self._topics: Any = None
        self._router: Any = None

    def install(self, transport: object) -> bool:
        """Look at what is published in the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed.
        """
        parts = Parts.behind(transport)
        broker, topics = parts.broker, parts.topics
        if not has(topics, verbs=("get_observation", "delete_observation")) or not has(
            broker, verbs=("processPublish",)
        ):
            return False
        self._router, self._topics = parts.router, topics
        publish = broker.processPublish

        def process(session: Any, event: Any) -> None:
            if not event.retain or session._authrole not in self._roles:
                publish(session, event)
                return
            size_bytes = getattr(session._transport, "message_bytes", 0)
            error = self._error(session._authid, event, size_bytes)
            if error is not None:
                self._refuse(session, event, error)
                return
            publish(session, event)
            self._note(session._authid, event, size_bytes)

        broker.processPublish = process
        return True

    def forget_departed(self) -> None:
        """Drop those of agents that are no longer registered: to be called now and then."""
        for agent in [one for one in self._of if not self._is_registered(one)]:
            for topic in self._of.pop(agent):
                found = self._topics.get_observation(topic)
                if found is None:
                    continue
                found.extra.retained_events = []
                if not found.observers:
                    self._topics.delete_observation(found)

    def _error(self, agent: str, event: Any, size_bytes: int) -> TrishulaError | None:
        mine = self._of.get(agent, {})
        count = sum(one for one, _ in mine.values())
        total_bytes = sum(one for _, one in mine.values())
        if event.topic in mine and not event.eligible and not event.exclude:
            # It takes the place of what is there; one for certain sessions is kept beside the others.
            count -= mine[event.topic][0]
            total_bytes -= mine[event.topic][1]
        if self._quotas.agent_is_full(Quota.RETAINED, count):
            return self._quotas.refusal(Quota.RETAINED, agent)
        if total_bytes + size_bytes > self._limit_bytes:
            self._quotas.count(Quota.RETAINED)
            return RetainedExceeded(
                f"the retained events of {agent} would have {total_bytes + size_bytes} bytes together; this node "
                f"allows {self._limit_bytes} (limits.retained_bytes): publish it without retain, or retain smaller ones"
            )
        return None

    def _note(self, agent: str, event: Any, size_bytes: int) -> None:
        found = self._topics.get_observation(event.topic)
        kept = [] if found is None or found.extra is None else found.extra.retained_events
        if not kept or kept[-1].publish is not event:
            # It was denied.
            return
        before_bytes = self._of.get(agent, {}).get(event.topic, (0, 0))[1] if len(kept) > 1 else 0
        self._of.setdefault(agent, {})[event.topic] = len(kept), before_bytes + size_bytes

    def _refuse(self, session: Any, event: Any, error: TrishulaError) -> None:
        self._refused(str(session._authid), error)
        if event.acknowledge:
            answer = self._message.Error(
                self._message.Publish.MESSAGE_TYPE, event.request, error.uri, args=[error.sentence]
            )
            self._router.send(session, answer)
