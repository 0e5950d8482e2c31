"""Agents that linked nodes share: what each node's file says, with versions, and how two nodes' knowledge is merged.

A node turns each change of its file of agents, by a command or by hand, into *versions* (:meth:`SharedAgents.edited`),
tells them to its peers, and merges what they tell (:meth:`SharedAgents.merge`). The grants of an agent have a version,
each of its tokens has one, and the removal of an agent has one. The rule:

- Of two versions of the same thing the later one holds: by the clock of the node where it was changed, then by that
  node's name. A change is always later than what its node knew of the thing, whichever clock is ahead.
- Tokens are told apart by their hashes, so tokens that two nodes make at once are both there. A token that was taken
  away is such a version too: nobody who knows it only from before brings it back. (What was revoked stays away for
  ever: that is held beside this, by :mod:`.revocations`.)
- The removal of an agent ends all that was said of the agent before. A token that another node gave it meanwhile goes
  with it, also if somebody registers the agent again.
- A key is one agent's: of two that got it the later holds it, and the other one has lost it.
- What a file said before its node shared anything is older than any change.
- A removal is forgotten after :data:`REMEMBERED_MS`, once all peers are in reach and know the same, so that none of
  them has the agent from before. What is told later of an agent that nobody knows any more, by a store or a file that
  was put back, is not taken (:mod:`.shared_since`).

The merge is the same in whatever order and however often things are told, so nodes that heard the same know the same.
Policy only: no I/O, instants are ms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property

import msgspec

from trishula.contract.addresses import is_agent_name
from trishula_router.agents.text import AgentEntry, parse_agents, render_agents
from trishula_router.settings.faults import ConfigError

__all__ = ["REMEMBERED_MS", "AgentState", "SharedAgents", "fault_of", "same"]

#: For so long a removal is remembered: longer than a peer is away and comes back with its store.
REMEMBERED_MS = 400 * 86_400_000

#: When, at which node, and what: JSON of the grants or of the token as the file has them; empty: it was taken away.
Said = tuple[int, str, str]
#: No clock is so far ahead: ten years.
_AHEAD_MS = 10 * 366 * 86_400_000
#: 2026: there was nothing of this before, so a clock that says less is wrong (many machines begin at 1970).
_FIRST_MS = 1_767_225_600_000
#: Of one agent so many taken away tokens are remembered, the latest.
_TAKEN_AWAY = 200


class AgentState(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """All that is known of one agent.

    Attributes:
        grants: its role and grants; ``None``: there is no such agent.
        tokens: what is known of each token, by its hash.
        removed: when, and at which node, the agent was removed last; nothing that is not later holds.
        forgotten: of tokens that were taken away until then not all are remembered. So one that is not later, and not
            among those that are known here, is one of them.
    """

    grants: Said | None = None
    tokens: dict[str, Said] = {}
    removed: tuple[int, str] = (-1, "")
    forgotten: tuple[int, str] = (-1, "")

    def merged(self, other: AgentState) -> AgentState:
        """What is known if both are."""
        removed = max(self.removed, other.removed)
        grants = max((one for one in (self.grants, other.grants) if one is not None), default=None)
        tokens: dict[str, Said] = {}
        for one, another in ((self, other), (other, self)):
            for digest, said in one.tokens.items():
                if digest in another.tokens or said[:2] > another.forgotten:
                    tokens[digest] = max(said, tokens.get(digest, said))
        return _kept(grants, tokens, removed, max(self.forgotten, other.forgotten))

    def until(self, most_ms: int) -> AgentState:
        """The same, in the same order, with no instant beyond that one."""
        said = (*self.tokens.values(), *(() if self.grants is None else (self.grants,)))
        marks = (self.removed[0], self.forgotten[0])
        late = sorted({at for at in (*marks, *(one[0] for one in said)) if at > most_ms})
        if not late:
            return self
        put = {at: most_ms - len(late) + 1 + index for index, at in enumerate(late)}
        grants = None if self.grants is None else (put.get(self.grants[0], self.grants[0]), *self.grants[1:])
        tokens = {digest: (put.get(at, at), node, text) for digest, (at, node, text) in self.tokens.items()}
        removed, forgotten = ((put.get(at, at), node) for at, node in (self.removed, self.forgotten))
        return AgentState(grants, tokens, removed, forgotten)

    @cached_property
    def latest_at(self) -> int:
        """The instant of its latest version."""
        grants = -1 if self.grants is None else self.grants[0]
        return max(self.removed[0], self.forgotten[0], grants, *(one[0] for one in self.tokens.values()))

    def is_over(self, now_ms: int) -> bool:
        """Whether it is the removal of an agent, and so old that it is forgotten."""
        return self.grants is None and self.latest_at <= now_ms - REMEMBERED_MS

    @cached_property
    def size_bytes(self) -> int:
        """About as long it is where it is told or kept."""
        said = (*self.tokens.values(), *(() if self.grants is None else (self.grants,)))
        return 100 * (1 + len(said)) + sum(len(text) for _, _, text in said)

    @cached_property
    def entry(self) -> AgentEntry | None:
        """As the file has it; ``None`` if there is no such agent.

        Raises:
            ConfigError: it is none that a file may have.
        """
        if self.grants is None:
            return None
        tokens = [json.loads(text) for _, _, text in self.tokens.values() if text]
        raw = {**json.loads(self.grants[2]), "tokens": tokens}
        found = parse_agents({"agents": {"agent": raw}})["agent"]
        return replace(found, tokens=tuple(sorted(found.tokens, key=lambda one: (one.created_at, one.sha256))))


def _kept(
    grants: Said | None, tokens: Mapping[str, Said], removed: tuple[int, str], forgotten: tuple[int, str]
) -> AgentState:
    """A state without what a removal ended, and without the oldest of very many tokens that were taken away."""
    alive = {digest: said for digest, said in tokens.items() if said[:2] > removed}
    taken = sorted((said, digest) for digest, said in alive.items() if not said[2])
    for said, digest in taken[:-_TAKEN_AWAY]:
        del alive[digest]
        forgotten = max(forgotten, said[:2])
    return AgentState(grants if grants is not None and grants[:2] > removed else None, alive, removed, forgotten)


def _most_ms(now_ms: int) -> int:
    """The last instant that can be, as far as a node's clock tells."""
    return max(now_ms, _FIRST_MS) + _AHEAD_MS


