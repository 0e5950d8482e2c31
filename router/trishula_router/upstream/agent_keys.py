"""Agents that prove who they are by a key: WAMP-cryptosign at the path of the agents, in the place of Crossbar's.

Crossbar's own (26.10.1) asks its authenticator for the key of an agent before anything is proved, which tells a
stranger whose key it is or that there is none; a HELLO of another shape fails with a traceback in its code; and it logs
what clients send. Here every HELLO with a public key gets a challenge, and the node looks at nothing before that is
signed (:mod:`trishula_router.agents.authenticator`). What is signed is :mod:`trishula.contract.key_challenge`.

Other fields of ``authextra`` are not looked at: certificates and trust roots make nobody an agent here, and a client
that wants the router to sign gets no signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import Challenge, Deny
from twisted.internet.defer import Deferred

from trishula.contract.key_challenge import BINDING, what_to_sign
from trishula.contract.signing_key import is_public_key
from trishula_router.agents.key_proofs import KeyProof, proof_of

__all__ = ["guard_agent_keys"]

#: Who may join: as the node's procedure for tickets, of the same arguments.
Authenticate = Callable[[Any, Any, Mapping[str, Any]], Awaitable[Any]]


def guard_agent_keys(authenticate: Authenticate, new_nonce: Callable[[], str]) -> None:
    """Let agents in this way, in this router worker; peers go on as they do.

    Args:
        authenticate: says whose session it is.
        new_nonce: 32 bytes of chance, in hexadecimal digits.
    """
    from crossbar.router.auth import AUTHMETHOD_MAP, PendingAuthCryptosign

    for_peers = AUTHMETHOD_MAP["cryptosign"]

    class AgentAuth(PendingAuthCryptosign):  # type: ignore[misc]
        _key: object = None
        # What is to be signed; ``None`` before it was asked for, and after it was answered.
        _text: bytes | None = None

        def hello(self, realm: str, details: Any) -> Any:
            extra = details.authextra if isinstance(details.authextra, dict) else {}
            self._realm, self._authid, self._key = realm, details.authid, extra.get("pubkey")
            if not is_public_key(self._key):
                return self._decide(KeyProof(None))
            # Another binding is none: who signs by it what nobody asked for is refused with a sentence, and on record.
            nonce, asked = new_nonce(), extra.get("channel_binding") == BINDING
            self._text = what_to_sign(bytes.fromhex(nonce), asked=asked, channel=self._channel_id)
            binding = BINDING if asked and self._channel_id is not None else None
            return Challenge(self.AUTHMETHOD, {"challenge": nonce, "channel_binding": binding})

        def authenticate(self, signature: str) -> Any:
            text, self._text = self._text, None
            return self._decide(proof_of(self._key, text, signature))

        def _decide(self, proof: KeyProof) -> Any:
            shown = {"transport": self._session_details["transport"], "session": self._session_details["session"]}
            decided = _coroutine(authenticate(self._realm, self._authid, {**shown, "proof": proof}))
            answer: Deferred[Any] = Deferred.fromCoroutine(decided)
            return answer.addCallbacks(self._let_in, self._refuse)

        def _let_in(self, principal: Any) -> Any:
            self._authprovider = "dynamic"
            denied = self._assign_principal(principal)
            return denied if denied is not None else self._accept()

        def _refuse(self, failure: Any) -> Any:
            error = failure.value
            if not isinstance(error, ApplicationError):
                # Ours, and it is in the log; nobody is let in by it.
                return Deny(message="the node could not look at the key; its log says why")
            return Deny(error.error, str(error.args[0]) if error.args else None)

    def pending(session: Any, transport: Any, container: Any, config: Any) -> Any:
        kind = AgentAuth if config.get("type") == "dynamic" else for_peers
        return kind(session, transport, container, config)

    AUTHMETHOD_MAP["cryptosign"] = pending


async def _coroutine(answer: Awaitable[Any]) -> Any:
    return await answer
