"""Closing a file for its recipient while it is sent; see ``trishula.contract.sealed``.

What goes out is made of the file again and again, and never lies anywhere: closed again, a stretch is the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trishula.attachments.local_files import SentFile
from trishula.attachments.opening import NONCE_BYTES, place_of
from trishula.contract.attached import LARGEST_BYTES, AttachmentInfo
from trishula.contract.sealed import CLOSED_BYTES, ENCRYPTED_TYPE, STRETCH_BYTES, SealedAttachment, closed_size
from trishula.contract.texts import one_line
from trishula.contract.units import show_bytes
from trishula.errors import AttachmentTooLarge

__all__ = ["SealedFile"]


class SealedFile:
    """A file on its way to a node, closed; it has what :class:`.local_files.SentFile` has.

    Args:
        file: the file, open.
        key: to close it with.
        around: what is around the box of the message.

    Attributes:
        sealed: what the message says of it, inside its box.
        info: of the closed file.

    Raises:
        AttachmentTooLarge: closed, no node takes it.
        ArgumentInvalid: it can't be read.
    """

    def __init__(self, file: SentFile, key: bytes, around: bytes) -> None:
        size_bytes = closed_size(file.info.size_bytes)
        if size_bytes > LARGEST_BYTES:
            raise AttachmentTooLarge(
                f"{one_line(str(file.path))} has {show_bytes(size_bytes)} when it is encrypted, and an attachment has "
                f"at most {show_bytes(LARGEST_BYTES)}; send it in parts"
            )
        self._file = file
        self._stretches = size_bytes // CLOSED_BYTES + (size_bytes % CLOSED_BYTES > 0)
        self.path = file.path
        self.sealed = SealedAttachment(AttachmentInfo("", size_bytes, None, ENCRYPTED_TYPE), file.info, key, around)
        hasher = hashlib.sha256()
        for number in range(self._stretches):
            hasher.update(self._closed(number))
        self.info = AttachmentInfo(f"sha256:{hasher.hexdigest()}", size_bytes, None, ENCRYPTED_TYPE)
        self.sealed.info = self.info

    def _closed(self, number: int) -> bytes:
        data = self._file.read(number * STRETCH_BYTES, STRETCH_BYTES)
        place = place_of(number, self._stretches)
        key = self.sealed.key
        nonce = hmac.digest(hmac.digest(key, b"nonce", "sha256"), place + data, "sha256")[:NONCE_BYTES]
        return nonce + ChaCha20Poly1305(key).encrypt(nonce, data, self.sealed.around + place)

    def read(self, offset: int, most_bytes: int) -> bytes:
        """See :meth:`.SentFile.read`."""
        first, last = offset // CLOSED_BYTES, (offset + most_bytes - 1) // CLOSED_BYTES
        closed = b"".join(self._closed(number) for number in range(first, min(last + 1, self._stretches)))
        begin = offset - first * CLOSED_BYTES
        return closed[begin : begin + most_bytes]

    def check_unchanged(self) -> None:
        """See :meth:`.SentFile.check_unchanged`."""
        self._file.check_unchanged()

    def close(self) -> None:
        """Let it go."""
        self._file.close()
