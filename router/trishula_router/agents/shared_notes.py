"""What a node's store remembers of shared agents: what is known of each, and what the node's file said of it last.

What can't be read was written by a node of another release, before this one took its place: that stops nobody, and
counts as never said. No I/O.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from trishula_router.agents.shared_agents import AgentState, SharedAgents, fault_of
from trishula_router.agents.text import AgentEntry, parse_agents
from trishula_router.settings.faults import ConfigError
from trishula_router.store.json_text import NotJson, parse_json

__all__ = ["KNOWN", "SEEN", "known_in", "seen_in"]

#: Under what it is remembered, with the agent's name behind it. The first without a name says of which store.
KNOWN, SEEN = "agents-known:", "agents-seen:"

_read_state = msgspec.json.Decoder(AgentState).decode


def known_in(notes: Mapping[str, str], node: str, file: Mapping[str, AgentEntry], now_ms: int) -> SharedAgents:
    """What is known of agents.

    Args:
        notes: as the store remembers them under :data:`KNOWN`, without its own.
        node: the node's name.
        file: what its file says: that holds of an agent of whom what is remembered can't be read.
        now_ms: when it is.
    """
    states = {}
    for key, text in notes.items():
        name = key.removeprefix(KNOWN)
        with contextlib.suppress(msgspec.MsgspecError):
            state = _read_state(text)
            # An instant of when the clock was years ahead is taken back later (SharedAgents.come_back).
            if fault_of(name, state, max(now_ms, state.latest_at)) is None:
                states[name] = state
    found = SharedAgents(node, states)
    unread = {key.removeprefix(KNOWN) for key in notes} - states.keys()
    found.begin({name: record for name, record in file.items() if name in unread})
    return found


def seen_in(notes: Mapping[str, str]) -> dict[str, AgentEntry]:
    """What the file said last, as the store remembers that under :data:`SEEN`."""
    found: dict[str, AgentEntry] = {}
    for text in notes.values():
        with contextlib.suppress(ConfigError, NotJson):
            found |= parse_agents(parse_json(text.encode()))
    return found
