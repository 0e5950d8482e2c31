"""What a node signs about a journal, and how a signature is checked.

A *statement* says of one record of one journal which digest it has::

    its use, the node that signs, the node whose journal it is, the journal's epoch, the record's sequence, the digest

The digest is over the record and all before it, so a statement is good for any file that leads up to that record: an
archive, an export of all or of a part, a copy from which the bodies of messages are left out. It says nothing of the
file, so whoever puts a file together needs no key, and the node that signs needs no file: it signs what it has itself.
The first line is of this use alone, so that no signature made here can stand for a proof between nodes, or the reverse.

Nothing here does I/O.
"""

from __future__ import annotations

from trishula.contract.signing_key import SigningKey, is_public_key, is_signed

__all__ = ["SigningKey", "is_public_key", "is_signed", "statement"]

_USE = "trishula: digest of a journal's record, 1"


def statement(node: str, origin: str, epoch: str, sequence: int, digest: bytes) -> bytes:
    """What is signed of one record.

    Args:
        node: the node that signs.
        origin: the node whose journal it is.
        epoch: of that journal.
        sequence: of the record.
        digest: of the record.
    """
    # Names and epochs have no line breaks, so it can be read one way.
    return "\n".join((_USE, node, origin, epoch, str(sequence), digest.hex())).encode()
