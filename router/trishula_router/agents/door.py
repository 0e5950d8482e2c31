"""The door: what a client passes on its way to a session.

Too many wrong tokens have it wait (:mod:`.guesses`), its token or key says who it is (:mod:`.authenticator`), its agent
has so many sessions at most (:mod:`.admission`), and not too many come at once (:mod:`.joins`). Whoever is refused is
noted (:mod:`.refused_joins`). Whoever shows a token and doesn't join, as over HTTP, has its token looked at just so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trishula.contract.addresses import is_agent_name
from trishula.errors import NodeBusy, RateLimited, TokenInvalid, TrishulaError
from trishula_router.agents.admission import Admission
from trishula_router.agents.authenticator import Authenticator
from trishula_router.agents.guesses import Guesses
from trishula_router.agents.joins import Joins
from trishula_router.agents.key_proofs import KeyProof
from trishula_router.agents.principals import Principal, Principals
from trishula_router.agents.refused_joins import RefusedJoins
from trishula_router.agents.sessions import Sessions
from trishula_router.agents.tokens import digest_of, digest_of_key, owner_of
from trishula_router.client_ips import ip_in, site_of

__all__ = ["Door"]

T = TypeVar("T")


class Door:
    """Lets clients in.

    Args:
        principals: who may join.
        admission: who may have a session.
        sessions: who has one.
        joins: how many come at once.
        refused_joins: notes who was refused.
        now: the wall clock in ms.
        now_s: the clock for spans.
    """

    def __init__(
        self,
        principals: Principals,
        admission: Admission,
        sessions: Sessions,
        joins: Joins,
        refused_joins: RefusedJoins,
        *,
        now: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._principals = principals
        self._authenticator = Authenticator(principals)
        self._admission = admission
        self._sessions = sessions
        self._joins = joins
        self._refused_joins = refused_joins
        self._guesses = Guesses()
        self._now = now
        self._now_s = now_s

    def authenticate(self, realm: object, authid: object, details: Mapping[str, Any]) -> dict[str, str]:
        """Whose session a joining client gets; see :meth:`Authenticator.authenticate`.

        Raises:
            TokenMissing, TokenInvalid, NotAllowed, ConnectionsExceeded: if it may not join.
            NodeBusy, RateLimited: not now.
        """
        peer = ip_in((details.get("transport") or {}).get("peer"))
        try:
            return self._admit(realm, authid, details, peer)
        except NodeBusy:
            raise
        except TrishulaError as error:
            self.refused(peer, _name_in(authid, details.get("ticket")), error.uri or "", error.sentence)
            raise

    def _admit(self, realm: object, authid: object, details: Mapping[str, Any], peer: str | None) -> dict[str, str]:
        ticket, now_s, now = details.get("ticket"), self._now_s(), self._now() / 1000
        proof = details.get("proof")
        digest = _digest_in(ticket, proof)
        answer = self._looked_at(
            peer,
            _name_in(authid, ticket),
            digest,
            lambda: self._authenticator.authenticate(realm, authid, details, now),
        )
        session = self._admission.admit(answer["authid"], details["session"], digest, now_s, peer)
        session.by_key = proof is not None
        try:
            self._joins.begin(session, now_s)
        except NodeBusy:
            self._sessions.withdrawn(session)
            raise
        return answer

    def recognize(self, client_ip: str | None, name: str, token: str) -> Principal:
        """Whose token somebody shows who doesn't join.

        Args:
            client_ip: where it comes from; ``None`` if that is not known.
            name: of the agent that the token is said to be of.
            token: what is shown.

        Raises:
            TokenInvalid: it is wrong.
            RateLimited: not now.
        """

        def check() -> Principal:
            # A token made, or taken away, a moment ago counts from now on.
            self._principals.reload_if_changed()
            return self._principals.check_token(name, token, self._now() / 1000)

        try:
            return self._looked_at(client_ip, name, digest_of(token), check)
        except TrishulaError as error:
            self.refused(client_ip, name, error.uri or "", error.sentence)
            raise

    def _looked_at(self, peer: str | None, said: str | None, digest: str | None, check: Callable[[], T]) -> T:
        """What a check of a token gives; too many that fail have those wait that come from there."""
        client_ip, name, now_s = site_of(peer or ""), said or "", self._now_s()
        self._have_wait(self._guesses.wait_s(client_ip, name, digest, now_s))
        try:
            found = check()
        except TokenInvalid:
            is_agent = self._principals.get(name) is not None
            self._have_wait(self._guesses.wrong(client_ip, name, now_s, is_agent=is_agent))
            raise
        assert digest is not None
        self._guesses.right(client_ip, name, digest)
        return found

    def _have_wait(self, wait_s: float) -> None:
        """Refuse to look at a token, or to say what it is, after too many wrong ones.

        Raises:
            RateLimited: there were too many.
        """
        if wait_s > 0.0:
            wait_s = round(wait_s + 0.05, 1)
            raise RateLimited(
                f"too many wrong tokens came from where this client is; whoever has the right one may try again in "
                f"{wait_s:g} s",
                retry_after_s=wait_s,
            )

    def refused(self, client_ip: str | None, agent: str | None, error: str, sentence: str) -> None:
        """A client was refused before it had a session; also by the router itself, then without a name."""
        self._refused_joins.refused(client_ip, agent, error, sentence, self._now_s())


def _digest_in(ticket: object, proof: object) -> str | None:
    """Of what a client shows; a public key that it has not proved to have is nothing that it has."""
    if isinstance(proof, KeyProof):
        return digest_of_key(proof.public_key) if proof.is_good and proof.public_key else None
    return digest_of(ticket) if isinstance(ticket, str) else None


def _name_in(authid: object, ticket: object) -> str | None:
    """Who a client says it is, if that is a name; the token of one that mixed its settings up is not."""
    said = authid or (owner_of(ticket) if isinstance(ticket, str) else None)
    return said if isinstance(said, str) and is_agent_name(said) else None
