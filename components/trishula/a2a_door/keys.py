"""The door's key: signs Agent Cards (JWS over RFC 8785) and notifications (JWT), and is published as a JWK.

It is ES256 (P-256), which every library of JOSE knows, in ``door.key`` beside the door's file, mode 0600. Its id is its
thumbprint (RFC 7638).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jwt
from a2a.types.a2a_pb2 import AgentCard
from a2a.utils.signing import create_agent_card_signer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import ParseDict

from trishula.errors import StateUnusable

__all__ = ["DoorKey"]

_ALGORITHM = "ES256"


class DoorKey:
    """See the module's docstring.

    Args:
        key: the private key.
        jwks_url: where its public half is published.
        issuer: the door's URL.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, jwks_url: str, issuer: str) -> None:
        self._pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        numbers = key.public_key().public_numbers()
        public = {"crv": "P-256", "kty": "EC", "x": _number(numbers.x), "y": _number(numbers.y)}
        thumbprint = hashlib.sha256(json.dumps(public, separators=(",", ":"), sort_keys=True).encode()).digest()
        self._id = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        self._issuer = issuer
        self._signer = create_agent_card_signer(
            self._pem, {"kid": self._id, "alg": _ALGORITHM, "jku": jwks_url, "typ": "JOSE"}
        )
        #: What is published.
        self.jwks: dict[str, Any] = {"keys": [{**public, "kid": self._id, "alg": _ALGORITHM, "use": "sig"}]}

    @classmethod
    def load(cls, directory: Path, url: str) -> DoorKey:
        """Read the key of a door, or make one.

        Raises:
            StateUnusable: it is no such key, or can't be read or written.
        """
        path = directory / "door.key"
        try:
            if not path.exists():
                _write(path, ec.generate_private_key(ec.SECP256R1()))
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise StateUnusable(f"the door's key {path} can't be used ({error.strerror})") from None
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise StateUnusable(
                f"{path} is no private key on P-256 in PEM without a password; move it away for a new one"
            )
        return cls(key, f"{url}/.well-known/jwks.json", url)

    def signed(self, card: dict[str, Any]) -> AgentCard:
        """A card, signed."""
        return self._signer(ParseDict(card, AgentCard()))

    def proof(self, body: bytes, to: str, task: str, name: str, now_s: int) -> str:
        """A JWT for a notification: who sent which bytes where.

        Args:
            body: what is sent.
            to: the webhook's URL.
            task: the task that it is about.
            name: of this notification; the same at each attempt, so that whoever gets it twice can tell.
            now_s: now.
        """
        claims = {
            "iss": self._issuer,
            "aud": to,
            "iat": now_s,
            "exp": now_s + 300,
            "jti": name,
            "taskId": task,
            "request_body_sha256": hashlib.sha256(body).hexdigest(),
        }
        return str(jwt.encode(claims, self._pem, algorithm=_ALGORITHM, headers={"kid": self._id}))


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()


def _write(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # Whole or not at all: half a key would be the end of the door.
    half = path.with_suffix(".half")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
