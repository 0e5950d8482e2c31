"""Proofs of keys: what a client that joins has signed, and whether it has. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trishula.contract.signing_key import is_public_key, is_signed

__all__ = ["KeyProof", "proof_of"]

#: 64 bytes, behind which the 32 that were signed may stand, as Autobahn has it.
_SIGNATURE = re.compile(r"([0-9a-f]{128})(?:[0-9a-f]{64})?\Z")


@dataclass(frozen=True, slots=True)
class KeyProof:
    """What a client says to have, and whether it has it.

    Attributes:
        public_key: 64 hexadecimal digits; ``None``: what it sent is no public key.
        is_good: whether it has signed with that key what it was to sign on this connection.
    """

    public_key: str | None
    is_good: bool = False


def proof_of(public_key: object, text: bytes | None, signature: object) -> KeyProof:
    """What becomes of a client's words.

    Args:
        public_key: of its HELLO.
        text: what it was to sign; ``None``: it was not asked, or has answered before.
        signature: of its AUTHENTICATE.
    """
    if not is_public_key(public_key):
        return KeyProof(None)
    found = _SIGNATURE.match(signature.lower()) if isinstance(signature, str) and len(signature) <= 192 else None
    if text is None or found is None:
        return KeyProof(str(public_key))
    # What the client says to have signed is not looked at: it is checked against what it was to sign.
    return KeyProof(str(public_key), is_signed(str(public_key), text, found[1]))
