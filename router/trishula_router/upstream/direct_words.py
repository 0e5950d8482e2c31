"""Take what a peer says from its link, and hand over what is said to it, without a publication of the router's.

Nodes say something to each other for each group of messages that is committed: the records, and how far they are held.
Each word was a publication at both ends, and Crossbar takes that of a link or an embedded component as it takes any
(:mod:`.direct_events`). Measured with two copies at full speed, that was a third of what the second node's reactor did.
What travels is the same, so a peer may do otherwise.

Only links may speak on these topics, and only the peer's own link may listen there: the authorizer says so, and what a
link may not say, or says in another way than our links do, is left to the router and so to the authorizer.

It reaches into private names of Crossbar (26.10.1: ``Broker.processPublish``, and those of :mod:`.direct_events`); if
they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE
from trishula_router.upstream.crossbar_parts import Parts, has
from trishula_router.upstream.direct_events import Event

__all__ = ["DirectWords"]

log = Logger()


class DirectWords:
    """See the module's docstring.

    Args:
        speaker: the embedded session, which speaks for the node.
        make_event: Autobahn's class of the message, for links that this node has made: they end inside of the router.
        embedded: the class of their sessions there.
        new_id: numbers of publications.
    """

    def __init__(self, speaker: Any, make_event: Callable[..., Any], embedded: type, new_id: Callable[[], int]) -> None:
        self._speaker = speaker
        self._make_event = make_event
        self._embedded = embedded
        self._new_id = new_id
        self._router: Any = None
        self._subscription_of: Callable[[str], Any] = lambda topic: None

    def install(
        self, transport: object, node: str, kinds: Iterable[str], hear: Callable[[str, object, str], None]
    ) -> bool:
        """Find the way in the router that the embedded session's ``transport`` leads into; the last of all mends.

        Args:
            transport: of an embedded session, as Crossbar makes it.
            node: this node's name.
            kinds: what peers say to it.
            hear: takes (kind, text, peer).

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed, and :meth:`say` says nothing.
        """
        parts = Parts.behind(transport)
        router, broker = parts.router, parts.broker
        if not has(router, verbs=("send",)) or not has(broker, verbs=("processPublish",)):
            return False
        if not has(parts.topics, verbs=("get_observation",)):
            return False
        self._router, self._subscription_of = router, parts.topics.get_observation
        kind_of = {uris.peer_topic(node, kind): kind for kind in kinds}
        publish = broker.processPublish

        def process(session: Any, event: Any) -> None:
            kind = kind_of.get(event.topic)
            if kind is None or session._authrole != LINK_ROLE or not _is_plain(event):
                publish(session, event)
            else:
                hear(kind, event.args[0], session._authid)

        broker.processPublish = process
        return True

    def say(self, peer: str, kind: str, text: bytes) -> bool:
        """Hand a text over to the link of a peer, if there is one.

        Returns:
            Whether that could be done this way: ``False`` if Crossbar is not as expected.
        """
        if self._router is None:
            return False
        subscription = self._subscription_of(uris.peer_topic(peer, kind))
        for link in [] if subscription is None else list(subscription.observers):
            make_event = self._make_event if isinstance(link, self._embedded) else Event
            event = make_event(
                subscription.id,
                self._new_id(),
                args=[text],
                publisher=self._speaker._session_id,
                publisher_authid=self._speaker._authid,
                publisher_authrole=self._speaker._authrole,
            )
            try:
                self._router.send(link, event)
            except Exception:
                # Too large for what the peer takes, or its socket closes just now.
                log.failure("a word of the kind {kind} could not be sent to {peer}", kind=kind, peer=peer)
        return True


def _is_plain(event: Any) -> bool:
    """Whether a link says something as our links do."""
    forwarded = event.forward_for
    return (
        isinstance(forwarded, list)
        and len(forwarded) == 1
        and not event.retain
        and not event.acknowledge
        and isinstance(event.args, list)
        and len(event.args) == 1
    )
