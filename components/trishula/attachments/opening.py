"""Opening an encrypted file when it is here; see ``trishula.contract.sealed``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trishula.contract.sealed import CLOSED_BYTES, SealedAttachment
from trishula.errors import AttachmentDamaged

__all__ = ["NONCE_BYTES", "opened", "place_of"]

NONCE_BYTES = 12


def opened(read: Callable[[int, int], bytes], sealed: SealedAttachment) -> Iterator[bytes]:
    """The stretches of a closed file, opened.

    Args:
        read: reads it: (offset, how many bytes).
        sealed: the key.

    Raises:
        AttachmentDamaged: it doesn't open.
    """
    size_bytes = sealed.info.size_bytes
    stretches = size_bytes // CLOSED_BYTES + (size_bytes % CLOSED_BYTES > 0)
    cipher = ChaCha20Poly1305(sealed.key)
    for number in range(stretches):
        closed = read(number * CLOSED_BYTES, CLOSED_BYTES)
        try:
            yield cipher.decrypt(
                closed[:NONCE_BYTES], closed[NONCE_BYTES:], sealed.around + place_of(number, stretches)
            )
        except (InvalidTag, ValueError):
            raise AttachmentDamaged(
                f"what was fetched as {sealed.info.digest} doesn't open with the key that its message holds: it was "
                "closed for another message; have its sender send it again"
            ) from None


def place_of(number: int, stretches: int) -> bytes:
    """What a stretch is bound to: its number, and whether it is the last one."""
    return number.to_bytes(8, "big") + bytes([number == stretches - 1])
