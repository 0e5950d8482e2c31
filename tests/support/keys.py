"""Keys of agents, as other WAMP clients have them: Autobahn's own, and bare bytes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from autobahn.wamp.cryptosign import CryptosignKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nacl.signing import SigningKey

from tests.support.node import NodeProcess
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import key_entry

__all__ = ["Pair", "add_key"]


class Pair:
    """An Ed25519 pair that knows nothing of our code.

    Attributes:
        seed: the private key.
        public: the public key, in hexadecimal digits.
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self.seed = secrets.token_bytes(32) if seed is None else seed
        self._pair = SigningKey(self.seed)
        self.public = self._pair.verify_key.encode().hex()

    def sign(self, text: bytes) -> str:
        """The signature alone."""
        return bytes(self._pair.sign(text).signature).hex()

    def write(self, path: Path) -> None:
        """Write the private key as ``openssl genpkey`` does."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        path.touch(0o600)
        path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def by_autobahn(self) -> Callable[[Any], Any]:
        """What answers a challenge as Autobahn's own client does."""
        key = CryptosignKey.from_bytes(self.seed)
        return lambda challenge: key.sign_challenge(challenge)


def add_key(
    node: NodeProcess, name: str, pair: Pair, *, not_before: float | None = None, expires_at: float | None = None
) -> None:
    """Register a key of an agent at a node, as ``trishula token new --public-key`` does."""
    with update_agents(node.state_dir / "agents.json") as agents:
        record = agents.get(name, AgentEntry())
        entry = key_entry(pair.public, time.time(), not_before, expires_at)
        agents[name] = replace(record, tokens=(*record.tokens, entry))
