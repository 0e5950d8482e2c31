"""Nodes that share their agents come to say the same, whatever was edited where, and however the telling went.

Two tests:

* *the rule*: three nodes change agents and tell each other, in any order, some of it again and again. What each says is
  what a plain model says, which keeps a list of all changes that the node has heard of and reads it by the rule.
* *the nodes*: whole nodes, with files and stores, whose clocks differ. Files are edited while links are cut and while
  nodes are down, and words get lost. Healed, all files say the same; who edits one then is heeded by all; and a token
  that was revoked at one is good at none, whatever brings it back into files.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import START_MS
from tests.support.pair import Nodes
from trishula_router.agents.change_notes import Author
from trishula_router.agents.changes import Revoked
from trishula_router.agents.file import read_agents, update_agents
from trishula_router.agents.shared_agents import AgentState, SharedAgents
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry
from trishula_router.store.memory import MemoryStore

NODES = ("agni", "laptop", "rushabdev")
AGENTS = ("dc", "scout")
TOKENS = tuple(TokenEntry(f"{number:x}" * 64, float(number + 1)) for number in range(4))
ACTS = ("register", "remove", "operator", "plain", "add", "take", "end")

edits = st.tuples(st.sampled_from(ACTS), st.sampled_from(AGENTS), st.integers(0, len(TOKENS) - 1))


def edit(agents: dict[str, AgentEntry], act: str, name: str, number: int) -> None:
    """What an operator does to a file; nothing, where there is nothing to be done."""
    token = TOKENS[number]
    record = agents.get(name)
    if act == "register":
        agents.setdefault(name, AgentEntry(serve=(), tokens=(token,)))
    elif record is None:
        return
    elif act == "remove":
        del agents[name]
    elif act in ("operator", "plain"):
        agents[name] = replace(record, operator=act == "operator")
    else:
        others = tuple(one for one in record.tokens if one.sha256 != token.sha256)
        new = {"add": (token,), "take": (), "end": (replace(token, expires_at=9e9 + number),)}[act]
        is_there = len(others) < len(record.tokens)
        if act == "add" or is_there:
            agents[name] = replace(record, tokens=(*others, *new))


#: When, where, of whom, of what ("grants", "all", or a token's hash), and what it is now.
Change = tuple[int, str, str, str, object]


class Plain:
    """A node, as the rule is written: it knows changes, and reads them."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.known: set[Change] = set()

    def says(self) -> dict[str, tuple[bool, frozenset[TokenEntry]]]:
        return {name: said for name in AGENTS if (said := self._of(name)) is not None}

    def _holding(self, name: str) -> dict[str, Change]:
        of = sorted((one for one in self.known if one[2] == name), key=lambda one: one[:2])
        removed = max((one[:2] for one in of if one[3] == "all"), default=(-1, ""))
        return {one[3]: one for one in of if one[:2] > removed}

    def _of(self, name: str) -> tuple[bool, frozenset[TokenEntry]] | None:
        holding = self._holding(name)
        grants = holding.pop("grants", None)
        if grants is None:
            return None
        return bool(grants[4]), frozenset(one[4] for one in holding.values() if isinstance(one[4], TokenEntry))

    def edit(self, act: str, name: str, number: int, now: int) -> None:
        before = {
            known: AgentEntry(operator, tokens=tuple(tokens)) for known, (operator, tokens) in self.says().items()
        }
        after = dict(before)
        edit(after, act, name, number)
        old, new = before.get(name), after.get(name)
        at = max(now, 1 + max((one[0] for one in self.known if one[2] == name), default=-1))
        if new is None:
            if old is not None:
                self.known.add((at, self.node, name, "all", None))
            return
        if old is None and (hidden := [one[:2] for one in self._holding(name).values()]):
            self.known.add((*max(hidden), name, "all", None))
        if old is None or old.operator != new.operator:
            self.known.add((at, self.node, name, "grants", new.operator))
        was = set() if old is None else {one.sha256: one for one in old.tokens}.items()
        now_is = {one.sha256: one for one in new.tokens}
        for digest in {digest for digest, _ in set(was) ^ set(now_is.items())}:
            self.known.add((at, self.node, name, digest, now_is.get(digest)))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.integers(0, 2), edits, st.integers(0, 20)),
        st.tuples(st.just("tell"), st.integers(0, 2), st.integers(0, 2), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_each_node_says_what_the_rule_makes_of_what_it_heard(steps: list[tuple[str, int, object, int]]) -> None:
    nodes, plain = [SharedAgents(name) for name in NODES], [Plain(name) for name in NODES]

    def tell(speaker: int, hearer: int) -> None:
        told = msgspec.msgpack.encode(nodes[speaker].states)
        nodes[hearer].merge(msgspec.msgpack.decode(told, type=dict[str, AgentState]))
        plain[hearer].known |= plain[speaker].known

    def check(number: int) -> None:
        said = {name: (one.operator, frozenset(one.tokens)) for name, one in nodes[number].agents().items()}
        assert said == plain[number].says()

    for what, number, more, now in steps:
        if what == "tell":
            assert isinstance(more, int)
            tell(number, more)
            check(more)
            continue
        assert isinstance(more, tuple)
        before = nodes[number].agents()
        after = dict(before)
        edit(after, *more)
        nodes[number].edited(before, after, now)
        act, name, which = more
        plain[number].edit(act, name, which, now)
        check(number)
    for _ in range(2):
        for speaker in range(3):
            for hearer in range(3):
                tell(speaker, hearer)
    assert len({node.digest for node in nodes}) == 1
    check(0)


events = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.sampled_from(NODES), edits),
        st.tuples(st.just("revoke"), st.sampled_from(NODES), edits),
        st.tuples(st.sampled_from(("down", "up", "cut", "heal", "wait")), st.sampled_from(NODES), st.none()),
    ),
    max_size=20,
)


