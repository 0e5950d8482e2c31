"""One agent and what it may do, by the file of agents and the time. Policy only: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from trishula_router.agents.grants import covers_name, held
from trishula_router.agents.text import ANYBODY, AgentEntry
from trishula_router.realm import AGENT_ROLE, OPERATOR_ROLE

__all__ = ["Principal", "audience_of", "principals_of"]


@dataclass(frozen=True, slots=True)
class Principal:
    """An agent, with its grants.

    Attributes:
        name: its name, which is its authid.
        operator: whether it may ask about everybody's messages, and administer the node.
        send: to whom it may send: ``"*"``, ``"broadcast"``, agents or capabilities (``"capability:deploy"``).
        call: what it may call: ``"*"``, an agent, or ``agent.procedure``.
        serve: which capabilities it may announce: ``"*"``, or their names; ``None``: what nobody else is granted.
        foreign: the capabilities that others are granted by name, if ``serve`` is ``None``.
        observer: whether it may ask how everybody's messages stand, and see none of them.
        subscribe: whose topics it may hear: ``"*"``, an agent, or ``agent.topic``.
    """

    name: str
    operator: bool
    send: tuple[str, ...]
    call: tuple[str, ...]
    serve: tuple[str, ...] | None = None
    foreign: Set[str] = frozenset()
    observer: bool = False
    subscribe: tuple[str, ...] = (ANYBODY,)

    @property
    def role(self) -> str:
        """Its role in the realm."""
        return OPERATOR_ROLE if self.operator else AGENT_ROLE

    @property
    def only_looks(self) -> bool:
        """Whether it is an observer, and no operator, who may look at everything."""
        return self.observer and not self.operator

    def may_send(self, to: str) -> bool:
        """Whether it may send to an agent (or to ``broadcast``, or to a capability); always to itself."""
        return to == self.name or ANYBODY in self.send or to in self.send

    def may_call(self, agent: str, procedure: str) -> bool:
        """Whether it may call that procedure of that agent; always its own."""
        return agent == self.name or covers_name(self.call, agent, procedure)

    def may_subscribe(self, agent: str, topic: str) -> bool:
        """Whether it may hear that topic of that agent; always its own."""
        return agent == self.name or covers_name(self.subscribe, agent, topic)

    def may_serve(self, capability: str) -> bool:
        """Whether it may announce a capability, and be handed messages to it."""
        if self.serve is None:
            return capability not in self.foreign
        return ANYBODY in self.serve or capability in self.serve


def principals_of(records: Mapping[str, AgentEntry], now_s: float) -> dict[str, Principal]:
    """All agents of a file, with the grants that hold at that instant, by name and sorted."""

    def now(record: AgentEntry, act: str) -> tuple[str, ...]:
        return held(record.lasting(act), record.timed, act, now_s)

    granted = frozenset(grant for record in records.values() for grant in now(record, "serve"))
    return {
        name: Principal(
            name,
            record.operator,
            now(record, "send"),
            now(record, "call"),
            None if record.serve is None else now(record, "serve"),
            granted,
            record.observer,
            now(record, "subscribe"),
        )
        for name, record in sorted(records.items())
    }


def audience_of(principals: Mapping[str, Principal]) -> tuple[str, ...]:
    """Whom a broadcast is for: all but observers."""
    return tuple(name for name, principal in principals.items() if not principal.only_looks)
