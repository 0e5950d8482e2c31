"""Twisted takes as many connections in one turn of the reactor as wait, and all others wait as long.

1,000 that come at once hold up every agent for a tenth of a second. :func:`accept_few` has it take some, and then see
to everybody. It reaches into ``twisted.internet.tcp.Port`` (``numberAccepts``).
"""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["accept_few"]

#: So many connections are taken in one turn of the reactor.
_ACCEPTED_AT_ONCE = 8


def accept_few(port: Any) -> bool:
    """Have the listening sockets of this process take few connections in one turn of the reactor.

    Args:
        port: Twisted's class of them.

    Returns:
        Whether it is as expected; if not, nothing was changed.
    """
    read = getattr(port, "doRead", None)
    if not callable(read) or "numberAccepts" not in inspect.getsource(read):
        return False

    def do_read(self: Any) -> None:
        self.numberAccepts = min(self.numberAccepts, _ACCEPTED_AT_ONCE)
        read(self)

    port.doRead = do_read
    return True
