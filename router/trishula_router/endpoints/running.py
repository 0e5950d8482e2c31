"""The node that runs in this process, for the resources that Crossbar makes.

Crossbar makes a resource by the name of its class alone, so nothing can be handed over to it; a router worker has one
node at most, which is shown until the process ends: of one that stops ``/ready`` says so. The edge is the only one that
calls :func:`show`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["node", "show"]

_shown: list[Node] = []


def show(node: Node) -> None:
    """The node serves from now on."""
    _shown[:] = [node]


def node() -> Node | None:
    """The node of this process; ``None`` before it serves."""
    return _shown[0] if _shown else None
