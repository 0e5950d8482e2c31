"""What a node tells its peers of its own names that travel over a link (:mod:`trishula_router.realm`).

:class:`Names` knows what this node's own sessions subscribed to and registered. What a link put there for its peer
doesn't count, so that nothing that was forwarded is forwarded again, in whatever shape the nodes are joined. It looks
at the router's own maps: Crossbar's meta events don't tell sessions from links (issue 1894 is one consequence), and
asking its meta procedures takes three calls for each name, which at ten thousand names is longer than a link may take
to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trishula_router.realm import LINK_ROLE, travels_as_procedure, travels_as_topic

__all__ = [
    "Change",
    "Names",
]

#: ``{"at": number, "topics": {uri: there?}, "procedures": {uri: there?}}``, as it goes to a peer.
Change = dict[str, Any]


class Names:
    """The names of one router that its own sessions, and no links, are behind.

    Args:
        topics: the router's ``UriObservationMap`` of subscriptions.
        procedures: that of its registrations.
        tell: told of each change.

    Attributes:
        at: the number of the last change: whoever listens first and asks then knows which changes are older.
    """

    def __init__(self, topics: Any, procedures: Any, tell: Callable[[Change], object]) -> None:
        self._tell = tell
        self.at = 0
        self._topics = _Kind(topics, travels_as_topic)
        self._procedures = _Kind(procedures, travels_as_procedure)

    def all(self) -> Change:
        """All names."""
        topics, procedures = dict.fromkeys(self._topics.there, True), dict.fromkeys(self._procedures.there, True)
        return {"at": self.at, "topics": topics, "procedures": procedures}

    def subscription_changed(self, subscription: int) -> None:
        """Somebody subscribed or unsubscribed."""
        self._changed("topics", self._topics.look(subscription))

    def registration_changed(self, registration: int) -> None:
        """Somebody registered or unregistered."""
        self._changed("procedures", self._procedures.look(registration))

    def _changed(self, kind: str, change: dict[str, bool]) -> None:
        if change:
            self.at += 1
            self._tell({"at": self.at, "topics": {}, "procedures": {}, kind: change})


class _Kind:
    """The topics, or the procedures."""

    def __init__(self, observations: Any, travels: Callable[[str], bool]) -> None:
        self._map = observations
        self._travels = travels
        self.there: set[str] = set()
        # When the last observer is gone the router has forgotten which name it was.
        self._uris: dict[int, str] = {}
        for observation in list(observations._observation_id_to_observation):
            self.look(observation)

    def look(self, number: int) -> dict[str, bool]:
        """Look at one observation of the router's; what changed by it."""
        found = self._map.get_observation_by_id(number)
        if found is None:
            uri = self._uris.pop(number, None)
        elif found.match == "exact" and self._travels(found.uri):
            uri = self._uris[number] = found.uri
        else:
            uri = None
        if uri is None:
            return {}
        # By name: it may have been registered anew, under another number, before the news of the old one came.
        observation = self._map.get_observation(uri)
        there = observation is not None and _has_own(observation.observers)
        if there == (uri in self.there):
            return {}
        (self.there.add if there else self.there.discard)(uri)
        return {uri: there}


def _has_own(observers: Iterable[Any]) -> bool:
    return any(observer._authrole != LINK_ROLE for observer in observers)
