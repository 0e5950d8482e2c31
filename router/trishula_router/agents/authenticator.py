"""Proof of identity: what Crossbar's dynamic ``ticket`` authenticator asks us when a client joins. No I/O of its own.

The client says HELLO with ``authid`` = the agent's name, Crossbar challenges it, and the client's answer, its token,
comes here. The answer decides the session's authid and role; nothing the client says about itself is taken over. An
error is raised as the typed error: Crossbar aborts the session with its URI and its sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from trishula.contract import uris
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.errors import NotAllowed, TokenInvalid, TokenMissing
from trishula_router.agents.principals import Principals
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
            authid: the agent it says it is; a client that says nothing is whoever its token says.
            details: Crossbar's details of the session; only ``ticket`` counts.
            now_s: the node's clock, in seconds since the epoch.

        Raises:
            TokenMissing, TokenInvalid, NotAllowed: if it may not join.
        """
        ticket = details.get("ticket")
        if realm != uris.REALM:
            raise NotAllowed(f'there is no realm {_shown(realm)} for agents; join the realm "{uris.REALM}"')
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
        # A token made, or taken away, a moment ago counts from now on.
        self._principals.reload_if_changed()
        principal = self._principals.check_token(authid, ticket, now_s)
        return {"realm": uris.REALM, "authid": principal.name, "role": principal.role}


def _shown(realm: object) -> str:
    return ascii(realm)[:80]
