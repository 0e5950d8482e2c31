"""Whom a link is made for: the Crossbar worker that it runs in, and the node that is told of it.

:class:`LinkHost` is all that a link knows of Crossbar's worker. It reaches into private names of Crossbar (26.10.1:
``RLinkManager.realm``, ``.controller``, ``._router_session_factory``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE
from trishula_router.upstream.link_legs import Leg

__all__ = ["LinkHost", "Told"]

CONNECT_TIMEOUT_S = 2


class Told(Protocol):
    """What is told of the links that this node makes."""

    def made_here(self, peer: str) -> None:
        """This node makes the link to a peer."""

    def troubled(self, peer: str, why: str) -> None:
        """An attempt to make the link failed; told each time."""

    def proven(self, peer: str, how: str) -> None:
        """The peer proved its key."""

    def refused(self, peer: str | None, why: str) -> None:
        """There is no link, because one of the two nodes refused it."""

    def up(self, peer: str, how: str, *, is_logged: bool) -> None:
        """The link carries all names that there are."""

    def down(self, peer: str, why: str, *, is_logged: bool) -> None:
        """The link broke."""


class LinkHost:
    """What a link needs of the Crossbar worker that it runs in."""

    def __init__(self, manager: Any, node: str, new_nonce: Callable[[], str]) -> None:
        self.node = node
        self.new_nonce = new_nonce
        self._manager = manager
        self._controller = manager.controller
        self.reactor: Any = self._controller._reactor
        self.realm: str = manager.realm.config["name"]

    def endpoint(self, config: dict[str, Any]) -> Any:
        from crossbar.common.twisted.endpoint import create_connecting_endpoint_from_config

        within = {"timeout": CONNECT_TIMEOUT_S, **config}
        return create_connecting_endpoint_from_config(
            within, self._controller.cbdir, self.reactor, self._controller.log
        )

    def public_key(self) -> Deferred[str]:
        answer: Deferred[str] = self._controller.call("crossbar.get_public_key")
        return answer

    def sign(self, text: bytes) -> Deferred[bytes]:
        answer: Deferred[bytes] = self._controller.call("crossbar.sign", text)
        return answer

    def keys_of(self, peer: str) -> list[str]:
        """The public keys that this node's configuration has for a peer: those with which it would be let in."""
        keys: list[str] = []
        # They are there: Crossbar starts the links when it has started the transports.
        for transport in self._manager.realm.controller.transports.values():
            path = transport.config.get("paths", {}).get(uris.PEER_PATH, {})
            principals = path.get("auth", {}).get("cryptosign", {}).get("principals", {})
            keys += principals.get(peer, {}).get("authorized_keys", [])
        return keys

    def embed(self, leg: Leg, peer: str) -> None:
        factory = self._manager.realm.controller._router_session_factory
        factory.add(leg, self._manager.realm.router, authid=peer, authrole=LINK_ROLE)

    def remove(self, leg: Leg) -> None:
        self._manager.realm.controller._router_session_factory.remove(leg)
