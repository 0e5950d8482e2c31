"""``/ready``: whether a node can serve, 200 or 503, with each part of it and its reason.

The map is that of ``trishula.node.ready``. A stranger is told of each part whether it is well, and nothing else:
:mod:`.visitors` says who is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trishula_router.endpoints import running
from trishula_router.endpoints.page import Answer, Page
from trishula_router.endpoints.visitors import why_stranger

__all__ = ["ReadyPage", "for_strangers"]

_NO_NODE: dict[str, Any] = {
    "ready": False,
    "checks": [
        {
            "check": "running",
            "ok": False,
            "reason": "the node has not started yet, or is gone; its log node.log says how far it is",
        }
    ],
}

#: What strangers are told of a check; ``refused``, because the program that started a node which listens on no loopback
#: address is a stranger as well.
_FOR_ALL = ("check", "ok", "refused")


def for_strangers(told: Mapping[str, Any]) -> dict[str, Any]:
    """The map without its details."""
    return {
        "ready": told["ready"],
        "checks": [{key: one[key] for key in _FOR_ALL if key in one} for one in told["checks"]],
    }


class ReadyPage(Page):
    """The map; 503 unless the node is ready."""

    def answer(self, request: Any) -> Answer:
        """To whom it may concern: with details, or without."""
        node = running.node()
        told = _NO_NODE if node is None else node.ready()
        why = why_stranger(request, node)
        if why is not None:
            told = {**for_strangers(told), **({"note": why} if why else {})}
        return Answer(json.dumps(told).encode() + b"\n", code=200 if told["ready"] else 503)
