"""What is wrong at a node, as conditions: each a kind, whom it is about, and a sentence that says what to do.

Policy: facts go in, conditions come out. The kinds:

================ ====================================================================================================
``not_ready``    a check of ``/ready`` fails; about the check
``link``         a linked node can't be reached; about the node
``clock``        the machine's clock, or a peer's, is off
``agent_away``   an agent that was there once is away for long
``backlog``      a mailbox is deep, or its oldest message old
``dead_letters`` there are dead letters
``loop``         agents answer each other without an end; about the first message of it
``unread``       an agent has messages, and its model has not read them in time; about the agent
``cells``        Redis doesn't do what the node's cell asks, mail for other cells waits for long, or its reader is dead
``cell_silent``  another cell is not heard of, though Redis works; about the cell
``certificate``  the node's certificate ends soon
================ ====================================================================================================

Linked nodes know the same agents, mailboxes and dead letters: of :data:`SHARED` the node tells that comes first by name
among itself and the peers that it reaches, and when that one is gone the next one does. Of everything else each node
tells by itself: of a cut link both ends do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula_router.settings.alerts import AlertOptions

__all__ = ["OTHERS", "SHARED", "Condition", "Facts", "find_conditions", "tells_shared", "untold_kinds"]

SHARED = frozenset({"agent_away", "backlog", "cell_silent", "dead_letters"})
#: Who looks for these reads the store.
_IN_STORE = frozenset({"backlog", "dead_letters"})
#: Checks of ``/ready`` about whose parts there are conditions of their own.
_TOLD_APART = ("peers", "clock")
#: So many of one kind are told one by one; a node that lost its network would tell of each agent.
_MOST_OF_A_KIND = 20
#: Whom the condition is about that stands for the rest of its kind; no agent and no mailbox can have that name.
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong.

    Attributes:
        kind: see the module's docstring.
        about: which check, node, agent or mailbox; empty for the node itself.
        sentence: what is wrong and what to do.
    """

    kind: str
    about: str
    sentence: str

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same condition as before, though its figures changed."""
        return self.kind, self.about


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node at one instant.

    Attributes:
        ready: the map of ``trishula.node.ready``.
        store_fault: why the store is out of use or full; ``None`` while it is not.
        peers: as ``node.status`` tells them.
        clock_gap_ms: by how much the machine's clock is ahead of the node's.
        agents: the directory's entries.
        visitors: operators and observers, who come to look, and go.
        mailboxes: as ``trishula.node.mailboxes`` tells them.
        dead_letters: how many there are.
        is_store_read: whether the store told of both; where it fails, or hangs, they are empty.
        loops: as ``trishula.node.loops`` tells them.
        unread: how many messages each agent's model has not had in time.
        cells: as ``node.status`` tells of the node's cell; ``None`` if it has none.
        cells_late_s: so long may mail for other cells wait, and so old may the canary be that came back last.
        certificate_ends_at: when the node's certificate ends, in ms; ``None`` without one.
    """

    ready: Mapping[str, Any]
    store_fault: str | None = None
    peers: Sequence[Mapping[str, Any]] = ()
    clock_gap_ms: int = 0
    agents: Sequence[Mapping[str, Any]] = ()
    visitors: frozenset[str] = field(default_factory=frozenset)
    mailboxes: Sequence[Mapping[str, Any]] = ()
    dead_letters: int = 0
    loops: Sequence[Mapping[str, Any]] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    cells: Mapping[str, Any] | None = None
    cells_late_s: float = 60.0
    certificate_ends_at: int | None = None
    is_store_read: bool = True


def tells_shared(node: str, peers: Iterable[Mapping[str, Any]]) -> bool:
    """Whether this node is the one that tells of what all linked nodes know."""
    return all(node < str(peer["node"]) for peer in peers if peer["state"] == "up")


def untold_kinds(facts: Facts, node: str) -> frozenset[str]:
    """The kinds of which this node says nothing now: another one does, or they can't be looked for."""
    if not tells_shared(node, facts.peers):
        return SHARED
    return frozenset() if facts.is_store_read else _IN_STORE


def find_conditions(facts: Facts, options: AlertOptions, node: str, now: int) -> list[Condition]:
    """All that is wrong at ``now`` (ms), in the order of the kinds."""
    found = [
        Condition("not_ready", str(check["check"]), str(check.get("reason") or f"the check {check['check']} fails"))
        for check in facts.ready.get("checks", ())
        if not check["ok"] and check["check"] not in _TOLD_APART
    ]
    if facts.store_fault is not None and all(one.about not in ("store", "disk") for one in found):
        found.append(Condition("not_ready", "store", facts.store_fault))
    found += [*_links(facts), *_clocks(facts, options.clock_s * 1000)]
    if tells_shared(node, facts.peers):
        found += [*_agents(facts, options, now), *_mailboxes(facts, options, now)]
        if options.dead_letters and facts.dead_letters >= options.dead_letters:
            how_many = "is 1 dead letter" if facts.dead_letters == 1 else f"are {facts.dead_letters} dead letters"
            what = f"there {how_many}; see trishula dead list, then replay or purge them"
            found.append(Condition("dead_letters", "", what))
        found += _silent_cells(facts)
    found += [*_loops(facts), *_unread(facts), *_own_cell(facts)]
    if facts.certificate_ends_at is not None and facts.certificate_ends_at - now <= options.certificate_s * 1000:
        days = (facts.certificate_ends_at - now) / 86_400_000
        when = f"ends in {days:.1f} days" if days > 0 else f"ended {-days:.1f} days ago"
        found.append(Condition("certificate", "", f"the node's certificate {when}; renew it (certbot renew, say)"))
    return found