def fault_of(name: str, state: AgentState, now_ms: int) -> str | None:
    """Why what was told of an agent can't be taken; ``None`` if it can."""
    most_ms = _most_ms(now_ms)
    said = [*state.tokens.values(), *(() if state.grants is None else (state.grants,))]
    if not is_agent_name(name):
        return "it names an agent as none is called"
    if any(not 0 <= at <= most_ms or not is_agent_name(node) for at, node, _ in said):
        return f"it tells of {name} as of an instant or a node that can't be"
    for at, node in (state.removed, state.forgotten):
        if not -1 <= at <= most_ms or not (is_agent_name(node) or (at, node) == (-1, "")):
            return f"it removed {name} at an instant or a node that can't be"
    if state.grants is None:
        state = AgentState((0, "", "{}"), state.tokens)
    try:
        entry = state.entry
    except (ValueError, TypeError, AttributeError, RecursionError, ConfigError):
        return f"what it tells of {name} is nothing that this release's file of agents may say"
    told = {digest for digest, (_, _, text) in state.tokens.items() if text}
    if entry is None or {one.sha256 for one in entry.tokens} != told or not all(map(_is_digest, state.tokens)):
        return f"it tells of tokens of {name} under other hashes than theirs"
    return None


def _is_key(text: str) -> bool:
    return bool(text) and "ed25519" in json.loads(text)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(one in "0123456789abcdef" for one in text)


