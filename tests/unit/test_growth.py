"""Nothing in a node's memory grows with the instances that come and go, on one node and on two.

What a node keeps for each of them for good is in its store alone: the journal. Here 10,000 scripts come, talk and go,
and every container that can be reached from the node is as large afterwards as it was before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from tests.support.nodes import POLICY, Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula_router.node import Node
from trishula_router.store.memory import MemoryStore

#: Of a memory store everything grows: the journal is in it.
_STORES = (MemoryStore,)

INSTANCES = 10_000


def containers(root: object) -> Iterator[tuple[str, int]]:
    """Every container that can be reached from an object of ours: (where, its length)."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("node", root)]
    while waiting:
        place, one = waiting.pop()
        if id(one) in seen or isinstance(one, _STORES) or place.count(".") > 12:
            continue
        seen.add(id(one))
        if isinstance(one, dict | list | set | deque):
            yield place, len(one)
            values = list(one.values()) if isinstance(one, dict) else list(one)
            waiting += [(f"{place}[]", value) for value in values]
        elif type(one).__module__.startswith("trishula"):
            names = [*getattr(one, "__dict__", ())]
            names += [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            waiting += [(f"{place}.{name}", getattr(one, name)) for name in names if hasattr(one, name)]


def sizes(*nodes: Node) -> dict[str, int]:
    """The largest container at each place."""
    found: dict[str, int] = {}
    for node in nodes:
        for place, length in containers(node):
            place = f"{node.config.node}: {place}"
            found[place] = max(found.get(place, 0), length)
    return found


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The places where something grew by more than the slack."""
    pairs = {place: (before.get(place, 0), after[place]) for place in after}
    return {place: pair for place, pair in pairs.items() if pair[1] - pair[0] > _SLACK}


#: Every so manieth instance writes and is written to; all join, consume their mailbox and leave.
_TALKATIVE = 50
#: More than what is kept of the last ones (sessions that left, samples), and far less than one for each instance.
_SLACK = 60


#: So many come and go before time passes; an agent may not have all of them at once.
_AT_A_TIME = INSTANCES // 5


def visit(rig: Rig, number: int, agni_at: Rig, agni: int, settle: Callable[[], None]) -> None:
    """A script comes and goes; some ask and are answered, some take their answers, and some only take what is there."""
    name = f"i{number}"
    script = rig.join("dc")
    if number % 2:
        rig.attach(script, instance=name)
    else:
        rig.fetch(script, instance=name)
    if number % _TALKATIVE < 2:
        question = {"type": "COMMAND", "id": f"q.{name}", "from": f"dc/{name}", "to": "agni", "procedure": "p"}
        to_any = {"type": "STATUS", "id": f"c.{name}", "to": f"capability:{name}", "ttl_ms": 1000}
        rig.begin(script, uris.MAILBOX_SEND, [question, to_any])
        settle()
        answer = {"type": "RESULT", "id": f"r.{name}", "to": f"dc/{name}", "reply_to": f"q.{name}"}
        receipt = agni_at.begin(agni, uris.MAILBOX_SEND, [answer])
        settle()
        assert result_of(receipt)[0]["status"] == "accepted"
        if number % 3 == 0 and number % 2:
            rig.ack(script, *(one["token"] for one in rig.pushed(script)))
    rig.leave(script)
    for one in {rig, agni_at}:
        tokens = [delivery["token"] for delivery in one.pushed(agni)]
        if tokens and one is agni_at:
            one.ack(agni, *tokens)
        one.outlet.take()
        one.outlet.take_news()
        one.outlet.announced.clear()


def test_on_one_node(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()
    agni = rig.join("agni")
    rig.attach(agni, window=1024)
    measured: list[dict[str, int]] = []
    for number in range(INSTANCES):
        visit(rig, number, rig, agni, rig.settle)
        if (number + 1) % _AT_A_TIME == 0:
            rig.advance(POLICY.instance_grace_s + 60)
            measured.append(sizes(rig.node))
    before, after = measured[0], measured[-1]
    assert grown(before, after) == {}


def test_on_two_nodes(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")})
    nodes.advance(1.0)
    scripts_at, agni_at = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    agni = agni_at.join("agni")
    agni_at.attach(agni, window=1024)
    measured: list[dict[str, int]] = []
    for number in range(INSTANCES):
        visit(scripts_at, number, agni_at, agni, nodes.settle)
        nodes.settle()
        if (number + 1) % _AT_A_TIME == 0:
            nodes.advance(POLICY.instance_grace_s + 60)
            measured.append(sizes(*(rig.node for rig in nodes.rigs.values())))
    before, after = measured[0], measured[-1]
    assert grown(before, after) == {}