@settings(max_examples=15, deadline=None)
@given(events, st.sampled_from((2, 3)), st.randoms(use_true_random=False))
def test_files_come_to_say_the_same_and_no_revoked_token_is_good(
    events: list[tuple[str, str, tuple[str, str, int] | None]], count: int, chance: random.Random
) -> None:
    names = NODES[:count]
    with tempfile.TemporaryDirectory() as directory:
        stores = {name: MemoryStore(f"epoch-{name}", name) for name in names}
        ahead = {"laptop": 3_600_000}
        nodes = Nodes(Path(directory), dict(stores), agents=("dc",), aheads_ms=ahead, sharing=names)
        # By their digests: a secret that two agents have is good for neither.
        revoked: set[str] = set()

        def file(name: str) -> Path:
            return Path(directory) / name / "agents.json"

        for number, (what, name, more) in enumerate(events):
            if name not in names:
                continue
            if what == "down" and name in nodes.rigs:
                nodes.down(name)
            elif what == "up" and name not in nodes.rigs:
                nodes.boot(name)
            elif what == "cut":
                nodes.lets_through = lambda sender, to, kind, name=name: name not in (sender, to)  # type: ignore[misc]
            elif what == "heal":
                # Some of what nodes know of agents gets lost.
                nodes.lets_through = lambda sender, to, kind: kind != "agents" or chance.random() < 0.7
            elif what == "wait":
                nodes.advance(3.0)
            elif what == "edit" and more is not None:
                with update_agents(file(name)) as agents:
                    edit(agents, *more)
            elif what == "revoke" and more is not None:
                _, agent, which = more
                token = TOKENS[which]
                at = START_MS + number
                with update_agents(file(name), None, Author("root", at, "lost", Revoked(agent))) as agents:
                    record = agents.get(agent)
                    if record is not None and any(one.sha256 == token.sha256 for one in record.tokens):
                        kept = tuple(one for one in record.tokens if one.sha256 != token.sha256)
                        agents[agent] = replace(record, tokens=kept)
                        revoked.add(token.sha256)
            nodes.advance(0.5)
        for name in names:
            if name not in nodes.rigs:
                nodes.boot(name)
        nodes.heal()
        nodes.advance(12.0)
        said = [read_agents(file(name)) for name in names]
        assert all(one == said[0] for one in said)
        # Who brings one back by hand brings it into all files, and it is good at no node.
        with update_agents(file(names[-1])) as agents:
            agents["dc"] = replace(agents.get("dc", AgentEntry(serve=())), tokens=TOKENS, send=("scout",))
        nodes.advance(8.0)
        said = [read_agents(file(name)) for name in names]
        assert all(one == said[0] for one in said)
        assert said[0]["dc"].send == ("scout",)
        assert said[0]["dc"].tokens == TOKENS
        for name in names:
            principals = nodes.rigs[name].node.principals
            for token in TOKENS:
                why = principals.reason_to_leave("dc", token.sha256, 3.0)
                assert (why is not None) == (token.sha256 in revoked), (name, token, why)