def _links(facts: Facts) -> list[Condition]:
    return [
        Condition(
            "link",
            str(peer["node"]),
            f"the node {peer['node']} can't be reached; trishula node status says why, on both sides",
        )
        for peer in facts.peers
        if peer["state"] != "up"
    ]


def _clocks(facts: Facts, most_ms: float) -> list[Condition]:
    found = []
    if abs(facts.clock_gap_ms) > most_ms:
        what = f"the machine's clock differs from the node's by {facts.clock_gap_ms / 1000:+.1f} s; look at its NTP"
        found.append(Condition("clock", "", what))
    for peer in facts.peers:
        ahead_ms = peer.get("clock_ahead_ms")
        if peer["state"] == "up" and isinstance(ahead_ms, int | float) and abs(ahead_ms) > most_ms:
            what = f"the clock of {peer['node']} differs from this node's by {ahead_ms / 1000:+.1f} s; look at the NTP"
            found.append(Condition("clock", str(peer["node"]), f"{what} of both"))
    return found


def _agents(facts: Facts, options: AlertOptions, now: int) -> list[Condition]:
    found = []
    for entry in facts.agents:
        name, seen_at = str(entry["agent"]), entry.get("last_seen_at")
        is_watched = name in options.agents if options.agents else name not in facts.visitors
        if not is_watched or entry.get("presence") not in ("offline", "stale") or not isinstance(seen_at, int):
            continue
        away_s = (now - seen_at) / 1000
        if away_s > options.agent_away_s:
            what = f"the agent {name} is away since {_span(away_s)}; look whether its process runs and reaches a node"
            found.append(Condition("agent_away", name, what))
    return _at_most(found)


def _mailboxes(facts: Facts, options: AlertOptions, now: int) -> list[Condition]:
    found = []
    for box in facts.mailboxes:
        open_messages, oldest_at = box["pending"] + box["in_flight"], box.get("oldest_at")
        age_s = (now - oldest_at) / 1000 if isinstance(oldest_at, int) else 0.0
        if open_messages > options.backlog_messages or age_s > options.backlog_age_s:
            what = f"{open_messages:,} messages are open for {box['address']}, the oldest since {_span(age_s)}"
            found.append(Condition("backlog", str(box["address"]), f"{what}; see trishula mailboxes"))
    return _at_most(found)


def _loops(facts: Facts) -> list[Condition]:
    # Below one question several pairs may go on for ever; one release has all of them go on.
    found: dict[str, Condition] = {}
    for one in facts.loops:
        who = " and ".join(map(str, one["agents"]))
        what = f"{who} answered each other {one['hops']} times, and their conversation is stopped"
        sentence = f"{what}; trishula loop release {one['id']} has it go on"
        found.setdefault(str(one["id"]), Condition("loop", str(one["id"]), sentence))
    return _at_most(list(found.values()))


def _unread(facts: Facts) -> list[Condition]:
    found = []
    for agent, count in facts.unread.items():
        what = f"the agent {agent} has {count:,} message{'' if count == 1 else 's'} that its model has not read in time"
        found.append(Condition("unread", agent, f"{what}; wake it, or look at its inbox tool or hook"))
    return _at_most(found)


def _own_cell(facts: Facts) -> list[Condition]:
    one = facts.cells
    if one is None:
        return []
    waiting_s, canary_s = one["waiting_s"], one["canary_s"] or 0.0
    wrong = []
    if one["fault"]:
        wrong.append(f"Redis at {one['where']} doesn't do what the cell {one['cell']} asks: {one['fault']}")
    if waiting_s > facts.cells_late_s:
        wrong.append(
            f"{one['waiting_messages']:,} messages are not known to have reached their cells, the first of them for "
            f"{_span(waiting_s)}"
        )
    if canary_s > facts.cells_late_s and not one["fault"]:
        wrong.append(f"what the cell {one['cell']} puts on its own stream is not read since {_span(canary_s)}")
    if not wrong:
        return []
    return [Condition("cells", "", f"{'; '.join(wrong)}; nothing is lost: see trishula doctor")]


def _silent_cells(facts: Facts) -> list[Condition]:
    others = (facts.cells or {}).get("others")
    if not others or others["fault"]:
        # That Redis is away is told by itself, and says nothing of the other cells.
        return []
    silent = [one for one in others["cells"] if one["heard_s"] > facts.cells_late_s]
    return _at_most(
        [
            Condition(
                "cell_silent",
                str(one["cell"]),
                f"the cell {one['cell']} was not heard of for {_span(one['heard_s'])}; look whether its node runs and "
                "reaches Redis, for mail to its agents waits",
            )
            for one in silent
        ]
    )


def _at_most(found: list[Condition]) -> list[Condition]:
    if len(found) <= _MOST_OF_A_KIND:
        return found
    # By name: by depth others would be among the first in each round.
    found = sorted(found, key=lambda one: one.about)
    more = len(found) - _MOST_OF_A_KIND
    rest = Condition(found[0].kind, OTHERS, f"and {more} more of the same; trishula alert list has the first")
    return [*found[:_MOST_OF_A_KIND], rest]


def _span(seconds: float) -> str:
    """A span for people: 90 s, 12 min, 3.5 h, 2.1 days."""
    for limit_s, unit_s, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"
