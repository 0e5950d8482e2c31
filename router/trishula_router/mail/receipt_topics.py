"""Receipt topics: which senders listen to what becomes of their messages.

News that nobody listens to are not even built: the router is told of each subscription, and only what is about a sender
with a listener becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trishula.contract import uris
from trishula.contract.addresses import agent_of
from trishula_router.mail.outlet import News

__all__ = ["ReceiptTopics"]


class ReceiptTopics:
    """The topics of receipts that somebody has subscribed to."""

    def __init__(self) -> None:
        self._of_subscription: dict[int, str] = {}
        self._topics: set[str] = set()

    def subscription_created(self, session: int, subscription: Mapping[str, Any]) -> None:
        """Somebody subscribed to a topic, as the first one."""
        at = uris.parse_agent_uri(subscription["uri"])
        if at is not None and at.kind == "receipts":
            self._of_subscription[subscription["id"]] = subscription["uri"]
            self._topics.add(subscription["uri"])

    def subscription_deleted(self, session: int, subscription: int) -> None:
        """The last one left a topic."""
        self._topics.discard(self._of_subscription.pop(subscription, ""))

    def events(self, news: Iterable[News]) -> dict[str, list[dict[str, Any]]]:
        """What to publish of some news, by topic."""
        by_topic: dict[str, list[dict[str, Any]]] = {}
        if not self._topics:
            return by_topic
        for one in news:
            topic = uris.receipts_of(agent_of(one.sender))
            if topic in self._topics:
                told: dict[str, Any] = {"id": one.id, "to": one.recipient, "state": one.state, "at": one.at}
                if one.copies is not None:
                    told["copies"] = one.copies
                if one.reason is not None:
                    told["reason"] = one.reason
                by_topic.setdefault(topic, []).append(told)
        return by_topic
