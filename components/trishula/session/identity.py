"""How a client proves who it is when it joins: by its token, or by its key if it has no token.

A client that has a key alone never sends anything secret, whatever a node asks for. As with the file of a token, the
file of a key is read again at each join: a key that is replaced while an agent runs is taken at the next one, and a
file that can't be used then ends nobody: the agent goes on with the key that it has, and says so.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula.contract.key_challenge import BINDING, what_to_sign
from trishula.settings import Settings
from trishula.token_file import CurrentToken

if TYPE_CHECKING:
    from trishula.key_file import AgentKey

__all__ = ["Proof", "answer_to"]

_log = logging.getLogger("trishula")

_BY_KEY, _BY_TOKEN = "cryptosign", "ticket"


class Proof:
    """What one agent has to show.

    Attributes:
        methods: WAMP's name of the way that it takes.
    """

    def __init__(self, settings: Settings) -> None:
        self._agent = settings.agent
        self._token: CurrentToken | None = None
        self._key: AgentKey | None = None
        self._key_file: Path | None = None
        if settings.token:
            self._token = CurrentToken(settings.agent, settings.token, settings.token_file)
        else:
            self._key, self._key_file = settings.key, settings.keys.key_file
        self.methods = [_BY_KEY if self._token is None else _BY_TOKEN]

    def key(self) -> AgentKey | None:
        """The key to join with now; ``None``: it joins with its token."""
        if self._key is None or self._key_file is None:
            return self._key
        # Late: who joins with a token needs no cryptography.
        from trishula.key_file import read_key_file

        try:
            found = read_key_file(self._key_file)
        except ValueError as error:
            _log.warning("%s; %s joins with the key that it had", error, self._agent)
            return self._key
        if found.public != self._key.public:
            _log.info("%s joins with the new key of %s", self._agent, self._key_file)
            self._key = found
        return self._key

    @staticmethod
    def hello(key: AgentKey, channel: bytes | None) -> dict[str, Any]:
        """What a HELLO has as ``authextra``.

        Args:
            key: to join with.
            channel: the id of our TLS channel; ``None`` without TLS.
        """
        return {"pubkey": key.public, "channel_binding": None if channel is None else BINDING}

    def answer(self, method: str, extra: object, key: AgentKey | None, channel: bytes | None) -> str:
        """What to answer to a CHALLENGE.

        Args:
            method: what the node asks for.
            extra: of the CHALLENGE.
            key: of the HELLO.
            channel: as for :meth:`hello`.

        Raises:
            ValueError: it asks for what was not offered, or for nothing that can be signed.
        """
        if method == _BY_KEY and key is not None:
            return answer_to(extra, key, channel)
        if method == _BY_TOKEN and self._token is not None:
            return self._token.now()
        raise ValueError(f"the node asks for {method!r}, which was not offered")


def answer_to(extra: object, key: AgentKey, channel: bytes | None) -> str:
    """The AUTHENTICATE for a CHALLENGE of cryptosign: the signature, and what was signed.

    Raises:
        ValueError: it is no challenge.
    """
    told = extra if isinstance(extra, dict) else {}
    challenge = told.get("challenge")
    if not isinstance(challenge, str):
        raise ValueError("the node's challenge is none")
    seen = channel if told.get("channel_binding") == BINDING else None
    text = what_to_sign(bytes.fromhex(challenge), asked=channel is not None, channel=seen)
    return key.sign(text).hex() + text.hex()
