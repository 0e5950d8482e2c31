"""What an agent signs with its key when it joins: WAMP-cryptosign, and what stands for the TLS channel in it.

The messages, with everything in hexadecimal digits in lower case::

    HELLO         authmethods ["cryptosign"], authid: the agent, authextra {pubkey, channel_binding}
    CHALLENGE     extra {challenge: 32 random bytes, channel_binding}
    AUTHENTICATE  the signature, 64 bytes; the 32 bytes that were signed may follow

A channel binding is ``"trishula, 1"`` or null. Without it the challenge is signed as it is, as by any client of WAMP.
Where a client has TLS, it asks for the binding, and signs the SHA-256 of ``trishula: join, 1``, a line feed, the
challenge, and the id of its TLS channel. So whoever stands in the middle, with a certificate of its own, can't pass on
a challenge and its answer; nor is there a challenge that it could send instead, for each is hashed together with the
channel. (WAMP's own binding, ``"tls-unique"``, signs the challenge XORed with the id of the channel: who chooses the
challenge chooses what is signed. It is no binding here: a node takes it for null.)

Where the TLS of the client ends at a proxy, the node sees no channel and says null. The client then signs the same with
a constant that says so in place of the id, and a node that has TLS itself lets nobody in with that: nobody in between
can talk a client out of the binding by saying null.

A client without TLS signs any 32 bytes that a node likes, so what else a key signs is never 32 bytes long
(:mod:`trishula.key_file`).
"""

from __future__ import annotations

import hashlib

__all__ = ["BINDING", "CHANNEL", "NONCE_BYTES", "what_to_sign"]

BINDING = "trishula, 1"
#: The one kind of TLS channel id: Autobahn's, the SHA-256 of the client's Finished message.
CHANNEL = "tls-unique"
NONCE_BYTES = 32
_USE = b"trishula: join, 1\n"
_CHANNEL_BYTES = 32
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
    if len(other) != _CHANNEL_BYTES:
        raise ValueError(f"the id of a TLS channel has {_CHANNEL_BYTES} bytes, and not {len(other)}")
    return hashlib.sha256(_USE + challenge + other).digest()
