"""permessage-deflate for slow lines: what a client offers a node, and what it takes of its answer.

It is asked for only where the settings say so (``compression``), and never of a node on this machine: there it costs
both sides CPU, and the line is free. A node that has it not agrees to nothing, and all is as without it.

A node says how large a window may be (its memory is taken for each connection), and this follows. What a message of a
node may be once it is unpacked is bounded too: nothing that a node sends is as large. Nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)

__all__ = ["compressing", "is_this_machine"]

#: Four times the largest frame of the shipped configurations.
_MOST_BYTES = 64 * 1024 * 1024


def is_this_machine(host: str) -> bool:
    """Whether a host of a URL is the machine that we are on."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def compressing() -> dict[str, Any]:
    """The options of Autobahn's client protocol."""
    return {
        "perMessageCompressionOffers": [
            PerMessageDeflateOffer(accept_max_window_bits=True, accept_no_context_takeover=True)
        ],
        "perMessageCompressionAccept": _accepted,
    }


def _accepted(response: object) -> PerMessageDeflateResponseAccept | None:
    if not isinstance(response, PerMessageDeflateResponse):
        return None
    return PerMessageDeflateResponseAccept(response, max_message_size=_MOST_BYTES)
