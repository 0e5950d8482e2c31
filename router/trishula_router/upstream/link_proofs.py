"""What the two ends of a link sign to each other, before either says anything else.

Whoever connects sends its public key and a nonce. Whoever listens signs first, so that nothing is ever said to somebody
who can't; then the other one does, and only then there is a link. Each signs all of this::

    its part (listener or connector), both names, both public keys, both nonces, the TLS channel

so a proof is good for one connection of these two nodes, and for one end of it: an old one has another nonce, one that
is sent back has the wrong part, and one that somebody else was given has the wrong names and keys. The first line is of
this use alone, so that no signature made here can stand for one of plain WAMP-cryptosign, which signs 32 bare bytes.

The TLS channel is the id of the connection's TLS, where both ends see the same one. Where a proxy ends the TLS before
the listener, the listener signs that it sees none; where the connector has no TLS, both sign that it asked for none. So
nobody in between can talk either end out of it. Without TLS a machine in between that passes every byte on is seen by
no proof: it needs no key, and reads what it passes on. That is why a node takes ``ws:`` beyond loopback on the
operator's word alone (``trusted_network``).

Nothing here does I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trishula.contract.signing_key import is_signed

__all__ = ["CHANNEL", "CONNECTOR", "LISTENER", "Ends", "channel_between", "is_nonce"]

#: The parts.
LISTENER, CONNECTOR = "listener", "connector"
#: The one kind of TLS channel id: Autobahn's, the SHA-256 of the connector's Finished message.
CHANNEL = "tls-unique"
_NO_TLS, _TO_PROXY = "no TLS", "TLS up to a proxy"
_USE = "trishula: proof of a linked node, 1"
_NONCE = re.compile(r"[0-9a-f]{64}\Z")


def is_nonce(value: object) -> bool:
    """Whether it has the shape of a nonce: 32 bytes in hexadecimal digits."""
    return isinstance(value, str) and _NONCE.match(value) is not None


def channel_between(asked: bool, seen: bytes | None) -> str:
    """What stands for the TLS channel in what is signed.

    Args:
        asked: whether the connector has TLS.
        seen: the id of the listener's TLS channel; ``None`` if it has none.
    """
    if not asked:
        return _NO_TLS
    return _TO_PROXY if seen is None else seen.hex()


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one connection.

    Attributes:
        listener, connector: the nodes' names.
        listener_key, connector_key: their public keys.
        listener_nonce, connector_nonce: what each made up for this connection.
        channel: see :func:`channel_between`.
    """

    listener: str
    connector: str
    listener_key: str
    connector_key: str
    listener_nonce: str
    connector_nonce: str
    channel: str

    @property
    def told(self) -> str:
        """What was proved over which road, in words."""
        return f"so did this node; {self.channel if self.channel in (_NO_TLS, _TO_PROXY) else 'TLS'}"

    def text(self, part: str) -> bytes:
        """What the end with that part signs. Names, keys and nonces have no line breaks, so it can be read one way."""
        names = (self.listener, self.connector, self.listener_key, self.connector_key)
        return "\n".join((_USE, part, *names, self.listener_nonce, self.connector_nonce, self.channel)).encode()

    def is_signed(self, part: str, signature: object) -> bool:
        """Whether that is the signature of the end with that part, in hexadecimal digits."""
        key = self.listener_key if part == LISTENER else self.connector_key
        return isinstance(signature, str) and is_signed(key, self.text(part), signature)