class SharedAgents:
    """All agents, as one node knows them.

    Args:
        node: the node's name.
        states: what it knew before, by agent.
    """

    def __init__(self, node: str, states: Mapping[str, AgentState] | None = None) -> None:
        self._node = node
        self.states: dict[str, AgentState] = dict(states or {})
        self._digest: str | None = None
        # Removals that are so old that they are to be forgotten.
        self._over: frozenset[str] = frozenset()
        #: Of all states.
        self.size_bytes = sum(state.size_bytes for state in self.states.values())

    @property
    def digest(self) -> str:
        """The same at two nodes that know the same, but for what they are about to forget."""
        if self._digest is None:
            known = [
                (name, state.grants, sorted(state.tokens.items()), state.removed, state.forgotten)
                for name, state in sorted(self.states.items())
                if name not in self._over
            ]
            self._digest = hashlib.sha256(msgspec.msgpack.encode(known)).hexdigest()[:32]
        return self._digest

    def begin(self, agents: Mapping[str, AgentEntry]) -> set[str]:
        """Take over a file of before anything was shared; the agents of it."""
        for name, record in agents.items():
            grants, tokens = _texts(record)
            said = {digest: (0, self._node, text) for digest, text in tokens.items()}
            self._put(name, AgentState((0, self._node, grants), said))
        return {*agents, *self._part_keys(self.states)}

    def edited(self, before: Mapping[str, AgentEntry], after: Mapping[str, AgentEntry], now_ms: int) -> set[str]:
        """The node's file was changed; the agents of whom something new is known.

        What the file says now, and is known already, is no change: it came from there.

        Args:
            before: the file as it was seen last.
            after: the file as it is.
            now_ms: when it is.
        """
        names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        changed = {name for name in names if self._edit(name, before.get(name), after.get(name), now_ms)}
        return changed | self._part_keys(changed)

    def _edit(self, name: str, before: AgentEntry | None, after: AgentEntry | None, now_ms: int) -> bool:
        known = self.states.get(name, AgentState())
        at = max(now_ms, known.latest_at + 1)
        if after is None:
            return known.grants is not None and self._put(name, AgentState(removed=(at, self._node)))
        old_grants, old_tokens = (None, {}) if before is None else _texts(before)
        new_grants, new_tokens = _texts(after)
        # Also later than what a peer told of another agent with that key, and is not in the file yet.
        fresh = [one.sha256 for one in after.tokens if one.ed25519 is not None and one.sha256 not in old_tokens]
        for claims in self._claims(fresh).values() if fresh else ():
            at = max(at, claims[-1][0][0] + 1)
        grants, tokens, removed = known.grants, dict(known.tokens), known.removed
        if before is None and grants is None:
            # Registered anew, an agent begins without what others gave to the one that was removed.
            removed = max((removed, *(said[:2] for said in tokens.values())))
            tokens.clear()
        if new_grants != old_grants and (grants is None or grants[2] != new_grants):
            grants = at, self._node, new_grants
        for digest in {*old_tokens, *new_tokens}:
            text = new_tokens.get(digest, "")
            is_known = digest in tokens and tokens[digest][2] == text
            if text != old_tokens.get(digest, "") and not is_known:
                tokens[digest] = at, self._node, text
        return self._put(name, _kept(grants, tokens, removed, known.forgotten))

    def come_back(self, now_ms: int) -> set[str]:
        """Take back instants that can't be, of when this node's clock was years ahead; the agents that had such.

        No peer takes those, and nothing that a peer says would ever be later.
        """
        most_ms = _most_ms(now_ms)
        late = {name for name, state in self.states.items() if state.latest_at > most_ms}
        # With a day for peers whose clocks are behind.
        return {name for name in late if self._put(name, self.states[name].until(most_ms - 86_400_000))}

    def merge(self, told: Mapping[str, AgentState], now_ms: int = 0) -> set[str]:
        """Take over what another node knows; the agents of whom that is new."""
        # A peer may forget a removal later than this node.
        news = {name: state for name, state in told.items() if name in self.states or not state.is_over(now_ms)}
        changed = {
            name for name, state in news.items() if self._put(name, self.states.get(name, AgentState()).merged(state))
        }
        return changed | self._part_keys(changed)

    def grow_old(self, now_ms: int) -> None:
        """See which removals are so old that they are to be forgotten: these count no more in :attr:`digest`."""
        over = frozenset(name for name, state in self.states.items() if state.is_over(now_ms))
        if over != self._over:
            self._over = over
            self._digest = None

    def forget(self) -> frozenset[str]:
        """Forget these, for all peers know the same; the agents that are known no more."""
        gone, self._over = self._over, frozenset()
        for name in gone:
            self.size_bytes -= self.states.pop(name).size_bytes
        return gone

    def _claims(self, digests: Collection[str]) -> dict[str, list[tuple[Said, str]]]:
        """Which agents have tokens or keys with these digests, the one that got it last at the end."""
        found: dict[str, list[tuple[Said, str]]] = {}
        for name, state in self.states.items():
            for digest, said in state.tokens.items() if state.grants is not None else ():
                if said[2] and digest in digests:
                    found.setdefault(digest, []).append((said, name))
        return {digest: sorted(claims) for digest, claims in found.items()}

    def _part_keys(self, names: Collection[str]) -> set[str]:
        """Have each key of these agents be one's; who lost one thereby.

        It is taken from the others as if that had been part of the later change. Else they would have it again when
        somebody takes it from the one that got it.
        """
        tokens = [token for name in names for token in self.states[name].tokens.items()]
        lost = set()
        for digest, claims in self._claims({digest for digest, said in tokens if _is_key(said[2])}).items():
            at, node, _ = claims[-1][0]
            for _, name in claims[:-1]:
                state = self.states[name]
                gone = {**state.tokens, digest: (at, node, "")}
                self._put(name, _kept(state.grants, gone, state.removed, state.forgotten))
                lost.add(name)
        return lost

    def _put(self, name: str, state: AgentState) -> bool:
        before = self.states.get(name, AgentState())
        if state == before:
            return False
        self.size_bytes += state.size_bytes - (before.size_bytes if name in self.states else 0)
        self.states[name] = state
        self._over -= {name}
        self._digest = None
        return True

    def agents(self) -> dict[str, AgentEntry]:
        """What the file is to say."""
        return {name: entry for name, state in self.states.items() if (entry := state.entry) is not None}


def same(one: AgentEntry | None, other: AgentEntry | None) -> bool:
    """Whether the file says the same of both, with their tokens in the same order."""
    if one is None or other is None:
        return one is other
    return one == other or render_agents({"agent": one}) == render_agents({"agent": other})


def _texts(record: AgentEntry) -> tuple[str, dict[str, str]]:
    """The grants of an agent, and each of its tokens by its hash, as texts that are equal where they say the same."""
    raw = json.loads(render_agents({"agent": record}))["agents"]["agent"]
    tokens = zip(record.tokens, raw.pop("tokens"), strict=True)
    return _text(raw), {one.sha256: _text(shown) for one, shown in tokens}


def _text(raw: object) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))
