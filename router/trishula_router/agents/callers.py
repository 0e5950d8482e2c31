"""Who calls a procedure of the node, and what such a procedure is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from trishula_router.agents.patience import Patience
from trishula_router.realm import OPERATOR_ROLE

__all__ = ["Caller", "Verb"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the router vouches for, and whether it still waits for the answer."""

    session: int
    agent: str
    role: str
    patience: Patience = field(default_factory=Patience, compare=False, repr=False)

    @property
    def is_operator(self) -> bool:
        """Whether it joined as an operator."""
        return self.role == OPERATOR_ROLE


#: A procedure of the node: (caller, positional arguments) → result.
Verb = Callable[[Caller, tuple[Any, ...]], Coroutine[Deferred[Any], Any, Any]]
