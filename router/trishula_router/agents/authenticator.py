"""Proof of identity: what a client that joins has to show, its token or the proof of its key. No I/O of its own.

The client says HELLO with ``authid`` = the agent's name, it is challenged, and its answer comes here: its token, by
Crossbar's dynamic ``ticket`` authenticator, or what it has signed (:mod:`trishula_router.upstream.agent_keys`). The
answer decides the session's authid and role; nothing the client says about itself is taken over. An error is raised as
the typed error: Crossbar aborts the session with its URI and its sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from trishula.contract import uris
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.errors import NotAllowed, TokenInvalid, TokenMissing
from trishula_router.agents.key_proofs import KeyProof
from trishula_router.agents.principals import Principal, Principals
from trishula_router.agents.tokens import owner_of

__all__ = ["Authenticator"]


class Authenticator:
    """Decides who a joining client is."""

    def __init__(self, principals: Principals) -> None:
        self._principals = principals

    def authenticate(
        self, realm: object, authid: object, details: Mapping[str, object], now_s: float
    ) -> dict[str, str]:
        """Whose session it is, as Crossbar wants the answer.

        Args:
            realm: the realm that the client wants to join.
            authid: the agent it says it is; a client that says nothing is whoever its token, or its key, says.
            details: of the session; only ``ticket``, or else ``proof`` counts.
            now_s: the node's clock, in seconds since the epoch.

        Raises:
            TokenMissing, TokenInvalid, NotAllowed: if it may not join.
        """
        if realm != uris.REALM:
            raise NotAllowed(f'there is no realm {_shown(realm)} for agents; join the realm "{uris.REALM}"')
        # A token made, or taken away, a moment ago counts from now on.
        self._principals.reload_if_changed()
        proof = details.get("proof")
        if isinstance(proof, KeyProof):
            principal = self._by_key(authid, proof, now_s)
        else:
            principal = self._by_token(authid, details.get("ticket"), now_s)
        return {"realm": uris.REALM, "authid": principal.name, "role": principal.role}

    def _by_key(self, authid: object, proof: KeyProof, now_s: float) -> Principal:
        name = authid or None
        if name is not None and (not isinstance(name, str) or not is_agent_name(name)):
            raise TokenInvalid(f"the client's authid is no agent's name: that is {AGENT_RULE}")
        return self._principals.check_key(name, proof, now_s)

    def _by_token(self, authid: object, ticket: object, now_s: float) -> Principal:
        if authid is None or authid == "":
            if not isinstance(ticket, str) or not ticket:
                raise TokenMissing("a client tried to join without a token; make one with `trishula token new NAME`")
            if "." not in ticket:
                # Not repeated in the error: it may be a token of something else.
                raise TokenInvalid(
                    "the token is none of this bus, which are name.secret; use the one made for the agent"
                )
            authid = owner_of(ticket)
        if not isinstance(authid, str) or not is_agent_name(authid):
            # Not shown: a client that mixes its settings up sends its token here.
            raise TokenInvalid(f"the client's authid is no agent's name: that is {AGENT_RULE}")
        return self._principals.check_token(authid, ticket, now_s)


def _shown(realm: object) -> str:
    return ascii(realm)[:80]
