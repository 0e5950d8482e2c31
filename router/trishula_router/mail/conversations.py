"""Conversations: chains of messages that answer each other, and the guard against those that never end.

Two agents that answer each other's every message, as language models do out of politeness, go on for ever, and cost
money all the while. Nothing in a single message tells that, so a node follows ``reply_to``: a message that answers
another one is one *hop* further than that. More than ``limits.conversation_hops`` hops within
``limits.conversation_within`` is a loop: the conversation is *quarantined*, each further message of it is refused for
good, and operators are told, one of whom may let it go on.

A loop is one of two agents: below a question to all, two who can't end must not keep a third one from its answer. And
who answers a message that it never got is in no conversation of others, or it could bring theirs to its end.

Hops are counted over ``within`` from a conversation's first hop on, then anew: a long talk is no loop, a fast one is.
A RESULT or an ERROR that answers a COMMAND ends a hop and is none, so that procedures which call each other come home
whatever happens, and no caller waits for ever. What names nothing that it answers is in no conversation: how much an
agent may send at all is for its budget to say (:mod:`.budgets`).

Linked nodes count alike, because each hears of what the others accept. What is known is in memory, and bounded: after a
restart, or behind very many other answers, a conversation begins anew.

Policy only: every verb takes ``now``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from trishula.contract.addresses import BROADCAST, agent_of
from trishula.contract.units import show_duration
from trishula.errors import LoopQuarantined
from trishula_router.store.messages import StoredMessage

__all__ = ["Conversations"]

#: Answers that are remembered; a hop is some 300 bytes.
_REMEMBERED = 20_000
#: Loops that are known at a time; of more the oldest is let go.
_MOST_LOOPS = 1000

#: (agent, id) of a message.
_Key = tuple[str, str]
#: Two agents, in the order of their names.
_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Hop:
    """Where a message stands.

    Attributes:
        root: the first message of its conversation.
        hops: how far it is from that.
        since: when these were first counted (ms).
        to: the agent that got it; ``""`` if several did, or nobody can say which.
    """

    root: _Key
    hops: int
    since: int
    to: str = ""


@dataclass(slots=True)
class _Loop:
    """A conversation that is quarantined. Instants in ms."""

    agents: tuple[str, str]
    hops: int
    since: int
    at: int
    refused: int = 0


class Conversations:
    """See the module's docstring.

    Args:
        most_hops: how many hops a conversation may have within the span; 0 for any number.
        within_ms: the span.
    """

    def __init__(self, most_hops: int, within_ms: int) -> None:
        self._most_hops = most_hops
        self._within_ms = within_ms
        # By id, then by agent: an id is its agent's own, and mostly no other agent has it.
        self._hops: OrderedDict[str, dict[str, _Hop]] = OrderedDict()
        # By the first message, and by who of those in the conversation can't end.
        self._loops: dict[tuple[_Key, _Pair], _Loop] = {}

    def check(self, sender: str, to: str, reply_to: str | None, index: int, now: int) -> None:
        """Look whether a message that is offered goes on with a loop.

        Args:
            sender: who sends it; an address, as ``to``.
            to: its recipient.
            reply_to: the id of the message that it answers, if it does.
            index: its place in the request, for the sentence.
            now: ms.

        Raises:
            LoopQuarantined: it does.
        """
        if reply_to is None or not self._most_hops:
            return
        hop, pair = self._hop(sender, to, reply_to, now), _pair(sender, to)
        loop = self._loops.get((hop.root, pair))
        if loop is None and hop.hops > self._most_hops:
            if len(self._loops) >= _MOST_LOOPS:
                del self._loops[next(iter(self._loops))]
            loop = self._loops[hop.root, pair] = _Loop(pair, self._most_hops, hop.since, now)
        if loop is None:
            return
        loop.refused += 1
        span = show_duration(max(1.0, (loop.at - loop.since) / 1000))
        raise LoopQuarantined(
            f"messages[{index}] answers {reply_to}, in a conversation of {loop.agents[0]} and {loop.agents[1]} that "
            f"had {loop.hops} answers to answers within {span} (limits.conversation_hops): this is a loop, and nothing "
            f"more of it is taken; say no more, and let a person look: trishula loop release {hop.root[1]} has it go on"
        )

    def note(self, sender: str, message_id: str, to: str, reply_to: str | None, now: int) -> None:
        """A message was accepted, here or at another node."""
        if reply_to is None or not self._most_hops:
            return
        hop, own = self._hop(sender, to, reply_to, now), self._hops.setdefault(message_id, {})
        before = own.get(agent_of(sender))
        if before is not None and before.to != hop.to:
            # One copy of several.
            hop = replace(hop, to="")
        own[agent_of(sender)] = hop
        self._hops.move_to_end(message_id)
        if len(self._hops) > _REMEMBERED:
            self._hops.popitem(last=False)

    def copied(self, messages: Iterable[StoredMessage], now: int) -> None:
        """Messages were accepted at another node."""
        for message in messages:
            # What answers a COMMAND is no hop, and which ones do, the other node knew.
            if message.type not in ("RESULT", "ERROR"):
                self.note(message.sender, message.id, message.recipient, message.reply_to, now)

    def _hop(self, sender: str, to: str, reply_to: str, now: int) -> _Hop:
        """Where the answer to a message stands."""
        known, agent = self._hops.get(reply_to, {}), _one_agent(to)
        # In a round of three an answer goes to the next one, not back.
        before = known.get(agent) or (next(iter(known.values())) if len(known) == 1 else None)
        if before is None or before.to not in ("", agent_of(sender)):
            return _Hop((agent, reply_to), 1, now, agent)
        is_over = not 0 <= now - before.since <= self._within_ms
        if is_over and (before.root, _pair(sender, to)) not in self._loops:
            return _Hop(before.root, 1, now, agent)
        return _Hop(before.root, before.hops + 1, before.since, agent)

    def told(self) -> list[dict[str, Any]]:
        """The conversations that are quarantined, the oldest first, as operators are told."""
        return [
            {
                "id": message_id,
                "from": agent,
                "agents": list(loop.agents),
                "hops": loop.hops,
                "since": loop.since,
                "quarantined_at": loop.at,
                "refused": loop.refused,
            }
            for ((agent, message_id), _), loop in self._loops.items()
        ]

    def release(self, message_id: str) -> int:
        """Let the conversations that a message of that id began go on, as if they began now; how many were loops."""
        found = [key for key in self._loops if key[0][1] == message_id]
        for key in found:
            del self._loops[key]
        roots = {root for root, _ in found}
        for known in self._hops.values() if roots else ():
            for agent, hop in known.items():
                if hop.root in roots:
                    # Long ago: the next hop is the first one.
                    known[agent] = replace(hop, hops=0, since=hop.since - self._within_ms - 1)
        return len(found)


def _one_agent(to: str) -> str:
    """The agent that an address names; ``""`` of a broadcast or a capability."""
    return "" if to == BROADCAST or ":" in to else agent_of(to)


def _pair(sender: str, to: str) -> _Pair:
    first, second = sorted((agent_of(sender), agent_of(to)))
    return first, second
