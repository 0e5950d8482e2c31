"""What an agent signs with its key when it joins: WAMP-cryptosign, and what stands for the TLS channel in it.

The messages, with everything in hexadecimal digits in lower case::

    HELLO         authmethods ["cryptosign"], authid: the agent, authextra {pubkey, channel_binding}
    CHALLENGE     extra {challenge: 32 random bytes, channel_binding}
    AUTHENTICATE  the signature, 64 bytes; the 32 bytes that were signed may follow

A channel binding is ``"tls-unique"`` or null. What is signed is the challenge, XORed with the id of the TLS channel if
the client has asked for that binding: so whoever stands in the middle, with a certificate of its own, can't pass on a
challenge and its answer. Where the TLS of the client ends at a proxy, the node sees no channel and says null. The
client then signs it XORed with a constant that says so, and a node that has TLS itself lets nobody in with that: nobody
in between can talk a client out of the binding by saying null.

An agent's key signs these 32 bytes and nothing else, ever: a node could have it sign any 32 bytes that it likes.
"""

from __future__ import annotations

import hashlib

__all__ = ["CHANNEL", "NONCE_BYTES", "what_to_sign"]

#: The one kind of TLS channel id: Autobahn's, the SHA-256 of the client's Finished message.
CHANNEL = "tls-unique"
NONCE_BYTES = 32
_TO_PROXY = hashlib.sha256(b"trishula: TLS up to a proxy").digest()


def what_to_sign(challenge: bytes, *, asked: bool, channel: bytes | None) -> bytes:
    """The 32 bytes.

    Args:
        challenge: the node's.
        asked: whether the client asked for the binding.
        channel: the id of the TLS channel that both ends see, 32 bytes; ``None``: one of them sees none.

    Raises:
        ValueError: one of them is no 32 bytes.
    """
    if len(challenge) != NONCE_BYTES:
        raise ValueError(f"a challenge has {NONCE_BYTES} bytes, and not {len(challenge)}")
    if not asked:
        return challenge
    other = _TO_PROXY if channel is None else channel
    return bytes(one ^ two for one, two in zip(challenge, other, strict=True))
