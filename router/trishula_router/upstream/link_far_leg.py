"""The end of a link in the peer's router: it joins there by the node's key, once whoever listens has proved the peer's.

What both sign is in :mod:`.link_proofs`; what the listener does is in :mod:`.link_keys`; :mod:`.link_client` makes the
connection, and is told how far this end has come.
"""

from __future__ import annotations

from typing import Any, Protocol

from trishula.contract import uris
from trishula_router.upstream.link_host import LinkHost, Told
from trishula_router.upstream.link_keys import ONE_SIDED
from trishula_router.upstream.link_legs import Leg
from trishula_router.upstream.link_proofs import CHANNEL, CONNECTOR, LISTENER, Ends, channel_between, is_nonce

__all__ = ["FarLeg"]


class Client(Protocol):
    """Whose connection it is: what is known there, and what is told."""

    peer: str
    realm: str
    host: LinkHost
    told: Told

    def trouble(self, why: str) -> None:
        """There is no link any more, and why."""

    def refused(self, why: str) -> None:
        """One of the two nodes refused the link."""

    def joined(self, far: FarLeg) -> None:
        """The peer let us in."""


class Unproven(Exception):
    """Whoever listens at the peer's address did not prove to be the peer; the text says what it did."""


class FarLeg(Leg):
    """The end in the peer's router: a WebSocket client that proves by the node's key who it is.

    It says nothing but its public key and a nonce before whoever listens has proved the peer's key.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client.realm, client.peer)
        self._client = client
        self._key = ""
        self._nonce = client.host.new_nonce()
        self._was_asked = self._is_proven = self._is_in = False

    async def onConnect(self) -> None:
        """Say which key is ours; the peer knows by it who we are. And ask for a proof of its own."""
        self._key = await self._client.host.public_key()
        if self._transport is None:
            return
        binding = None if self._channel() is None else CHANNEL
        extra = {"pubkey": self._key, "challenge": self._nonce, "channel_binding": binding}
        self.join(self.config.realm, authmethods=["cryptosign"], authextra=extra)

    def _channel(self) -> bytes | None:
        """The id of our TLS channel; ``None`` without TLS."""
        found = (self._transport.transport_details.channel_id or {}).get(CHANNEL)
        return found if isinstance(found, bytes) else None

    async def onChallenge(self, challenge: Any) -> str:
        """Look at the proof of whoever listens, and only then give ours.

        Raises:
            Unproven: if it is none.
        """
        ends = self._ends_of(challenge)
        if not ends.is_signed(LISTENER, challenge.extra.get("signature")):
            raise Unproven(f"whoever listens at its address could not prove the key of {self.peer}")
        self._client.told.proven(self.peer, ends.told)
        proof = (await self._client.host.sign(ends.text(CONNECTOR))).hex()
        self._is_proven = True
        return proof

    def _ends_of(self, challenge: Any) -> Ends:
        was_asked, self._was_asked = self._was_asked, True
        extra = challenge.extra if isinstance(challenge.extra, dict) else {}
        if was_asked or challenge.method != "cryptosign" or not is_nonce(extra.get("challenge")):
            raise Unproven("whoever listens at its address asked for something else than the proof of a key")
        known = self._client.host.keys_of(self.peer)
        key = extra.get("pubkey")
        if key not in known:
            raise Unproven(
                f"whoever listens at its address proved nothing, or has another key than {self.peer}, whose key stands "
                f"in this node's configuration, below paths.{uris.PEER_PATH}.auth.cryptosign.principals; if it is "
                "another one by now: `trishula node keys` there prints it"
            )
        own, reply = self._channel(), extra.get("channel_binding")
        channel = channel_between(own is not None, own if reply == CHANNEL else None)
        return Ends(self.peer, self._client.host.node, key, self._key, extra["challenge"], self._nonce, channel)

    def onWelcome(self, welcome: Any) -> str | None:
        """Nobody is our peer who lets us in without having proved its key."""
        if self._is_proven:
            return None
        self._client.refused(f"whoever listens at its address let this node in and proved no key of {self.peer}")
        # When it has been told so.
        self._client.host.reactor.callLater(0, self.disconnect)
        return "this node links to nobody without a proof"

    def onUserError(self, fail: Any, msg: str) -> None:
        """Log a fault of ours; that somebody proved nothing is told otherwise."""
        if not isinstance(fail.value, Unproven):
            super().onUserError(fail, msg)

    def onJoin(self, details: Any) -> None:
        """We are in."""
        self._is_in = True
        self._transport.pulse.begin(0.0)
        self._client.joined(self)

    def onLeave(self, details: Any) -> None:
        """The session ended: by the peer's word, or with the connection."""
        if details.reason != "wamp.close.transport_lost":
            is_our_word = self._was_asked and not self._is_proven
            why = str(details.message) if is_our_word else f"{details.reason}: {details.message}"
            if not self._was_asked and ONE_SIDED in str(details.message):
                why += (
                    f"; {self.peer} is of a release that can't prove its own key, and nothing is said to a node that "
                    "can't: bring that node to this release first"
                )
            (self._client.trouble if self._is_in else self._client.refused)(why)
        if self._transport is not None:
            self.disconnect()
