"""Since when a node has shared its agents and was never apart from its peers for long: what it knows is all there is.

Removals of agents are forgotten one day (:data:`~trishula_router.agents.shared_agents.REMEMBERED_MS`). What is told
after that of an agent that isn't known here, and is older, may be from before its removal: a store or a file of agents
that was put back has it. A node takes no such thing, if it has shared for as long and agreed with all its peers within
that time: then it would know the agent if there were one. It says so, because an operator knows better, and can
register the agent anew. A node that was apart from a peer for as long takes all that it hears, as one does that has
just begun; and it has forgotten nothing meanwhile, for that takes all peers.

Policy only: no I/O, instants are ms.
"""

from __future__ import annotations

from trishula_router.agents.shared_agents import REMEMBERED_MS, AgentState

__all__ = ["SINCE", "Together"]

#: Under what a store remembers it.
SINCE = "agents-since:"
#: It is written down so often.
_WRITTEN_MS = 86_400_000


class Together:
    """See the module's docstring.

    Args:
        text: as it was remembered; "" if it was not.
        epoch: of the store; one that was put back from a backup begins anew.
        now_ms: when it is.
    """

    def __init__(self, text: str, epoch: str, now_ms: int) -> None:
        self._epoch = epoch
        self._since_ms = self._agreed_ms = now_ms
        self._written_ms = -1
        whose, *instants = text.split() or [""]
        if whose == epoch and len(instants) == 2 and all(one.isdecimal() for one in instants):
            since_ms, agreed_ms = (int(one) for one in instants)
            if since_ms <= agreed_ms <= now_ms <= agreed_ms + REMEMBERED_MS:
                self._since_ms, self._agreed_ms, self._written_ms = since_ms, agreed_ms, agreed_ms

    @property
    def text(self) -> str:
        """As it is remembered."""
        return f"{self._epoch} {self._since_ms} {self._agreed_ms}"

    def agreed(self, now_ms: int) -> bool:
        """All peers know the same now; whether that is to be written down."""
        if not 0 <= now_ms - self._agreed_ms <= REMEMBERED_MS:
            self._since_ms = now_ms
        self._agreed_ms = now_ms
        if self._written_ms >= 0 and 0 <= now_ms - self._written_ms < _WRITTEN_MS:
            return False
        self._written_ms = now_ms
        return True

    def why_not(self, name: str, state: AgentState, now_ms: int) -> str | None:
        """Why what is told of an agent that isn't known here can't be taken; ``None`` if it can."""
        limit_ms = now_ms - REMEMBERED_MS
        if (
            state.grants is None
            or state.latest_at > limit_ms
            or self._since_ms > limit_ms
            or self._agreed_ms <= limit_ms
        ):
            return None
        return (
            f"it tells of {name} as of more than {REMEMBERED_MS // 86_400_000} days ago, and nobody here knows {name} "
            f"any more: it may have been removed since; run trishula token new {name} there if it shall join, or "
            "delete it from the file of agents there"
        )
