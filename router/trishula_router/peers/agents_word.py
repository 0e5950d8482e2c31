"""What linked nodes that share agents tell each other, and what of it is taken: of an agent all that is told, or none.

Policy only: no I/O, instants are ms.
"""

from __future__ import annotations

import msgspec

from trishula_router.agents.shared_agents import AgentState, SharedAgents, fault_of
from trishula_router.agents.shared_since import Together

__all__ = ["WORD_BYTES", "Word", "faults_in"]

#: As long is what one word may have; a word of ours has half of that, or one agent.
WORD_BYTES = 1024 * 1024
#: As much of one agent is taken from peers, so that it goes into a word to others.
_AGENT_BYTES = WORD_BYTES // 2
#: So many agents, and so much of all, with those that were removed.
_MOST_AGENTS = 65_536
_MOST_BYTES = 64 * 1024 * 1024


class Word(msgspec.Struct, frozen=True):
    """What a node tells a peer.

    Attributes:
        node: who speaks.
        digest: of all that it knows; empty where more words follow.
        holds: whether that is in its file of agents, and it lets in who is there.
        agents: what it knows of some agents, or of all.
    """

    node: str
    digest: str
    holds: bool
    agents: dict[str, AgentState] = {}


def faults_in(word: Word, known: SharedAgents, together: Together, now_ms: int) -> dict[str, str]:
    """Which agents of a word can't be taken, and why.

    Args:
        word: what a peer told.
        known: what this node knows.
        together: since when that is all there is.
        now_ms: when it is.
    """
    faults: dict[str, str] = {}
    names, size_bytes = len(known.states), known.size_bytes
    for name, state in word.agents.items():
        why = fault_of(name, state, now_ms)
        if why is None and name not in known.states:
            why = together.why_not(name, state, now_ms)
        if why is None:
            before = known.states.get(name, AgentState())
            more_bytes = before.merged(state).size_bytes - before.size_bytes
            if before.size_bytes + more_bytes > _AGENT_BYTES and more_bytes > 0:
                why = f"it tells more of {name} than {_AGENT_BYTES} bytes, with what is known"
            elif name not in known.states and names >= _MOST_AGENTS:
                why = f"it tells of more than {_MOST_AGENTS} agents, with those that are known, and {name} is one more"
            elif size_bytes + more_bytes > _MOST_BYTES and more_bytes > 0:
                why = f"it tells more of agents than {_MOST_BYTES} bytes, with what is known, and {name} is one more"
            else:
                names += name not in known.states
                size_bytes += more_bytes
        if why is not None:
            faults[name] = why
    return faults
