"""Who comes in as a peer: Crossbar's check of keys, without what a stranger can do to the log with it.

Crossbar (26.10.1) checks the proof itself well. But a HELLO without a key, with one of another shape, or with fields
that are hardly used, fails with a traceback in its own code, before anything is proved; and for an unknown key it logs
all principals at each attempt (neither is reported).
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.types import Deny

from trishula_router.node_key import is_public_key

__all__ = ["guard_peers"]


def guard_peers() -> None:
    """Have keys looked at by us first, in this router worker."""
    from crossbar.router.auth import AUTHMETHOD_MAP, PendingAuthCryptosign

    class PeerAuth(PendingAuthCryptosign):  # type: ignore[misc]
        def hello(self, realm: str, details: Any) -> Any:
            against = _against(details.authid, details.authextra, self._pubkey_to_authid)
            return super().hello(realm, details) if against is None else Deny(message=against)

    AUTHMETHOD_MAP["cryptosign"] = PeerAuth


def _against(authid: object, extra: object, principals: object) -> str | None:
    """Why such a HELLO proves nothing; ``None`` if it may."""
    if not isinstance(extra, dict) or not is_public_key(extra.get("pubkey")):
        return "a peer says by its public key (authextra.pubkey) who it is, and this one did not"
    if any(value is not None for key, value in extra.items() if key != "pubkey"):
        return "a peer proves its key and nothing else; it asked for more in its authextra"
    # Another type than static is what `node check` refuses.
    known = principals.get(extra["pubkey"]) if isinstance(principals, dict) else None
    if known is None or authid not in (None, known):
        return (
            "this node doesn't know the key by that name: what `trishula node keys` prints at the peer belongs into "
            "the principals of this node's path peer, and this node must be started anew with it"
        )
    return None
