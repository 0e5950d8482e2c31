"""Who comes in as a peer: both ends prove their keys (:mod:`.link_proofs`), in the place of Crossbar's one-sided check.

Crossbar (26.10.1) has whoever connects sign 32 bytes, and proves nothing itself; a HELLO without a key, with one of
another shape, or with fields that are hardly used, fails with a traceback in its own code, before anything is proved;
and for an unknown key it logs all principals at each attempt (none of it is reported).

The messages are those of WAMP-cryptosign::

    HELLO         authextra {pubkey, challenge: the connector's nonce, channel_binding: "tls-unique" or null}
    CHALLENGE     extra {pubkey, challenge: the listener's nonce, channel_binding, signature: the listener's}
    AUTHENTICATE  the connector's signature

A node of the release before sends no nonce and asks for no proof. It is let in by Crossbar's check, which proves who it
is to us, and that is on record; the other way round there is no way: a node of this release links to nobody who can't
prove its key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from autobahn.wamp.types import Accept, Challenge, Deny

from trishula_router.settings.node_key import is_public_key
from trishula_router.upstream.link_proofs import CHANNEL, CONNECTOR, LISTENER, Ends, channel_between, is_nonce

__all__ = ["ONE_SIDED", "guard_peers"]

#: How the release before refuses a connector that asks it for a proof; and how both say what else may not be there.
ONE_SIDED = "a peer proves its key and nothing else"


class Told(Protocol):
    """What is told of the links that peers make."""

    def proven(self, peer: str, how: str) -> None:
        """A peer proved its key."""

    def refused(self, peer: str | None, why: str) -> None:
        """A link was refused; of a peer whose key it named, or of a stranger (``None``)."""


def guard_peers(
    node: str, told: Told, new_nonce: Callable[[], str], against: Callable[[str], str | None] = lambda _: None
) -> None:
    """Let peers in this way, in this router worker.

    Args:
        node: this node's name.
        told: of what becomes of them.
        new_nonce: 32 bytes of chance, in hexadecimal digits.
        against: why a peer that has proved its key is refused all the same; ``None`` if it isn't.
    """
    from crossbar.router.auth import AUTHMETHOD_MAP, PendingAuthCryptosign

    class PeerAuth(PendingAuthCryptosign):  # type: ignore[misc]
        _ends: Ends | None = None
        _peer: str | None = None

        def hello(self, realm: str, details: Any) -> Any:
            fault = _fault_of(details.authid, details.authextra, self._pubkey_to_authid)
            if fault is not None:
                return self._deny(fault)
            extra: dict[str, Any] = details.authextra
            self._peer = self._pubkey_to_authid[extra["pubkey"]]
            if extra.get("challenge") is None:
                return super().hello(realm, details)
            self._realm, self._authid, self._authprovider = realm, self._peer, "static"
            denied = self._assign_principal(self._config["principals"][self._peer])
            return denied if denied is not None else self._challenge_back(extra)

        def _challenge_back(self, extra: dict[str, Any]) -> Any:
            controller = self._realm_container.get_controller_session()
            asked = extra.get("channel_binding") is not None
            channel = channel_between(asked, self._channel_id)

            def sign(key: str) -> Any:
                ends = self._ends = Ends(
                    node, self._peer or "", key, extra["pubkey"], new_nonce(), extra["challenge"], channel
                )
                return controller.call("crossbar.sign", ends.text(LISTENER)).addCallback(answer, ends)

            def answer(signature: bytes, ends: Ends) -> Any:
                proof = {"challenge": ends.listener_nonce, "pubkey": ends.listener_key, "signature": signature.hex()}
                binding = CHANNEL if asked and self._channel_id is not None else None
                return Challenge(self.AUTHMETHOD, {**proof, "channel_binding": binding})

            return controller.call("crossbar.get_public_key").addCallback(sign)

        def authenticate(self, signature: str) -> Any:
            if self._ends is None:
                answer, how = super().authenticate(signature), "it is of the release before, and asked for no proof"
            else:
                is_signed = self._ends.is_signed(CONNECTOR, signature)
                answer = self._accept() if is_signed else Deny(message="the proof is not this connection's")
                how = self._ends.told
            if not isinstance(answer, Accept):
                return self._deny(f"it could not prove its key: {getattr(answer, 'message', None)}")
            peer = self._peer or ""
            told.proven(peer, how)
            why = against(peer)
            return answer if why is None else self._deny(why)

        def _deny(self, why: str) -> Any:
            told.refused(self._peer, why)
            return Deny(message=why)

    AUTHMETHOD_MAP["cryptosign"] = PeerAuth


def _fault_of(authid: object, extra: object, principals: object) -> str | None:
    """Why such a HELLO can't lead to a proof; ``None`` if it can."""
    if not isinstance(extra, dict) or not is_public_key(extra.get("pubkey")):
        return "a peer says by its public key (authextra.pubkey) who it is, and this one did not"
    if any(value is not None for key, value in extra.items() if key not in ("pubkey", "challenge", "channel_binding")):
        return f"{ONE_SIDED}; it asked for more in its authextra"
    nonce, binding = extra.get("challenge"), extra.get("channel_binding")
    if nonce is not None and not is_nonce(nonce):
        return f"{ONE_SIDED}; its challenge is not 64 hexadecimal digits in lower case"
    if binding not in ((None,) if nonce is None else (None, CHANNEL)):
        return f'{ONE_SIDED}; its channel_binding is not "{CHANNEL}", beside a challenge'
    # Another type than static is what `node check` refuses.
    known = principals.get(extra["pubkey"]) if isinstance(principals, dict) else None
    if known is None or authid not in (None, known):
        return (
            "this node doesn't know the key by that name: what `trishula node keys` prints at the peer belongs into "
            "the principals of this node's path peer, and this node must be started anew with it"
        )
    return None
